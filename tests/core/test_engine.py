"""Many videos: their places, their independence, and work within a memory budget."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.exact import plan as module
from esv_ray.core.exact.attribution import attribute
from esv_ray.core.exact.plan import LatticePlan
from esv_ray.core.games.model import VideoModel
from esv_ray.core.lattices.lattice import Lattice
from esv_ray.core.memory import Sizes, default_batch, exact_bytes, index_bytes, largest_fitting
from esv_ray.core.scales import equal_scales
from esv_ray.core.transfer import fetched
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Kind
from tests.conftest import make_model
from tests.support.plans import plan_exact

CPU = torch.device("cpu")


def attributed(
    engine: Engine, sequences: Sequence[Tensor], video_ids: Sequence[str] | None = None
) -> list[tuple[list[int], Attribution]]:
    ids = video_ids or [""] * len(sequences)
    lengths = [len(sequence) for sequence in sequences]
    return list(engine.attributions(lengths, ids, lambda some: torch.stack([sequences[i] for i in some])))


def random_features(batch: int, n: int, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn((batch, n, dim), generator=torch.Generator().manual_seed(seed))


def exact(model: VideoModel, features: Tensor) -> Attribution:
    plan = plan_exact(features.shape[1], scales=model.scales).to(model.device, model.dtype)
    return attribute(model, features, plan)


def test_videos_of_mixed_lengths_keep_their_places() -> None:
    model = make_model()
    lengths = [3, 9, 1, 3, 15, 9, 9]
    sequences = [random_features(1, n, seed=i)[0] for i, n in enumerate(lengths)]
    ids = [f"video {i}" for i in range(len(lengths))]
    estimator = Estimator("algorithm1", m=20, iterations=2, seed=3)
    seen: dict[int, Tensor] = {}
    for indices, found in attributed(Engine(model, estimator, memory_budget=2**30, batch=2), sequences, ids):
        assert len({lengths[index] for index in indices}) == 1
        seen.update(zip(indices, found.esv, strict=True))
    assert sorted(seen) == list(range(len(lengths)))
    for index, sequence in enumerate(sequences):
        (_, alone), *_ = attributed(Engine(model, estimator, memory_budget=2**30), [sequence], [ids[index]])
        assert (alone.esv[0] - seen[index]).abs().max() < 1e-6, "a video's result does not depend on its company"


def test_sampling_errors_of_videos_are_independent() -> None:
    """One plan serves many videos; were its labels shared, the mean over equal videos would keep the error of one."""
    model = make_model(n_max=4)
    features = random_features(1, 12, seed=8)
    truth = exact(model, features).esv[0]
    count = 64
    estimator = Estimator("algorithm1", m=24, iterations=1, seed=0)
    engine = Engine(model, estimator, memory_budget=2**30)
    parts = attributed(engine, [features[0]] * count, [f"copy {i}" for i in range(count)])
    esv = torch.cat([found.esv for _, found in parts])
    one = (esv - truth).pow(2).mean().sqrt()
    mean = (esv.mean(dim=0) - truth).pow(2).mean().sqrt()
    # Independent errors shrink 8-fold but for the bias of Algorithm 1 at small m; shared ones would not shrink at all.
    assert mean < one / 3


# ---------------------------------------------------------------- within a budget


@pytest.mark.parametrize("kind", ["exact", "algorithm1"])
def test_what_does_not_fit_is_refused_with_a_way_out(kind: str) -> None:
    model, n = make_model(), 40 if kind == "exact" else 10**6
    engine = Engine(model, Estimator(kind), memory_budget=2**28)  # type: ignore[arg-type]
    with pytest.raises(SpecError) as caught:
        engine.budget.check(n)
    text = str(caught.value)
    assert f"n = {n} elements" in text
    assert re.search(r"[TP]B of memory, but only 268 MB is available", text)
    assert ("adjusted or auto" if kind == "exact" else "a smaller m") in text
    longest = int(text.partition("largest n that fits is ")[2].partition(":")[0])
    assert 10 < longest < n
    engine.budget.check(longest)
    with pytest.raises(SpecError, match=f"n = {longest + 1} "):
        engine.budget.check(longest + 1)
    with pytest.raises(SpecError, match=f"n = {n} "):
        attributed(engine, [torch.zeros(n, 4)])


@pytest.mark.parametrize(("m", "iterations", "n_bytes"), [(16, 2, 10**6), (64, 1, 10**7), (4, 1, 5 * 10**4)])
def test_the_largest_length_that_fits_is_below_the_refused_one(m: int, iterations: int, n_bytes: int) -> None:
    """Needs of `adjusted` step down where a complete set of subsequences gives way to a sample: longer ones may fit."""
    budget = Engine(make_model(), Estimator("adjusted", m=m, iterations=iterations), memory_budget=n_bytes).budget
    fitting = [n for n in range(1, 60) if budget.fits(n)]
    refused = [n for n in range(1, fitting[-1]) if n not in fitting]
    assert refused, "a case in which needs step down"
    for n in refused:
        with pytest.raises(SpecError, match=rf"n = {n} .*; the largest n below {n} that fits is \d+: ") as caught:
            budget.check(n)
        named = int(str(caught.value).partition("that fits is ")[2].partition(":")[0])
        assert named == max(k for k in fitting if k < n)


def test_no_length_may_fit() -> None:
    budget = Engine(make_model(), Estimator("adjusted", m=16), memory_budget=100).budget
    with pytest.raises(SpecError, match="only 100 B is available; no shorter sequence fits: "):
        budget.check(50)


@pytest.mark.slow
def test_auto_samples_what_does_not_fit() -> None:
    model = random_model(Dimensions(feature_dim=4, hidden=4, n_classes=10000, n_max=4))
    features = random_features(1, 14)[0]
    for budget, expected in ((2**30, True), (25 * 10**7, False)):
        engine = Engine(model, Estimator("auto", m=1500, iterations=1), memory_budget=budget)
        assert engine.budget.kind(14) == ("exact" if expected else "adjusted")
        (_, found), *_ = attributed(engine, [features])
        assert found.exact == expected


def lattice_of(engine: Engine) -> Lattice:
    plan = engine.plan(12)
    assert isinstance(plan, LatticePlan)
    return plan.lattices[0]


@pytest.mark.slow
def test_a_small_budget_makes_small_batches_and_no_stored_indices() -> None:
    model, features = make_model(n_max=4), random_features(12, 12)
    ample = Engine(model, Estimator("exact"), memory_budget=2**30)
    assert ample.batch(12, ample.plan(12)) == default_batch(924, CPU) >= 12
    assert lattice_of(ample).scales[5].parents is not None
    scarce = Engine(model, Estimator("exact"), memory_budget=2**18)
    assert 1 <= scarce.batch(12, scarce.plan(12)) < 12
    assert 4 * index_bytes(12, equal_scales(4)) > 2**18
    assert lattice_of(scarce).scales[5].parents is None
    wanted = exact(model, features).esv
    for engine in (ample, scarce):
        esv = torch.cat([found.esv for _, found in attributed(engine, list(features))])
        assert (esv - wanted).abs().max() < 1e-6


def test_making_indices_anew_changes_no_bit() -> None:
    model, features = make_model(n_max=4), random_features(2, 11)
    kept, made = (
        attribute(model, features, plan_exact(11, scales=equal_scales(4), stored=stored).to(CPU, model.dtype))
        for stored in (True, False)
    )
    assert torch.equal(kept.esv, made.esv)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_out_of_memory_halves_the_batch_and_remembers(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model, sizes = make_model(), []
    real = attribute

    def narrow(model: VideoModel, features: Tensor, *rest: object, **options: object) -> Attribution:
        sizes.append(len(features))
        if len(features) > 3:
            raise error
        return real(model, features, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "attribute", narrow)
    engine = Engine(model, Estimator("exact"), memory_budget=2**30, batch=8)
    features = random_features(10, 6)
    found = attributed(engine, list(features))
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert [index for indices, _ in found for index in indices] == list(range(10))
    wanted = exact(model, features).esv
    assert (torch.cat([part.esv for _, part in found]) - wanted).abs().max() < 1e-6
    sizes.clear()
    attributed(engine, list(features[:4]))
    assert sizes == [2, 2], "what was learned is kept"


def test_other_errors_and_single_videos_out_of_memory_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Attribution:
        raise RuntimeError("index out of range")

    monkeypatch.setattr(module, "attribute", broken)
    engine = Engine(make_model(), Estimator("exact"), memory_budget=2**30)
    with pytest.raises(RuntimeError, match="index out of range"):
        attributed(engine, list(random_features(4, 5)))

    def full(*_: object, **__: object) -> Attribution:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "attribute", full)
    with pytest.raises(torch.OutOfMemoryError):
        attributed(engine, list(random_features(4, 5)))


def test_the_largest_that_fits() -> None:
    for most in (1, 5, 8):
        for budget in range(12):
            assert largest_fitting(lambda n: n, budget, most) == min(budget, most)


PEAK = """
import sys, torch
from pathlib import Path
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.engine import Engine
from esv_ray.estimator import Estimator, Kind

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

