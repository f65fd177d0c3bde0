"""Capacity of the nodes of a running Ray cluster for a job's actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from esv_ray.errors import JobError, one_line
from esv_ray.job.resources import ActorShape, Resources, capacity, memory_here, shape_of
from esv_ray.spec import ClusterSpec

_LOOK_EVERY_S = 5.0


def memory_on_cluster(cluster: ClusterSpec, threads: int, wait_for: Callable[[str], None]) -> int:
    """Return the bytes that each actor may take, measured on the first node with capacity for an actor.

    The driver's own machine may differ from the nodes: a head without a GPU, for example. This waits as an actor would:
    without a limit, and so that an autoscaler adds a node.

    Args:
        cluster: where the job runs; a runtime is connected.
        threads: torch threads of an actor.
        wait_for: called every few seconds with what is missing, while this waits.

    Raises:
        JobError: the nodes cannot answer.
    """
    shape = shape_of(cluster, threads, nodes())
    answer = ray.remote(_memory_on_node).options(**options_of(shape), max_retries=3).remote(shape)
    while not ray.wait([answer], timeout=_LOOK_EVERY_S)[0]:
        alive = nodes()
        busy = capacity(alive, shape) > 0
        wait_for(f"resources for an actor ({shape}); other jobs are using them" if busy else missing_node(alive, shape))
    try:
        return int(ray.get(answer))
    except RayError as error:
        raise JobError(f"cluster.address {cluster.address}: {one_line(error)}") from error


def _memory_on_node(shape: ActorShape) -> int:
    driver_node = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == driver_node)  # type: ignore[no-untyped-call]
    return memory_here(resources, shape, "auto")


def options_of(shape: ActorShape) -> dict[str, Any]:
    """Return Ray's options for an actor of this shape: actors are spread over nodes with capacity."""
    return {"num_cpus": shape.cpus, "num_gpus": shape.gpus, "scheduling_strategy": "SPREAD"}


def nodes() -> list[Resources]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def missing_node(alive: Sequence[Resources], shape: ActorShape) -> str:
    """Describe the node that a cluster without capacity for an actor lacks."""
    cpus = max((int(node.get("CPU", 0)) for node in alive), default=0)
    gpus = max((int(node.get("GPU", 0)) for node in alive), default=0)
    return f"a node with {shape} (nodes now: {len(alive)}, of at most {cpus} cores and {gpus} GPUs)"
