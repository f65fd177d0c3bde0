"""The read-out of long sequences from the covariance of values, against the one from that of coefficients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.adjusted.attribution import attribute_adjusted
from esv_ray.core.adjusted.build import build_adjusted
from esv_ray.core.adjusted.needs import reads_jointly
from esv_ray.core.adjusted.plan import AdjustedPlan
from esv_ray.core.attribution import Attribution
from esv_ray.core.games.model import VideoModel
from esv_ray.core.memory import Sizes, adjusted_bytes
from esv_ray.core.methods.form import form_for
from esv_ray.core.scales import equal_scales
from esv_ray.core.tensor_fields import tensor_fields
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Estimator
from tests.core.test_adjusted import mean_model
from tests.support.slow import slow_tuples_unless

CPU = torch.device("cpu")
WORKSPACE = Workspace(CPU, torch.float64)


def heads(n_max: int) -> VideoModel:
    return random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=n_max), seed=3)


def features_of(n: int) -> Tensor:
    return 2 * torch.randn((2, n, 6), generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def plan_of(model: VideoModel, n: int, rows: int, *, joint: bool) -> AdjustedPlan:
    return build_adjusted(n, rows=rows, seed=0, scales=model.scales, marginals=True, joint=joint)


def both(model: VideoModel, n: int, rows: int) -> tuple[Attribution, Attribution]:
    model = model.to(dtype=torch.float64)
    features = features_of(n)
    one, other = (
        attribute_adjusted(model, features, plan_of(model, n, rows, joint=joint), marginals=True)
        for joint in (True, False)
    )
    return one, other


@pytest.mark.parametrize(
    ("model", "n", "rows"),
    slow_tuples_unless(
        lambda _, n, rows: (n, rows) in {(49, 20), (60, 20)},
        [
            (heads(8), 49, 20),  # additive
            (heads(3), 60, 20),
            (heads(8), 49, 64),  # pairs and triples of bins
            (mean_model(), 50, 40),
            (heads(2), 25, 300),  # all pairs of elements are evaluated: sizes with contrasts of their own
            (heads(40), 30, 36),  # heads longer than n
        ],
    ),
)
def test_it_is_the_same_regression(model: VideoModel, n: int, rows: int) -> None:
    """To the variance of means, which is 1e4 in one and infinite in the other: values are centered by their mean.

    Standard errors are means over elements here; `readout` has them for each, within a few percent of each other.
    """
    joint, each = both(model, n, rows)
    scale = each.esv.abs().mean()
    assert (joint.esv - each.esv).abs().max() < 2e-4 * scale
    assert (joint.scores - each.scores).abs().max() < 1e-6
    assert joint.marginals is not None
    assert each.marginals is not None
    assert (joint.marginals - each.marginals).abs().max() < 2e-3 * each.marginals.abs().mean()
    assert (joint.marginals.mean(dim=1) - joint.esv).abs().max() < 1e-12
    assert joint.stderr is not None
    assert each.stderr is not None
    assert (joint.stderr / each.stderr).mean() == pytest.approx(1, abs=0.03)
    assert joint.gaps.max() < 1e-12


def test_float32_is_enough() -> None:
    model = heads(8)
    plan = plan_of(model.to(dtype=torch.float64), 80, 33, joint=True)
    features = features_of(80)
    wanted = attribute_adjusted(model, features, plan).esv
    found = attribute_adjusted(model.to(dtype=torch.float32), features.float(), plan.to(CPU, torch.float32))
    assert (found.esv - wanted).abs().max() < 2e-5 * wanted.abs().mean()
    assert found.gaps.max() < 1e-6


def test_it_comes_back_from_its_tensors() -> None:
    plan = plan_of(heads(4), 40, 20, joint=True)
    again = AdjustedPlan.from_tensors(plan.tensors())
    assert again.nbytes() == plan.nbytes()
    model, features = heads(4), features_of(40).float()
    one, other = (attribute_adjusted(model, features, p.to(CPU, torch.float32)) for p in (plan, again))
    assert torch.equal(one.esv, other.esv)
    assert one.stderr is not None
    assert other.stderr is not None
    assert torch.equal(one.stderr, other.stderr)


@pytest.mark.slow
def test_forms_have_the_scores_of_attributions() -> None:
    model, n = heads(4).to(dtype=torch.float64), 220
    estimator = Estimator("adjusted", m=36, iterations=1)
    assert reads_jointly(n, 36, model.scales)
    form = form_for(estimator, n, scales=model.scales, dtype=torch.float64, device=CPU)
    assert isinstance(form.plan, AdjustedPlan)
    features = features_of(n)
    scores = attribute_adjusted(model, features, form.plan).scores
    total = torch.zeros((2, 5), dtype=torch.float64)
    for term in form.iterations[0]:
        assert term.whole is not None
        prepared = model.scorer.prepare(features.transpose(0, 1).contiguous(), term.elements.shape[1], WORKSPACE)
        out = torch.empty((len(term.elements), 2, model.scorer.columns(5)), dtype=torch.float64)
        model.scorer.scores(prepared, term.elements[:, None], out[:0, 0], out)
        total += torch.tensordot(term.whole.double(), out[..., :5], dims=1)
    assert (total.softmax(dim=1) - scores).abs().max() < 1e-9


def test_plans_grow_linearly() -> None:
    """Twice the elements: twice the memberships, and the same matrices but for a few more sizes."""
    short, long = (build_adjusted(n, rows=8, seed=0, scales=equal_scales(3)) for n in (1000, 2000))
    assert short.joint is not None
    assert long.joint is not None
    assert long.nbytes() < 2.3 * short.nbytes()
    assert max(tensor.numel() for size in long.sizes for tensor in tensor_fields(size).values()) < 20 * 2000


@pytest.mark.slow
def test_the_bound_covers_the_plan_and_is_linear() -> None:
    model = heads(8)
    sizes = Sizes.of(model)
    needs = {n: adjusted_bytes(sizes, n, rows=64, batch=1, working_set=2**21) for n in (1000, 10_000, 100_000)}
    assert needs[100_000] < 10 * needs[10_000] < 100 * needs[1000]
    assert needs[10_000] < 3e9
    plan = build_adjusted(300, rows=34, seed=0, scales=equal_scales(8))
    assert plan.joint is not None
    assert plan.nbytes() < adjusted_bytes(sizes, 300, rows=34, batch=1, working_set=2**21)