torch.set_num_threads(1)
model = random_model(Dimensions(feature_dim=16, hidden=16, n_classes=174, n_max=8))
list(Engine(model, Estimator("exact"), memory_budget=2**33).attributions([6], [""], lambda _: torch.zeros(1, 6, 16)))
before = peak()
n, budget = int(sys.argv[1]), int(sys.argv[2])
engine = Engine(model, Estimator("exact"), memory_budget=budget)
list(engine.attributions([n], [""], lambda _: torch.randn(1, n, 16)))
print(peak() - before, engine.budget._needs(n, "exact"), engine.budget.stored(n))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(("n", "budget", "stored"), [(18, 2**33, True), (19, 150_000_000, False)])
def test_the_estimate_of_memory_is_a_measured_peak(n: int, budget: int, stored: bool) -> None:
    """Never above the estimate by more than what libraries hold, nor the estimate twice the peak."""
    ran = subprocess.run([sys.executable, "-c", PEAK, str(n), str(budget)], capture_output=True, text=True, check=True)
    grown, estimate, kept = ran.stdout.split()
    assert kept == str(stored)
    assert int(grown) <= int(estimate) + 48 * 2**20
    assert int(estimate) <= 2 * int(grown)


def test_estimates_grow() -> None:
    model = make_model(n_max=4)
    sizes = [exact_bytes(Sizes.of(model), n, batch=1, working_set=2**20, stored=False) for n in range(1, 31)]
    assert sizes == sorted(sizes)


