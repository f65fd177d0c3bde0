"""Integrated gradients, Grad-CAM, occlusion and random: their laws, closed forms and brute force."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.games.model import VideoModel, characteristic_game, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.core.methods.attribution import MethodResult, attribute_method
from esv_ray.core.methods.score import ScoreFunction, score_function
from esv_ray.errors import ModelError, SpecError
from esv_ray.estimator import Estimator, Kind, Method, Output
from tests.conftest import make_model
from tests.support.factories import MeanLinear
from tests.support.model_kinds import KINDS, PRIOR, has_logits, heads, model_of
from tests.support.oracle import Array, Game, module_game, multiscale_game
from tests.support.pooled import C, D, drawn
from tests.support.slow import slow_unless

METHODS: tuple[Method, ...] = get_args(Method)
IDS = ["a", "b", "c"]
BASELINE = torch.linspace(-0.5, 0.5, D, dtype=torch.float64)
EXACT = Estimator("exact")


def features_of(n: int, *, batch: int = 3) -> Tensor:
    return torch.randn((batch, n, D), generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def every_class(batch: int = 3) -> Tensor:
    return torch.arange(C).repeat(batch, 1)


def attributed(
    method: Method, function: ScoreFunction, features: Tensor, *, ids: list[str] | None = None, steps: int = 50
) -> MethodResult:
    names = (ids or IDS)[: len(features)]
    return attribute_method(
        method, function, features, every_class(len(features)), video_ids=names, baseline=BASELINE, steps=steps
    )


def linear_model() -> VideoModel:
    """TSN without a ReLU: its logits are linear in the elements."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((C, D), generator=generator, dtype=torch.float64)
    return VideoModel(Average(weight, weight[:, 0], input_relu=False), PRIOR, D)


# ---------------------------------------------------------------- integrated gradients


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", slow_unless("probability".__eq__, ["probability", "logit"]))
def test_integrated_gradients_are_complete(kind: str, output: Output) -> None:
    """Their sum is F(X) - F(baseline) plus the delta, which more steps reduce."""
    model, x = model_of(kind), features_of(4, batch=2)
    if output == "logit" and not has_logits(model):
        return
    function = score_function(model, Estimator("exact", output=output), 4)
    change = function.scores(x, None) - function.scores(BASELINE.expand_as(x), None)  # (B, C)
    deltas = []
    for steps in (4, 100):
        result = attributed("integrated_gradients", function, x, steps=steps)
        assert result.delta is not None
        assert (result.values.sum(dim=1) - change - result.delta).abs().max() < 1e-10
        deltas.append(float(result.delta.abs().max()))
    assert deltas[1] < 0.02 * (1 + float(change.abs().max()))
    assert deltas[1] < deltas[0] or deltas[0] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["adjusted", "algorithm1"])
def test_integrated_gradients_of_a_sampled_score_are_complete(estimator: Kind) -> None:
    function, x = score_function(model_of("multiscale"), Estimator(estimator, m=12, iterations=2), 9), features_of(9)
    labels = function.relabelling(IDS)
    change = function.scores(x, labels) - function.scores(BASELINE.expand_as(x), labels)
    result = attributed("integrated_gradients", function, x, steps=200)
    assert (result.values.sum(dim=1) - change).abs().max() < 2e-3


def test_integrated_gradients_are_the_integral() -> None:
    """The midpoint rule on Eq. 8 itself, differentiated by autograd."""
    x, made = features_of(4, batch=1), {s: head.double() for s, head in heads().items()}
    points = 2000
    total = torch.zeros((4, C), dtype=torch.float64)
    shares = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    sequences = (BASELINE + shares[:, None, None] * (x - BASELINE)).requires_grad_()  # (points, n, D)
    scores = equation_8(made, sequences)
    for c in range(C):
        (gradient,) = torch.autograd.grad(scores[:, c].sum(), sequences, retain_graph=True)
        total[:, c] = ((x[0] - BASELINE) * gradient.mean(dim=0)).sum(dim=1)
    found = attributed("integrated_gradients", score_function(model_of("multiscale"), EXACT, 4), x, steps=200)
    assert (found.values[0] - total).abs().max() < 2e-3


