"""What an actor takes, and how many of them nodes hold: plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.attribution.planning import check_job
from esv_ray.errors import SpecError
from esv_ray.job import resources
from esv_ray.job.resources import ActorShape, capacity, memory_here, shape_of
from esv_ray.machine import gpus
from esv_ray.spec import ClusterSpec, load_spec

HEAD = {"CPU": 0.0, "memory": 1e9}
SMALL = {"CPU": 4.0}
GPUS = {"CPU": 16.0, "GPU": 8.0}


def asked(*overrides: str) -> tuple[ClusterSpec, int]:
    spec = load_spec({"features": "f", "model": "m", "output": "o"}, overrides)
    return spec.cluster, spec.compute.threads


def test_one_actor_a_gpu_where_there_is_any() -> None:
    assert shape_of(*asked(), [HEAD, SMALL, GPUS]) == ActorShape(1, 1.0)
    assert capacity([HEAD, SMALL, GPUS], ActorShape(1, 1.0)) == 8
    assert capacity([GPUS], ActorShape(4, 1.0)) == 4, "four cores each"
    assert shape_of(*asked(), [HEAD, SMALL]) == ActorShape(1, 0.0)


def test_otherwise_one_for_so_many_cores_as_it_has_threads() -> None:
    assert capacity([HEAD, SMALL, GPUS], shape_of(*asked("compute.threads=3"), [HEAD, SMALL])) == 1 + 5
    assert capacity([HEAD, SMALL], ActorShape(8, 0.0)) == 0


@pytest.mark.parametrize(("share", "each"), [(1.0, 1), (0.6, 1), (0.5, 2), (1 / 3, 3), (0.1, 10), (0.3, 3)])
def test_actors_share_a_gpu(share: float, each: int) -> None:
    shape = shape_of(*asked(f"cluster.gpus_per_actor={share}"), [GPUS])
    assert (shape.per_gpu, shape.device) == (each, "cuda")
    assert capacity([{"CPU": 100.0, "GPU": 3.0}], shape) == 3 * each


def test_asked_for_gpus_are_waited_for_and_unasked_ones_left_alone() -> None:
    assert shape_of(*asked("cluster.gpus_per_actor=1"), [HEAD]).device == "cuda", "an autoscaler may bring them"
    assert shape_of(*asked("cluster.gpus_per_actor=0"), [GPUS]).device == "cpu"
    assert capacity([GPUS], ActorShape(1, 0.0)) == 16


@given(
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 64), "GPU": st.integers(0, 8)}), max_size=5),
    st.integers(1, 9),
    st.floats(0.01, 1),
)
def test_no_node_holds_more_than_it_has(nodes: list[dict[str, int]], cpus: int, share: float) -> None:
    shape = ActorShape(cpus, share)
    held = [capacity([node], shape) for node in nodes]
    assert capacity(nodes, shape) == sum(held)
    for node, actors in zip(nodes, held, strict=True):
        assert actors * cpus <= node["CPU"]
        assert actors * share <= node["GPU"] * (1 + 1e-6)


def test_memory_is_shared_by_the_actors_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def told(actors: int, per_gpu: int) -> int:
        asked.append((actors, per_gpu))
        return 1

    monkeypatch.setattr(resources, "memory_per_actor", told)
    memory_here(SMALL, ActorShape(2, 0.0), "auto")
    memory_here(SMALL, ActorShape(1, 0.0), 3)
    memory_here(GPUS, ActorShape(1, 0.5), "auto")
    memory_here(SMALL, ActorShape(1, 0.5), "auto")
    assert asked == [(2, 0), (3, 0), (16, 2), (0, 0)]


def test_a_gpu_asked_of_a_machine_without_one(features: str, bundle: str, tmp_path: Path) -> None:
    job = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "out")})
    job = job.model_copy(update={"cluster": job.cluster.model_copy(update={"gpus_per_actor": 0.5})})
    if gpus():
        check_job(job)
        return
    with pytest.raises(SpecError, match=r"cluster\.gpus_per_actor: expected 0 or auto, .* got 0\.5"):
        check_job(job)