# ---------------------------------------------------------------- the device


def test_fetched_is_the_same_on_a_cpu() -> None:
    model, features = make_model(), random_features(5, 6)
    engine = Engine(model, Estimator("exact"), memory_budget=2**30, batch=2)
    plain = attributed(engine, list(features))
    here = list(fetched(attributed(engine, list(features))))
    assert [indices for indices, _ in here] == [indices for indices, _ in plain]
    assert all(torch.equal(a.esv, b.esv) for (_, a), (_, b) in zip(here, plain, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA device")
def test_cuda_waits_for_nothing_within_a_batch_and_agrees_with_the_cpu() -> None:
    sequences = [random_features(1, n, seed=n)[0] for n in (6, 9, 9, 9, 14, 14, 30)]
    ids = [f"video {i}" for i in range(len(sequences))]
    estimator = Estimator("auto", m=64, iterations=2)
    here = Engine(make_model(), estimator, memory_budget=2**30, batch=2)
    there = Engine(make_model().to("cuda"), estimator, memory_budget=2**30, batch=2)
    attributed(there, sequences, ids)  # plans are built
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = attributed(there, sequences, ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (indices, one), (same, other) in zip(fetched(found), attributed(here, sequences, ids), strict=True):
        assert indices == same
        assert one.esv.device.type == "cpu"
        assert (one.esv - other.esv).abs().max() < 1e-5


# ---------------------------------------------------------------- the stop rule


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tolerance"), [("adjusted", 0.15), ("algorithm1", 0.4)])
def test_a_tolerance_is_met_or_said_to_be_missed(kind: Kind, tolerance: float) -> None:
    """Each video stops by itself, at the first doubling that is good enough, and depends on nobody beside it."""
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=4), seed=3)
    features = 2 * random_features(16, 14, dim=6)
    asked = Estimator(kind, m=16, iterations=2, tolerance=tolerance, max_iterations=32)
    told: dict[int, tuple[int, bool, Tensor]] = {}
    engine = Engine(model, asked, memory_budget=2**30, batch=1)
    ids = [str(i) for i in range(16)]
    for indices, found in engine.attributions([14] * 16, ids, lambda some: features[some]):
        assert found.met is not None
        share = found.relative_stderr(torch.nn.functional.one_hot(found.scores.argmax(dim=1), 5).bool())
        for row, index in enumerate(indices):
            told[index] = (found.iterations, bool(found.met[row]), found.esv[row])
            assert bool(found.met[row]) == bool(share[row] <= tolerance)
            assert found.met[row] or found.iterations == 32
    assert sorted(told) == list(range(16))
    assert len({iterations for iterations, _, _ in told.values()}) > 1, "not all need the same"
    for index, (iterations, _, esv) in told.items():
        plain = Engine(model, Estimator(kind, 16, iterations), memory_budget=2**30, batch=1)
        ((_, alone),) = plain.attributions([14], [str(index)], features[index : index + 1].__getitem__)
        assert torch.equal(alone.esv[0], esv)


def test_a_tolerance_of_exact_values_is_met_at_once() -> None:
    engine = Engine(make_model(), Estimator("auto", tolerance=0.01), memory_budget=2**30)
    ((_, found),) = engine.attributions([6, 6], ["a", "b"], lambda some: random_features(2, 6)[some])
    assert found.met is not None
    assert (found.met.tolist(), found.iterations) == ([True, True], 0)


def test_chosen_classes_are_those_that_must_be_met() -> None:
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=4), seed=3)
    features = 2 * random_features(4, 14, dim=6)
    seen = []

    def all_classes(indices: list[int], scores: Tensor) -> Tensor:
        seen.append(indices)
        return torch.ones_like(scores, dtype=torch.bool)

    asked = Estimator("adjusted", m=16, iterations=1, tolerance=0.3, max_iterations=128)
    engine = Engine(model, asked, memory_budget=2**30)
    for _, found in engine.attributions([14] * 4, list("abcd"), lambda some: features[some], all_classes):
        assert found.stderr is not None
        assert found.met is not None
        assert found.met.all()
        assert (found.stderr.mean(dim=1) <= 0.3 * found.esv.abs().mean(dim=1)).all()
    assert seen[0] == [0, 1, 2, 3]