def equation_8(made: Mapping[int, nn.Module], sequences: Tensor) -> Tensor:
    """softmax(F) (B, C) of sequences (B, n, D), with a gradient."""
    n = sequences.shape[1]
    means = [
        torch.stack([made[s](sequences[:, list(t)]) for t in combinations(range(n), s)]).mean(dim=0)
        for s in range(1, min(n, max(made)) + 1)
    ]
    return torch.stack(means).mean(dim=0).softmax(dim=1)


@pytest.mark.parametrize("n", [1, 4])
def test_a_linear_model_has_closed_forms(n: int) -> None:
    """F(X) = mean of (w x_i + b): IG w (x_i - baseline) / n, Grad-CAM w x_i / n, occlusion the mean's change."""
    model, x = linear_model(), features_of(n)
    assert isinstance(model.scorer, Average)
    weight, own = model.scorer.weight, x @ model.scorer.weight.T  # (B, n, C)
    function = score_function(model, Estimator("exact", output="logit"), n)
    result = attributed("integrated_gradients", function, x, steps=3)
    assert result.delta is not None
    assert result.delta.abs().max() < 1e-6, "captum's weights are float32"
    assert (result.values - (own - BASELINE @ weight.T) / n).abs().max() < 1e-6
    assert (attributed("grad_cam", function, x).values - own / n).abs().max() < 1e-12
    if n > 1:
        others = (own.sum(dim=1, keepdim=True) - own) / (n - 1)
        expected = own.mean(dim=1, keepdim=True) - others
        assert (attributed("occlusion", function, x).values - expected).abs().max() < 1e-12


# ---------------------------------------------------------------- Grad-CAM


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_grad_cam_is_captums_without_its_relu(output: Output) -> None:
    """Elements are positions, features are channels."""
    from captum.attr import LayerGradCam

    model, x = model_of("python, fixed length"), features_of(5)
    function = score_function(model, Estimator("exact", output=output), 5)

    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.channels = nn.Identity()

        def forward(self, channels_first: Tensor) -> Tensor:
            return function.scores(self.channels(channels_first).transpose(1, 2), None)

    module = Sequences()
    found = attributed("grad_cam", function, x).values
    inputs = x.transpose(1, 2).requires_grad_()
    for c in range(C):
        expected = LayerGradCam(module, module.channels).attribute(inputs, target=c)  # (B, 1, n)
        assert (found[:, :, c] - expected[:, 0]).abs().max() < 1e-12
    assert (found < 0).any()


def test_grad_cam_by_hand() -> None:
    x = features_of(5, batch=1)
    made = {s: head.double() for s, head in heads().items()}
    inputs = x.clone().requires_grad_()
    scores = equation_8(made, inputs)[0]
    found = attributed("grad_cam", score_function(model_of("multiscale"), EXACT, 5), x).values[0]
    for c in range(C):
        (gradient,) = torch.autograd.grad(scores[c], inputs, retain_graph=True)
        weights = gradient[0].mean(dim=0)
        expected = torch.stack([(weights * element).sum() for element in x[0]])
        assert (found[:, c] - expected).abs().max() < 1e-7


# ---------------------------------------------------------------- occlusion


