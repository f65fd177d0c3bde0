"""Jobs on Ray: the scheduler, the worker of a unit, the driver. The only rooms that import ray."""
