"""Marginal contributions of each scale: brute force over all subsequences, and laws, for every estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import comb

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from esv_ray.bench.made_up import World, made_up_videos, write_made_up
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.adjusted.attribution import attribute_adjusted
from esv_ray.core.adjusted.build import build_adjusted, sizes_of
from esv_ray.core.adjusted.marginals import operator_sizes
from esv_ray.core.adjusted.plan import AdjustedPlan
from esv_ray.core.attribution import Attribution, Extras
from esv_ray.core.cost import plan_cost
from esv_ray.core.engine import Engine
from esv_ray.core.exact.attribution import attribute
from esv_ray.core.games.model import VideoModel, characteristic_game, multiscale_model, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.core.lattices.lattice import Lattice
from esv_ray.core.logit.plan import LogitPlan, build_logit
from esv_ray.core.recipe import recipe_for
from esv_ray.core.regression.design import nodes, quadrature
from esv_ray.core.regression.interactions import Interactions, interactions
from esv_ray.core.scales import Scales, equal_scales
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.models.bundle import load_model
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train
from tests.conftest import make_heads, make_model, make_prior
from tests.support.oracle import Game, marginals_by_scale, module_game, multiscale_game
from tests.support.plans import lattice_from_subsequences, plan_algorithm1, plan_exact, plan_from_lattices
from tests.support.slow import slow_unless
from tests.support.weighted_heads import CASES, PRIOR, D, model_of, value_of

CPU = torch.device("cpu")
MARGINALS = Extras(marginals=True)
KINDS: list[Kind] = ["exact", "algorithm1", "adjusted"]
OUTPUTS: list[Output] = ["probability", "logit"]


class Recurrent(torch.nn.Module):
    """Takes any length, and sees the order of elements."""

    def __init__(self) -> None:
        super().__init__()
        state = torch.random.get_rng_state()
        torch.manual_seed(5)
        self.inner, self.outer = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 3)
        torch.random.set_rng_state(state)

    def forward(self, subsequences: Tensor) -> Tensor:
        return self.outer(4 * self.inner(subsequences)[0][:, -1])  # type: ignore[no-any-return]


def features_of(videos: int, n: int, dim: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(videos * 1000 + n)
    return (2 * torch.randn((videos, n, dim), generator=generator, dtype=torch.float64)).to(dtype)


def run(
    model: VideoModel,
    features: Tensor,
    kind: Kind = "exact",
    *,
    m: int = 64,
    iterations: int = 1,
    output: Output = "probability",
    extras: Extras = MARGINALS,
    batch: int | None = None,
) -> Attribution:
    """All videos, in their order, in one result."""
    estimator = Estimator(kind, m, iterations, output=output)
    engine = Engine(model, estimator, memory_budget=2**32, batch=batch, extras=extras)
    count, n, _ = features.shape
    ids = [f"video {index}" for index in range(count)]
    parts = [found for _, found in engine.attributions([n] * count, ids, lambda some: features[some])]
    marginals = [part.marginals for part in parts if part.marginals is not None]
    return replace(
        parts[0],
        esv=torch.cat([part.esv for part in parts]),
        scores=torch.cat([part.scores for part in parts]),
        marginals=torch.cat(marginals) if marginals else None,
        spread=None,
    )


def marginals_of(found: Attribution) -> Tensor:
    assert found.marginals is not None
    return found.marginals


def check_law(found: Attribution, atol: float) -> None:
    """The mean over the scales that say something is the ESV."""
    assert found.marginals is not None
    batch, n, classes = found.esv.shape
    assert found.marginals.shape == (batch, n, n, classes)
    assert (found.marginals.nanmean(dim=1) - found.esv).abs().max() <= atol


# --- brute force


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("n", slow_unless(lambda n: n < 6, [1, 2, 3, 6]))
def test_heads_are_brute_force(case: str, output: Output, n: int) -> None:
    """Missing heads, weights, sums; fewer elements than the longest head, and more."""
    weights, combine = CASES[case]
    features = features_of(2, n, D, torch.float64)

    def game(video: int) -> Game:
        def value(x: tuple[int, ...]) -> npt.NDArray[np.float64]:
            return np.asarray(value_of(features[video][list(x)], weights, combine, output))

        return value

    expected = np.stack([marginals_by_scale(game(video), n) for video in range(2)])
    for plain in (False, True):
        found = run(model_of(weights, combine, plain=plain), features, output=output)
        np.testing.assert_allclose(marginals_of(found), expected, rtol=0, atol=1e-12)
        check_law(found, 1e-12)


def average(over: str = "logits") -> VideoModel:
    weight = torch.randn((3, 4), generator=torch.Generator().manual_seed(1))
    return VideoModel(Average(weight, torch.ones(3), input_relu=True, over=over), make_prior(3), 4)  # type: ignore[arg-type]


def average_game(model: VideoModel, features: Tensor, output: Output) -> Game:
    assert isinstance(model.scorer, Average)
    logits = features.relu().double() @ model.scorer.weight.double().T + model.scorer.bias.double()
    over, empty = model.scorer.scales is None, model.empty_value(output).numpy()

    def value(x: tuple[int, ...]) -> npt.NDArray[np.float64]:
        if not x:
            return np.asarray(empty)
        some = logits[list(x)]
        if not over:
            return np.asarray(some.softmax(dim=1).mean(dim=0))
        return np.asarray(some.mean(dim=0).softmax(dim=0) if output == "probability" else some.mean(dim=0))

    return value


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_models_are_brute_force(n: int, dtype: torch.dtype) -> None:
    features, atol = features_of(2, n, dtype=dtype), 2e-6 if dtype == torch.float32 else 1e-12
    module, heads = Recurrent().to(dtype).eval(), {s: head.to(dtype) for s, head in make_heads().items()}
    cases: list[tuple[VideoModel, Output, Callable[[Tensor], Game]]] = []
    for output in OUTPUTS:
        logits = output == "logit"
        cases += [
            (
                variable_length_model(module, make_prior(3), feature_dim=4),
                output,
                lambda video, logits=logits: module_game(module, video, make_prior(3), logits=logits),  # type: ignore[misc]
            ),
            (
                multiscale_model(heads, make_prior(3), feature_dim=4),
                output,
                lambda video, logits=logits: multiscale_game(heads, video, make_prior(3), logits=logits),  # type: ignore[misc]
            ),
            (average().to(dtype=dtype), output, lambda video, o=output: average_game(average(), video, o)),  # type: ignore[misc]
        ]
    probabilities = average("probabilities").to(dtype=dtype)
    cases.append((probabilities, "probability", lambda video: average_game(probabilities, video, "probability")))
    for model, output, game in cases:
        found = run(model, features, output=output)
        assert marginals_of(found).dtype == dtype
        for video in range(2):
            expected = marginals_by_scale(game(features[video]), n)
            np.testing.assert_allclose(marginals_of(found)[video], expected, rtol=0, atol=atol)


def test_a_known_game() -> None:
    """Elements that add numbers: each marginal is the element's own, at every scale."""
    numbers = torch.tensor([0.5, -1.0, 2.0, 0.0, 3.0])
    game = characteristic_game(lambda positions: numbers[positions].sum(dim=1, keepdim=True), torch.zeros(1))
    for plan in (plan_exact(5, scales=None), plan_algorithm1(5, m=3, iterations=1, seed=0, scales=None)):
        found = attribute(game, torch.zeros((1, 5, 1)), plan.to(CPU, torch.float32), extras=MARGINALS)
        check_law(found, 1e-5)
        if plan.exact:
            wanted = numbers.expand(1, 5, 5)
            assert (marginals_of(found)[..., 0] - wanted).abs().max() < 1e-5


