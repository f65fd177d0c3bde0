"""A module that draws at random where no check of a load meets it is refused while it computes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel, multiscale_model, pooled_model, variable_length_model
from esv_ray.core.games.pooled import OwnPooling
from esv_ray.core.generators import generator_states, moved_generators, own_generators
from esv_ray.errors import ModelError
from esv_ray.estimator import Estimator, Kind
from esv_ray.models.explain import explain
from esv_ray.models.probe import check_modules
from tests.conftest import make_model, make_prior

Draw = Callable[["Drawing"], float]

DRAWS: dict[str, tuple[Draw, str]] = {
    "torch": (lambda self: float(torch.rand(())), "torch's global generator"),
    "numpy": (lambda self: np.random.random(), "numpy's global generator"),
    "numpy, two of a pair": (lambda self: np.random.normal(), "numpy's global generator"),
    "Python": (lambda self: random.random(), "Python's random"),
    "torch's own": (lambda self: float(torch.rand((), generator=self.own_torch)), r"its own generator \(own_torch\)"),
    "numpy's own": (lambda self: float(self.own_numpy.random()), r"its own generator \(own_numpy\)"),
    "numpy's old": (lambda self: self.own_old.random(), r"its own generator \(own_old\)"),
    "Python's own": (lambda self: self.own_python.random(), r"its own generator \(own_python\)"),
}


class Drawing(nn.Module):
    """A mean of a linear layer, and a draw in some calls."""

    own_torch: torch.Generator
    own_numpy: np.random.Generator
    own_old: np.random.RandomState
    own_python: random.Random

    def __init__(self, draw: Draw, when: Callable[[Drawing, Tensor], bool], *, used: bool = True) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.own_torch, self.own_numpy = torch.Generator(), np.random.default_rng(0)
        self.own_old, self.own_python = np.random.RandomState(0), random.Random(0)
        self.draw, self.when, self.used, self.calls = draw, when, used, 0

    def forward(self, subsequences: Tensor) -> Tensor:
        out: Tensor = self.inner(subsequences).mean(dim=1)
        return self.drawn(subsequences, out)

    def drawn(self, features: Tensor, out: Tensor) -> Tensor:
        self.calls += 1
        if not self.when(self, features):
            return out
        drawn = self.draw(self)
        return out + drawn * torch.arange(3) if self.used else out


class DrawingPool(Drawing):
    """The same as encode and decode."""

    def encode(self, features: Tensor) -> Tensor:
        return self.drawn(features, self.inner(features))

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        return sums / sizes[:, None]


def features(*shape: int) -> Tensor:
    return torch.randn((*shape, 4), generator=torch.Generator().manual_seed(0))


def at_length_5(self: Drawing, given: Tensor) -> bool:
    return given.shape[1] == 5


RARELY: dict[str, Callable[[Drawing, Tensor], bool]] = {
    "at length 5": at_length_5,
    "in large batches": lambda self, given: len(given) > 8,
    "after 200 calls": lambda self, given: self.calls > 200,
    "of large features": lambda self, given: bool((given > 90).any()),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_from_any_generator_is_refused(name: str) -> None:
    draw, source = DRAWS[name]
    module = Drawing(draw, at_length_5)
    assert len(explain(module, features(4), prior=[0.5, 0.25, 0.25]).esv) == 4, "it draws for longer ones only"
    with pytest.raises(
        ModelError, match=f"its module draws at random, from {source}: two runs on 1 sequence"
    ) as caught:
        explain(module, features(5), prior=[0.5, 0.25, 0.25])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["exact", "adjusted", "algorithm1"])
@pytest.mark.parametrize("name", RARELY)
def test_draws_that_no_load_meets_are_refused(name: str, kind: Kind) -> None:
    module = Drawing(DRAWS["torch"][0], RARELY[name])
    model = variable_length_model(module, make_prior(3), feature_dim=4)
    check_modules(model, module, longest=None)
    sequences = features(300, 6)
    sequences[-1] += 100
    with pytest.raises(
        ModelError, match=r"at random, from torch's global generator: two runs on \d+ sequence\(s\) of 6"
    ):
        explain(model, sequences, estimator=kind, m=8, batch=1 if name == "after 200 calls" else 8)


def test_heads_and_pooled_models_are_watched() -> None:
    head = Drawing(DRAWS["numpy"][0], lambda self, given: len(given) > 8)
    heads = multiscale_model({2: head}, make_prior(3), feature_dim=4)
    pool = DrawingPool(DRAWS["numpy"][0], lambda self, given: len(given) > 8)
    pooled = pooled_model(OwnPooling(pool), make_prior(3), feature_dim=4, width=3)
    for model in (heads, pooled):
        with pytest.raises(ModelError, match="draws at random, from numpy's global generator"):
            explain(model, features(12))


@pytest.mark.parametrize("name", DRAWS)
def test_draws_that_change_nothing_are_taken(name: str) -> None:
    """As layers that are dropped in training alone; another thread's draws are no fault either."""
    plain = Drawing(DRAWS[name][0], lambda self, given: False)
    drawing = Drawing(DRAWS[name][0], lambda self, given: True, used=False)
    drawing.load_state_dict(plain.state_dict())
    prior = [0.5, 0.25, 0.25]
    sequences = list(features(3, 5))
    expected, got = explain(plain, sequences, prior=prior), explain(drawing, sequences, prior=prior)
    assert all(torch.equal(one.esv, other.esv) for one, other in zip(expected, got, strict=True))


def test_scores_that_are_not_finite_are_no_draws() -> None:
    module = Drawing(DRAWS["torch"][0], at_length_5, used=False)
    module.register_forward_hook(lambda module, given, out: out * torch.nan if given[0].shape[1] == 5 else out)
    with pytest.raises(Exception, match="not finite"):
        explain(module, features(5), prior=[0.5, 0.25, 0.25])


def test_another_threads_draw_costs_one_run() -> None:
    """Not one in every batch after it."""
    module = Drawing(DRAWS["torch"][0], lambda self, given: False)
    model = variable_length_model(module, make_prior(3), feature_dim=4)
    engine = Engine(model, Estimator("exact"), memory_budget=2**30, batch=1)
    batches = engine.attributions([3] * 4, [""] * 4, lambda some: features(len(some), 3))
    calls = []
    for position, _ in enumerate(batches):
        calls.append(module.calls)
        if position == 0:
            np.random.random()
    assert np.diff([0, *calls]).tolist() == [3, 6, 3, 3]


def test_only_modules_of_a_user_are_run_again() -> None:
    model: VideoModel = make_model()
    assert not model.runs_user_code
    assert variable_length_model(nn.Identity(), make_prior(4), feature_dim=4).runs_user_code


def test_names_of_what_moved() -> None:
    module = nn.Sequential(Drawing(DRAWS["torch"][0], at_length_5))
    own = own_generators(module)
    assert sorted(own) == [f"its own generator (own_{name})" for name in ("numpy", "old", "python", "torch")]
    before = generator_states(torch.device("cpu"), own)
    assert moved_generators(before, generator_states(torch.device("cpu"), own)) == []
    np.random.random()
    assert moved_generators(before, generator_states(torch.device("cpu"), own)) == ["numpy's global generator"]
