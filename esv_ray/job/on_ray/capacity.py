"""The room that the nodes of a running Ray cluster have for a job's actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from esv_ray.errors import JobError, one_line
from esv_ray.job.resources import ActorShape, Resources, fitting, memory_here, shape_of
from esv_ray.spec import JobSpec

_LOOK_EVERY_S = 5.0


def budget_on_cluster(spec: JobSpec, waiting: Callable[[str], None]) -> int:
    """The memory budget of a job by the first node that has room for one of its actors, in the runtime that is there.

    The driver's own machine may be another: a head without a GPU, say. It waits as an actor would, without a bound
    and so that an autoscaler brings a node for it.

    Args:
        spec: the job.
        waiting: told every few seconds what is waited for, if it takes so long.

    Raises:
        JobError: the nodes cannot say.
    """
    shape = shape_of(spec, nodes())
    asked = ray.remote(_memory_on_node).options(**options_of(shape), max_retries=3).remote(shape)
    while not ray.wait([asked], timeout=_LOOK_EVERY_S)[0]:
        there = nodes()
        waiting(
            f"room for an actor ({shape.in_words()}) that others hold"
            if fitting(there, shape)
            else lacking(there, shape)
        )
    try:
        return int(ray.get(asked))
    except RayError as error:
        raise JobError(f"cluster.address {spec.cluster.address}: {one_line(error)}") from error


def _memory_on_node(shape: ActorShape) -> int:
    here = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)  # type: ignore[no-untyped-call]
    return memory_here(resources, shape, "auto")


def options_of(shape: ActorShape) -> dict[str, Any]:
    """Ray's options of an actor of a shape: one after the other on different nodes, as long as those have room."""
    return {"num_cpus": shape.cpus, "num_gpus": shape.gpus, "scheduling_strategy": "SPREAD"}


def nodes() -> list[Resources]:
    """What each node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def lacking(now: Sequence[Resources], shape: ActorShape) -> str:
    """What is lacking on a cluster without room for an actor."""
    cpus = max((int(node.get("CPU", 0)) for node in now), default=0)
    gpus = max((int(node.get("GPU", 0)) for node in now), default=0)
    return f"a node with {shape.in_words()} (nodes now: {len(now)}, of at most {cpus} cores and {gpus} GPUs)"