# --- laws


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 9, 12, 30])
def test_their_mean_is_the_esv_whatever_is_sampled(kind: Kind, n: int, output: Output) -> None:
    """Relabelled videos, sizes left out (n = 12 and 30), any model; ESVs have the same bits as without marginals."""
    models = (make_model(n_max=4), variable_length_model(Recurrent(), make_prior(3), feature_dim=4), average())
    features = features_of(3, n)
    for model in models:
        if kind == "exact" and n > 12:
            continue
        found = run(model, features, kind, m=20, iterations=2, output=output)
        assert found.exact == (kind == "exact" or n <= 3)
        check_law(found, 1e-6 if output == "probability" else 2e-5)
        plain = run(model, features, kind, m=20, iterations=2, output=output, extras=Extras())
        assert plain.marginals is None
        assert torch.equal(plain.esv, found.esv)
        assert torch.equal(plain.scores, found.scores)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("case", ["TRN of four", "gap", "gap, sum", "one head"])
def test_their_mean_is_the_esv_with_missing_heads(case: str, output: Output, kind: Kind) -> None:
    weights, combine = CASES[case]
    model = model_of(weights, combine)
    for n in (max(weights), 11):
        found = run(model, features_of(2, n, D, torch.float64), kind, m=25, iterations=2, output=output)
        check_law(found, 1e-10)
        before = min(weights) - 1  # scales without a value of their own
        assert (marginals_of(found)[:, :before].abs() < 1e-12).all()