def by_hand(game: Game, n: int) -> Array:
    everything = tuple(range(n))
    return np.stack([game(everything) - game(everything[:i] + everything[i + 1 :]) for i in range(n)])


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("estimator", ["exact", "adjusted"])
def test_occlusion_is_brute_force(n: int, output: Output, estimator: Kind) -> None:
    model, x = make_model(feature_dim=D), features_of(n)
    made = {s: head.double() for s, head in heads().items()}
    function = score_function(model.to(dtype=torch.float64), Estimator(estimator, output=output), n)
    found = attributed("occlusion", function, x).values
    for video in range(3):
        expected = by_hand(multiscale_game(made, x[video], PRIOR, logits=output == "logit"), n)
        assert np.abs(found[video].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_occlusion_of_a_module_is_brute_force(n: int, output: Output) -> None:
    module, x = MeanLinear(D, C).double(), features_of(n)
    model = variable_length_model(module, PRIOR, feature_dim=D)
    found = attributed("occlusion", score_function(model, Estimator("exact", output=output), n), x).values
    for video in range(3):
        expected = by_hand(module_game(module, x[video], PRIOR, logits=output == "logit"), n)
        assert np.abs(found[video].numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_is_the_score_less_that_of_the_shorter_sequence(kind: str) -> None:
    model, x, n = model_of(kind), features_of(6), 6
    whole, shorter = score_function(model, EXACT, n), score_function(model, EXACT, n - 1)
    found = attributed("occlusion", whole, x).values
    for i in range(n):
        others = [j for j in range(n) if j != i]
        expected = whole.scores(x, None) - shorter.scores(x[:, others], None)
        assert (found[:, i] - expected).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_sampled_occlusion_is_close(output: Output) -> None:
    """Both scores come from the same subsequences: their errors cancel, unlike those of two samples."""
    model, n = model_of("multiscale"), 14
    x, ids = features_of(n, batch=24), [f"video {i}" for i in range(24)]
    truth = attributed("occlusion", score_function(model, Estimator("exact", output=output), n), x, ids=ids).values
    errors = {}
    for kind in ("adjusted", "algorithm1"):
        function = score_function(model, Estimator(kind, m=40, iterations=2, output=output), n)
        found = attributed("occlusion", function, x, ids=ids).values
        errors[kind] = float((found - truth).pow(2).mean().sqrt() / truth.pow(2).mean().sqrt())
    assert errors["adjusted"] < 0.4
    assert errors["algorithm1"] > 2 * errors["adjusted"]


@pytest.mark.slow
def test_occlusion_by_algorithm_1_is_unbiased_enough() -> None:
    """Each shorter sequence has a sample of its own; the mean over many seeds is near the truth."""
    model, n, x = model_of("multiscale"), 7, features_of(7, batch=1)
    truth = attributed("occlusion", score_function(model, Estimator("exact", output="logit"), n), x).values
    runs = [
        attributed("occlusion", score_function(model, Estimator("algorithm1", 10, 4, seed, output="logit"), n), x)
        for seed in range(16)
    ]
    mean = torch.stack([run.values for run in runs]).mean(dim=0)
    assert (mean - truth).abs().max() < 0.35 * truth.abs().max()


# ---------------------------------------------------------------- random


def test_random_is_fixed_by_seed_video_and_class() -> None:
    model, x = make_model(feature_dim=D).to(dtype=torch.float64), features_of(40)
    function = score_function(model, Estimator("adjusted", m=8), 40)
    values = attributed("random", function, x).values
    assert torch.equal(values, attributed("random", function, x).values)
    one = attribute_method("random", function, x[1:2], torch.tensor([[2]]), video_ids=["b"]).values
    assert torch.equal(one[0, :, 0], values[1, :, 2])
    other_seed = score_function(model, Estimator("adjusted", m=8, seed=1), 40)
    sets = [values[0], values[1], attributed("random", other_seed, x).values[0]]
    assert all(not torch.equal(a, b) for a, b in combinations(sets, 2))
    assert values.abs().max() <= 1
    assert abs(float(values.mean())) < 0.1
    assert 0.28 < float(values.var()) < 0.39, "1/3"
    assert torch.corrcoef(values.permute(0, 2, 1).reshape(9, -1)).fill_diagonal_(0).abs().max() < 0.6


# ---------------------------------------------------------------- all methods


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", ["exact", "adjusted", "algorithm1"])
def test_bits_do_not_depend_on_company_or_order(method: Method, estimator: Kind) -> None:
    model, x = make_model(feature_dim=D), features_of(8).float()
    function = score_function(model, Estimator(estimator, m=12, iterations=2), 8)
    together = attributed(method, function, x).values
    back = attributed(method, function, x.flip(0), ids=IDS[::-1]).values
    assert torch.equal(back.flip(0), together)
    for video in range(3):
        assert torch.equal(
            attributed(method, function, x[video : video + 1], ids=[IDS[video]]).values[0], together[video]
        )


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam", "occlusion"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("pooled", "average"))])
def test_equal_elements_of_an_orderless_model_get_equal_values(method: Method, kind: str) -> None:
    x = features_of(5)
    x[:, 3] = x[:, 1]
    function = score_function(model_of(kind), EXACT, 5)
    values = attributed(method, function, x).values
    assert (values[:, 3] - values[:, 1]).abs().max() < 1e-12
    order = torch.tensor([4, 2, 0, 1, 3])
    assert (attributed(method, function, x[:, order]).values - values[:, order]).abs().max() < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_a_class_has_the_same_values_whatever_else_is_asked_for(method: Method) -> None:
    function, x = score_function(make_model(feature_dim=D).to(dtype=torch.float64), EXACT, 5), features_of(5)
    every = attributed(method, function, x).values
    classes = torch.tensor([[2], [0], [1]])
    some = attribute_method(method, function, x, classes, video_ids=IDS, baseline=BASELINE).values
    assert (some - every.gather(2, classes[:, None].expand(3, 5, 1))).abs().max() < 1e-15


def test_a_sequence_shorter_than_every_head_gets_zeros() -> None:
    function = score_function(model_of("multiscale, weights and gaps"), EXACT, 1)
    for method in METHODS[:3]:
        assert not attributed(method, function, features_of(1)).values.any()


# ---------------------------------------------------------------- what cannot be done


def test_a_missing_captum_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    function = score_function(model_of("multiscale"), EXACT, 3)
    with pytest.raises(SpecError) as caught:
        attributed("integrated_gradients", function, features_of(3))
    assert (
        str(caught.value) == "integrated gradients need captum, which is not installed: pip install 'esv-ray[methods]'"
    )
    attributed("grad_cam", function, features_of(3))


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean(dim=1)[:, :C]


class InPlace(nn.Module):
    """Overwrites what its backward pass needs."""

    def forward(self, x: Tensor) -> Tensor:
        out = x.mean(dim=1)[:, :C].exp()
        return out.mul_(2) + out.exp().add_(1)


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam"])
@pytest.mark.parametrize(("module", "said"), [(Detached(), "logits without one"), (InPlace(), "failed: one of the")])
def test_a_module_without_gradients_is_refused(method: Method, module: nn.Module, said: str) -> None:
    model = variable_length_model(module, PRIOR, feature_dim=D)
    function = score_function(model, EXACT, 3)
    with pytest.raises(ModelError) as caught:
        attributed(method, function, features_of(3).float())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    attributed("occlusion", function, features_of(3).float())


def test_a_game_of_positions_has_occlusion_alone() -> None:
    game = characteristic_game(lambda positions: positions.double().sum(dim=1)[:, None], torch.zeros(1))
    function, x, classes = score_function(game, EXACT, 3), torch.zeros((1, 3, 1)), torch.zeros((1, 1), dtype=torch.long)
    assert attribute_method("occlusion", function, x, classes, video_ids=["a"]).values.flatten().tolist() == [0, 1, 2]
    with pytest.raises(SpecError, match="no features"):
        attribute_method("grad_cam", function, x, classes, video_ids=["a"])


def test_misuse() -> None:
    function, x = score_function(model_of("multiscale"), EXACT, 3), features_of(3)
    with pytest.raises(ValueError, match=r"expected features \(B, 3, 6\)"):
        attributed("grad_cam", function, features_of(4))
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        attribute_method("grad_cam", function, x, torch.full((3, 1), 3), video_ids=IDS)
    with pytest.raises(ValueError, match="B names"):
        attribute_method("grad_cam", function, x, torch.zeros((3, 1), dtype=torch.long), video_ids=["a"])
    with pytest.raises(ValueError, match="baseline"):
        attribute_method("integrated_gradients", function, x, every_class(), video_ids=IDS)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.linear = nn.GRU(D, 8, batch_first=True), nn.Linear(8, C)
        drawn(self.gru, self.linear)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.gru(x)[0][:, -1])
        return out


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA device")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", ["exact", "adjusted", "algorithm1"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_cuda_agrees_with_the_cpu(method: Method, estimator: Kind, recurrent: bool) -> None:
    """cuDNN's recurrent layers have no backward pass in eval mode."""

    def make() -> VideoModel:
        return variable_length_model(Recurrent(), PRIOR, feature_dim=D) if recurrent else make_model(feature_dim=D)

    x, asked = features_of(9).float(), Estimator(estimator, m=16, iterations=2)
    here = attributed(method, score_function(make(), asked, 9), x)
    there = attributed(method, score_function(make().to("cuda"), asked, 9), x.cuda())
    assert there.values.device.type == "cuda"
    assert (there.values.cpu() - here.values).abs().max() < 1e-5
