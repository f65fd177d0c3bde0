"""Resources of an actor, and how many actors nodes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

from esv_ray.errors import SpecError
from esv_ray.machine import cores, gpus, memory_per_actor
from esv_ray.spec import ClusterSpec

Resources = Mapping[str, float]
"""Resources of one node by Ray's names: CPU, GPU, ..."""


@dataclass(frozen=True)
class ActorShape:
    """Resources of an actor.

    Attributes:
        cpus: cores, one for each torch thread.
        gpus: share of a GPU, 0 to 1.
    """

    cpus: int
    gpus: float

    @property
    def per_gpu(self) -> int:
        """Actors that share a GPU; 0 if they take none."""
        return floor(1 / self.gpus + 1e-9) if self.gpus else 0  # 0.1 ten times, though 1 / 0.1 may be less than 10

    @property
    def device(self) -> str:
        """Torch device type."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        gpu = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} core{'s' if self.cpus > 1 else ''}{gpu}"


def shape_of(cluster: ClusterSpec, threads: int, nodes: Sequence[Resources]) -> ActorShape:
    """Return the resources of each actor of a job on a cluster of such nodes."""
    share = cluster.gpus_per_actor
    if share == "auto":
        share = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    return ActorShape(threads, share)


def this_machine() -> Resources:
    """Return the resources of this machine."""
    return {"CPU": cores(), "GPU": gpus()}


def capacity(nodes: Sequence[Resources], shape: ActorShape) -> int:
    """Return how many actors nodes hold. A share of a GPU is of a single one: two actors of 0.6 take two GPUs."""
    return sum(_capacity_of(node, shape) for node in nodes)


def _capacity_of(node: Resources, shape: ActorShape) -> int:
    by_cores = int(node.get("CPU", 0)) // shape.cpus
    return min(by_cores, int(node.get("GPU", 0)) * shape.per_gpu) if shape.gpus else by_cores


def memory_here(node: Resources, shape: ActorShape, actors: int | Literal["auto"]) -> int:
    """Return the bytes that each actor may take on this machine, as a node with these resources."""
    sharing = shape.per_gpu if node.get("GPU", 0) else 0  # a job for GPUs may be planned where there is none
    return memory_per_actor(capacity([node], shape) if actors == "auto" else actors, sharing)


def actor_memory(cluster: ClusterSpec, threads: int) -> int:
    """Return the bytes that each actor may take, as if this machine were a node of the cluster."""
    node = this_machine()
    # A node holds as many of a cluster's actors as it has capacity for, however many there are in all.
    remote = cluster.address is not None and cluster.actors != 0
    return memory_here(node, shape_of(cluster, threads, [node]), "auto" if remote else cluster.actors)


def check_cluster(cluster: ClusterSpec, private: Sequence[str]) -> None:
    """Refuse actors that could not read a location, and GPUs that do not exist.

    Args:
        cluster: where the job is to run.
        private: its locations that exist only in the memory of this process.

    Raises:
        SpecError: there are some, or there is no GPU.
    """
    if private and cluster.actors not in ("auto", 0):
        raise SpecError(
            f"{private[0]} exists only in the memory of this process, so actors cannot read it; set cluster.actors "
            "to 0, or use a path or object storage"
        )
    share = cluster.gpus_per_actor
    if share != "auto" and share > 0 and cluster.address is None and not gpus():
        raise SpecError(
            f"cluster.gpus_per_actor: expected 0 or auto, because torch finds no GPU on this machine, got {share:g}; "
            "set it to 0 or auto, or set cluster.address to a cluster with GPUs"
        )