def test_shorter_than_every_head_they_are_zero() -> None:
    model = model_of({7: 1.0}, "sum")
    for output in OUTPUTS:
        found = run(model, features_of(2, 5, D, torch.float64), output=output)
        assert marginals_of(found).shape == (2, 5, 5, len(PRIOR))
        assert not marginals_of(found).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_batches_change_rounding_only(kind: Kind, output: Output) -> None:
    """Videos keep their places and relabellings."""
    model, features = make_model(n_max=4), features_of(5, 9)
    together = marginals_of(run(model, features, kind, m=30, output=output, batch=5))
    alone = marginals_of(run(model, features, kind, m=30, output=output, batch=1))
    assert torch.equal(together.isnan(), alone.isnan())
    assert (together - alone).nan_to_num().abs().max() < 1e-5
    part = run(model, features, kind, m=30, output=output, batch=5).take(torch.tensor([3, 1]))
    assert torch.equal(marginals_of(part).nan_to_num(), together[[3, 1]].nan_to_num())


def test_scales_that_say_nothing_are_nan() -> None:
    """A scale whose subsequences all hold an element, or whose parents do, tells nothing of what it adds."""

    def value(positions: Tensor) -> Tensor:
        return (positions.sum(dim=1, keepdim=True) ** 2).float()

    game, features = characteristic_game(value, torch.zeros(1)), torch.zeros((1, 3, 1))

    def attributed(*lattices: Lattice) -> Tensor:
        found = attribute(game, features, plan_from_lattices(lattices).to(CPU, torch.float32), extras=MARGINALS)
        check_law(found, 1e-5)
        return marginals_of(found)[0, :, :, 0]

    singles = [[0], [1], [2]]
    first = lattice_from_subsequences(3, [singles, [[0, 1], [0, 2]], [[0, 1, 2]]])
    second = lattice_from_subsequences(3, [singles, [[1, 2]], [[0, 1, 2]]])
    alone = attributed(first)
    assert alone.isnan().tolist() == [[False] * 3, [False] * 3, [True, False, False]]
    assert alone[1].tolist() == pytest.approx([(1 + 4) / 2 - (1 + 4) / 2, 1 - (0 + 4) / 2, 4 - (0 + 1) / 2], abs=1e-6)
    assert alone[2, 1:].tolist() == pytest.approx([9 - 4, 9 - 1])
    pooled = attributed(first, second)
    assert not pooled.isnan().any()
    full = attribute(game, features, plan_exact(3, scales=None).to(CPU, torch.float32), extras=MARGINALS)
    assert (pooled - marginals_of(full)[0, :, :, 0]).abs().max() < 1e-5, "together they hold every subsequence equally"


def test_a_class_that_is_nearly_sure() -> None:
    """Baselines are taken off the values and put back: thousands of values near one would round in one direction."""
    heads = make_heads(gain=6.0, n_max=3)
    for head in heads.values():
        last = head.linears[-1]
        assert isinstance(last, torch.nn.Linear)
        with torch.no_grad():
            last.bias.add_(torch.tensor([9.0, 0.0, 0.0]))
    features = features_of(1, 14)
    single = run(multiscale_model(heads, make_prior(3), feature_dim=4), features)
    check_law(single, 1e-6)
    double = multiscale_model({s: head.double() for s, head in heads.items()}, make_prior(3), feature_dim=4)
    wanted = marginals_of(run(double, features.double()))
    assert (marginals_of(single) - wanted).abs().max() < 2e-6


# --- sampled


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_with_every_subsequence_the_adjusted_estimator_is_exact(n: int) -> None:
    """The operators themselves, for models that score every size; the engine would take the exact plan."""
    model, features = variable_length_model(Recurrent(), make_prior(3), feature_dim=4), features_of(3, n)
    plan = build_adjusted(n, rows=10**6, seed=0, scales=None, marginals=True).to(CPU, model.dtype)
    found = attribute_adjusted(model, features, plan, marginals=True)
    assert (marginals_of(found) - marginals_of(run(model, features))).abs().max() < 1e-6


