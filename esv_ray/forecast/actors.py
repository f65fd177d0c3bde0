"""How many actors a job of any kind has, and how many of them work at a time."""

from __future__ import annotations

from esv_ray.forecast.records import Actors
from esv_ray.job.resources import capacity, shape_of, this_machine
from esv_ray.spec import ClusterSpec


def actors_of(cluster: ClusterSpec, threads: int, units: int, *, local: bool) -> Actors:
    """Return the actors of a job.

    Args:
        cluster: where it runs.
        threads: of an actor.
        units: that are left.
        local: whether it runs in one process, without Ray.
    """
    node, requested = this_machine(), cluster.actors
    shape = shape_of(cluster, threads, [node])
    most = max(1, capacity([node], shape))
    count = 1 if local else most if requested == "auto" else requested
    working = max(1, min(count, units))
    concurrent = working if cluster.address is not None else min(working, most)
    device = shape.device if node["GPU"] else "cpu"  # what is measured is measured on this machine
    return Actors(count, working, concurrent, device, shape.cpus, not local)
