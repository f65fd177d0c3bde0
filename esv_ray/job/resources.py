"""What an actor takes of a cluster, and how many of them its nodes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

from esv_ray.machine import cores, gpus, memory_per_actor
from esv_ray.spec import JobSpec

Resources = Mapping[str, float]  # of one node, as Ray names them: CPU, GPU, ...


@dataclass(frozen=True)
class ActorShape:
    """What an actor takes.

    Attributes:
        cpus: cores, one a torch thread.
        gpus: share of a GPU, 0 to 1.
    """

    cpus: int
    gpus: float

    @property
    def per_gpu(self) -> int:
        """Actors that a GPU holds; 0 where they take none."""
        return floor(1 / self.gpus + 1e-9) if self.gpus else 0  # 0.1 ten times, though 1 / 0.1 may be less than 10

    @property
    def device(self) -> str:
        """Where it computes."""
        return "cuda" if self.gpus else "cpu"

    def in_words(self) -> str:
        """For a person."""
        gpu = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} core{'s' if self.cpus > 1 else ''}{gpu}"


def shape_of(spec: JobSpec, nodes: Sequence[Resources]) -> ActorShape:
    """What each actor of a job takes on a cluster of such nodes."""
    asked = spec.cluster.gpus_per_actor
    if asked == "auto":
        asked = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    return ActorShape(spec.compute.threads, asked)


def this_machine() -> Resources:
    """The node that this machine is."""
    return {"CPU": cores(), "GPU": gpus()}


def fitting(nodes: Sequence[Resources], shape: ActorShape) -> int:
    """How many actors such nodes hold; a share of a GPU is of one: two actors of 0.6 take two GPUs."""
    return sum(_held_by(node, shape) for node in nodes)


def _held_by(node: Resources, shape: ActorShape) -> int:
    by_cores = int(node.get("CPU", 0)) // shape.cpus
    return min(by_cores, int(node.get("GPU", 0)) * shape.per_gpu) if shape.gpus else by_cores


def memory_here(node: Resources, shape: ActorShape, actors: int | Literal["auto"]) -> int:
    """Bytes that each actor may take on this machine, which is such a node: a function of the machine."""
    sharing = shape.per_gpu if node.get("GPU", 0) else 0  # a job for GPUs may be planned where there is none
    return memory_per_actor(fitting([node], shape) if actors == "auto" else actors, sharing)