@pytest.mark.parametrize("output", OUTPUTS)
def test_nearly_everything_is_nearly_exact(output: Output) -> None:
    """At n = 11 with m = 461 each of the largest sizes misses one subsequence of 462."""
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=5), seed=3)
    features = features_of(3, 11, 6)
    wanted = marginals_of(run(model, features, output=output))
    found = run(model, features, "adjusted", m=461, output=output)
    assert not found.exact
    error = (marginals_of(found) - wanted).abs().mean() / wanted.abs().mean()
    assert error < 0.01


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoModel, Tensor]:
    """Heads trained to tell the order of events, and other videos of 14 elements."""
    folder = tmp_path_factory.mktemp("trained")
    world = World(feature_dim=16, n_classes=6, events=3, frames=(16, 24))
    write_made_up(folder / "train.parquet", world, 240, seed=1)
    keys = {"features": str(folder / "train.parquet"), "output": str(folder / "model"), "n_max": 4, "hidden": 32}
    train(load_train_spec({**keys, "epochs": 15, "learning_rate": 0.01, "batch": 32, "threads": 1}))
    videos = [np.asarray(frames, dtype=np.float32)[:14] for _, _, frames in made_up_videos(world, 12, seed=2)]
    assert pq.read_metadata(folder / "train.parquet").num_rows == 240
    return load_model(str(folder / "model")), torch.from_numpy(np.stack(videos))


@pytest.mark.parametrize(
    ("n", "m", "most"), [(12, 64, 0.13), (12, 256, 0.02), (14, 64, 0.16), (14, 256, 0.04), (14, 1024, 0.004)]
)
def test_adjusted_marginals_are_near_exact_ones(
    trained: tuple[VideoModel, Tensor], n: int, m: int, most: float
) -> None:
    """Mean error over mean |marginal|: 6.3, 0.9, 8.0, 1.7 and 0.12 % (ESVs: 4.8, 0.8, 6.3, 1.4 and 0.08 %).

    Algorithm 1's at n = 14: 69, 26 and 5.1 %.
    """
    model, videos = trained
    exact, found = run(model, videos[:, :n]), run(model, videos[:, :n], "adjusted", m=m)
    assert not found.exact
    wanted = marginals_of(exact)
    error = float((marginals_of(found) - wanted).abs().mean() / wanted.abs().mean())
    assert error < most


@pytest.mark.parametrize("output", OUTPUTS)
def test_sampled_marginals_in_logits_have_no_bias(output: Output) -> None:
    """Over 2,000 relabellings of one video; z of 7 x 7 x 4 means, of values that are linear in the heads."""
    if output == "probability":
        model = average("probabilities").to(dtype=torch.float64)
        one = features_of(1, 7, dtype=torch.float64)
    else:
        model, one = model_of({1: 1.0, 3: 2.0}, "mean"), features_of(1, 7, D, torch.float64)
    wanted = marginals_of(run(model, one, output=output))
    found = run(model, one.expand(2000, -1, -1), "adjusted", m=8, output=output)
    marginals = marginals_of(found)
    z = (marginals.mean(dim=0) - wanted[0]) / (marginals.std(dim=0) / 2000**0.5 + 1e-12)
    assert z.abs().max() < 5.5


# --- plans


@pytest.mark.parametrize(
    "scales", [equal_scales(4), Scales((0, 0, 2, 0, 1), "sum"), None], ids=["1-4", "3 and 5", "any"]
)
@pytest.mark.parametrize(("n", "rows"), [(1, 4), (2, 1), (9, 30), (16, 40), (26, 30), (60, 600)])
def test_a_plan_is_the_same_with_and_without(n: int, rows: int, scales: Scales | None) -> None:
    """All tensors but those of marginals, which come back from storage, and have the size foreseen."""
    plain = build_adjusted(n, rows=rows, seed=1, scales=scales).tensors()
    plan = build_adjusted(n, rows=rows, seed=1, scales=scales, marginals=True)
    tensors = plan.tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in plain.items())
    added = {name: tensor for name, tensor in tensors.items() if name not in plain}
    numbers = sum(tensor.numel() for name, tensor in added.items() if name not in ("mixes", "ends"))
    sizes = operator_sizes(n, rows, sizes_of(n, scales))
    assert numbers == sizes.numbers
    again = AdjustedPlan.from_tensors(tensors).tensors()
    assert again.keys() == tensors.keys()
    cost = plan_cost(Estimator("adjusted", rows, 1), "adjusted", n, scales, marginals=True)
    without = plan_cost(Estimator("adjusted", rows, 1), "adjusted", n, scales)
    if cost.evaluations:
        assert cost.marginal_products == sizes.products
    assert without.marginal_products == 0
    assert without.plan_s <= cost.plan_s


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 26])
def test_both_forms_of_the_read_out_agree(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row an estimate, or a filter and smoother over sizes: the same estimates, in float32 too."""
    model, features = make_model(n_max=4), features_of(3, n)
    plans = []
    for chained in (False, True):
        monkeypatch.setattr("esv_ray.core.regression.estimates.is_chained", lambda *_, chained=chained: chained)
        plans.append(build_adjusted(n, rows=60, seed=1, scales=model.scales, marginals=True))
    assert [plan.sizes[0].link is not None for plan in plans] == [False, True]
    for dtype, atol in ((torch.float64, 1e-10), (torch.float32, 2e-6)):
        own = make_model(n_max=4).to(dtype=dtype)
        one, other = (
            marginals_of(attribute_adjusted(own, features.to(dtype), plan.to(CPU, dtype), marginals=True))
            for plan in plans
        )
        assert (one - other).abs().max() < atol


def test_cached_plans_without_marginals_keep_their_names() -> None:
    estimator = Estimator("adjusted", 50, 2, 5)
    plain, more = (recipe_for(estimator, 30, scales=equal_scales(2), marginals=asked) for asked in (False, True))
    assert plain != more
    assert f"{plain}" != f"{more}"
    assert f"{plain}".endswith("sampling=(50, 2, 5), closed=False)"), "as it was before there were marginals"
    exact = [recipe_for(Estimator("exact"), 9, scales=None, marginals=asked) for asked in (False, True)]
    assert exact[0] == exact[1], "a lattice gives marginals without operators of their own"


def test_plans_without_marginals_refuse_them() -> None:
    model, features = make_model(n_max=4), features_of(1, 12)
    plan = build_adjusted(12, rows=20, seed=0, scales=model.scales).to(CPU, torch.float32)
    with pytest.raises(ValueError, match="the plan was built without them"):
        attribute_adjusted(model, features, plan, marginals=True)
    logits: LogitPlan = build_logit(12, rows=20, seed=0, scales=model.scales).to(CPU, torch.float32)
    with pytest.raises(ValueError, match="the plan was built without them"):
        logits.apply(
            model,
            features,
            output="logit",
            relabelling=None,
            workspace=None,  # type: ignore[arg-type]
            extras=MARGINALS,
        )
    kept = build_logit(12, rows=20, seed=0, scales=model.scales, marginals=True)
    again = LogitPlan.from_tensors(kept.tensors())
    assert again.tensors().keys() == kept.tensors().keys()


def test_interpolation_sums_to_the_quadrature_and_means_are_those_of_all_subsequences() -> None:
    weights = quadrature(14, nodes(14), smooth_from=4)
    assert weights.sum() == pytest.approx(13)
    for order in (1, 2, 3):
        features: Interactions = interactions(6, order, bins=4)
        for k in range(1, 6):
            member = np.array([[bit >> i & 1 for i in range(6)] for bit in range(64) if bit.bit_count() == k], float)
            assert len(member) == comb(6, k)
            wanted = features.features(member, k).mean(axis=0)
            np.testing.assert_allclose(features.means(k), wanted, rtol=0, atol=1e-12)


# --- memory


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("kind", "n"), [("exact", 8), ("algorithm1", 60), ("adjusted", 60)])
def test_marginals_count_in_the_budget(kind: Kind, n: int, output: Output) -> None:
    """A batch is smaller, or a length refused, where marginals take the memory."""
    model = random_model(Dimensions(feature_dim=4, hidden=8, n_classes=400, n_max=3), seed=1)
    estimator = Estimator(kind, 32, 1, output=output)
    plain, more = (
        Engine(model, estimator, memory_budget=2**28, extras=Extras(marginals=asked)).budget for asked in (False, True)
    )
    for batch in (1, 4):
        added = more.needed_bytes(n, batch) - plain.needed_bytes(n, batch)
        assert added >= 2 * batch * n * n * 400 * 4
    assert more.largest_batch(n, 64) <= plain.largest_batch(n, 64)
    if kind != "exact":
        with pytest.raises(SpecError, match="largest n that fits"):
            more.check(300)
        plain.check(300)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA device")
def test_cuda_agrees_with_the_cpu() -> None:
    for n in (10, 30):
        features = features_of(3, n)
        for output in OUTPUTS:
            for kind in KINDS:
                if n > 10 and kind == "exact":
                    continue
                here = marginals_of(run(make_model(n_max=4), features, kind, output=output))
                there = marginals_of(run(make_model(n_max=4).to("cuda"), features.cuda(), kind, output=output)).cpu()
                assert torch.equal(here.isnan(), there.isnan())
                assert (here - there).nan_to_num().abs().max() < 2e-5
