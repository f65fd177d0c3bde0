"""Laws of modules that are code of a user's: a bundle whose module breaks one is refused when it is loaded."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import esv_ray
from esv_ray.core.games.model import VideoModel, multiscale_model, variable_length_model
from esv_ray.errors import ModelError
from esv_ray.models import probe
from esv_ray.models.bundle import load_model
from esv_ray.models.probe import check_modules, check_repeatable
from tests.conftest import make_prior
from tests.support.factories import MeanLinear
from tests.support.job_factories import CALLS_OF_A_LOAD
from tests.support.model_bundles import python_bundle, refusal

Forward = Callable[[Any, Tensor], Any]


class Module(MeanLinear):
    """A mean of a linear layer, to which a function of the features and itself is added."""

    def __init__(self, extra: Forward) -> None:
        super().__init__(4, 3)
        self.extra = extra
        self.own = np.random.default_rng(0)
        self.old, self.python, self.torch = np.random.RandomState(0), random.Random(0), torch.Generator()
        self.norm = nn.BatchNorm1d(3)
        self.kept: Any = 0.0

    def forward(self, subsequences: Tensor) -> Tensor:
        out: Tensor = self.extra(self, super().forward(subsequences))
        return out


class Subsets(MeanLinear):
    """As TRN's published forward pass: at most three subsets of each length, drawn by numpy's generator."""

    def forward(self, subsequences: Tensor) -> Tensor:
        s = subsequences.shape[1]
        pairs = [[i, j] for i in range(s) for j in range(i + 1, s)] or [[0, 0]]
        drawn = range(len(pairs)) if len(pairs) <= 3 else np.random.choice(len(pairs), 3, replace=False)
        return torch.stack([super(Subsets, self).forward(subsequences[:, pairs[index]]) for index in drawn]).mean(dim=0)


def kept_count(self: Any, out: Tensor) -> Any:
    self.kept += 1.0
    return out + self.kept


def kept_last(self: Any, out: Tensor) -> Any:
    """A hidden state, of the call before."""
    before, self.kept = self.kept, float(out[0].sum())
    return out + before


def shared(self: Any, out: Tensor) -> Tensor:
    """What only the first row gets of the others."""
    return torch.cat([out[:1] + out[1:].sum(dim=0), out[1:]])


def to_others(self: Any, out: Tensor) -> Tensor:
    """What all others get of the first row."""
    return torch.cat([out[:1], out[1:] + (out[:1] if len(out) == probe._ROWS else 0.0)])


LAWLESS: dict[str, tuple[Forward, str]] = {
    "numpy's global": (lambda self, out: out + np.random.random(), "draws from numpy's global generator; make it"),
    "torch's global": (lambda self, out: out + torch.rand(()), "draws from torch's global generator; make it"),
    "Python's": (lambda self, out: out + random.random(), "draws from Python's random; make it"),
    "a coin": (lambda self, out: out + float(np.random.random() < 0.5), "draws from numpy's global generator"),
    "dropout": (lambda self, out: nn.functional.dropout(out, 0.5), "draws from torch's global generator"),
    "of its own": (lambda self, out: out + float(self.own.random()), "draws from its own generator (own); make it"),
    "a coin of its own": (lambda self, out: out + float(self.own.random() < 0.1), "draws from its own generator (own)"),
    "torch's own": (lambda self, out: out + torch.rand((), generator=self.torch), "its own generator (torch); make it"),
    "Python's own": (lambda self, out: out + self.python.random(), "draws from its own generator (python); make it"),
    "numpy's old": (lambda self, out: out + self.old.random(), "draws from its own generator (old); make it"),
    "fresh at each call": (
        lambda self, out: out + float(np.random.default_rng().random() < 0.5),
        "keeps state between calls, or draws from a generator of its own; make it deterministic",
    ),
    "a subset in any order": (
        lambda self, out: out + torch.randperm(3, generator=self.torch)[0],
        "draws from its own generator (torch)",
    ),
    "training mode within": (lambda self, out: self.dropout.train()(out), "draws from torch's global generator"),
    "counter": (kept_count, "keeps state between calls"),
    "hidden state": (kept_last, "keeps state between calls"),
    "batch norm": (lambda self, out: self.norm.train()(out), "Expected more than 1 value per channel when training"),
    "mean of the batch": (lambda self, out: out - out.mean(dim=0), "depend on their own sequence alone"),
    "softmax over the batch": (lambda self, out: out.softmax(dim=0), "depend on their own sequence alone"),
    "first of all": (shared, "depend on their own sequence alone"),
    "all of the first": (to_others, "depend on their own sequence alone"),
    "place": (lambda self, out: out + torch.arange(len(out))[:, None], "depend on their own sequence alone"),
    "infinite": (lambda self, out: out / 0, "expected finite logits, got NaN or infinity from the module of scale 1"),
    "not a number": (lambda self, out: out * torch.nan, "expected finite logits, got NaN or infinity"),
    "whole": (lambda self, out: out.long(), "floating-point logits (N, 3) for features (N, 1, 4), got (4, 3) int"),
    "exit": (lambda self, out: exit(0), "fails on features (4, 1, 4): SystemExit: 0"),
}  # fmt: skip


@esv_ray.factory
def lawless(name: str, scale: int = 0) -> Any:
    """A module of any length, or a mapping in which one head is lawless."""
    module = Module(LAWLESS[name][0])
    return module if not scale else {s: module if s == scale else MeanLinear(4, 3) for s in range(1, scale + 1)}


@esv_ray.factory
def with_objects() -> nn.Module:
    class Objects(MeanLinear):
        def get_extra_state(self) -> object:
            return object()

    return Objects(4, 3)


@esv_ray.factory
def subsets() -> nn.Module:
    return Subsets(4, 3)


@pytest.mark.parametrize("scale", [0, 3])
@pytest.mark.parametrize("name", LAWLESS)
def test_lawless_modules_are_refused(tmp_path: Path, name: str, scale: int) -> None:
    url = python_bundle(tmp_path / "model", f"{__name__}:lawless", arguments={"name": name, "scale": scale})
    message = LAWLESS[name][1].replace("scale 1", f"scale {scale or 1}").replace("(N, 1, 4)", f"(N, {scale or 1}, 4)")
    assert message.replace("(4, 1, 4)", f"(4, {scale or 1}, 4)") in refusal(url)


def test_subsets_that_are_drawn_of_longer_sequences_are_found(tmp_path: Path) -> None:
    """Up to three frames nothing is drawn: one and two are not enough to look at."""
    module = subsets().eval()
    assert torch.equal(*(module(torch.arange(8.0).view(1, 2, 4)) for _ in range(2)))
    text = refusal(python_bundle(tmp_path / "model", f"{__name__}:subsets"))
    assert "module of scale 4 for the same features (4, 4, 4): it draws from numpy's global generator" in text


def test_seeds_of_the_process_change_nothing(tmp_path: Path) -> None:
    """Whatever the generators' states, a coin is found."""
    for seed in range(20):
        np.random.seed(seed)
        refusal(python_bundle(tmp_path / "model", f"{__name__}:lawless", arguments={"name": "a coin"}))


def checked(modules: Any, longest: int | None = None) -> VideoModel:
    make: Any = variable_length_model if isinstance(modules, nn.Module) else multiscale_model
    model: VideoModel = make(modules, make_prior(3), feature_dim=4)
    check_modules(model, modules, longest=longest)
    return model


def test_lawful_modules_are_taken() -> None:
    """Draws that change nothing, dropout and batch norm in eval mode, features overwritten, scores of zero."""
    extras: list[Forward] = [
        lambda self, out: out + 0 * np.random.random(),  # as layers that are dropped in training alone
        lambda self, out: self.norm(nn.functional.dropout(out, 0.5, self.training)),
        lambda self, out: out.zero_(),
        lambda self, out: out * 1e30,
        lambda self, out: out.double(),
    ]
    for extra in extras:
        checked(Module(extra))
        checked({1: Module(extra)})
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        checked(MeanLinear(4, 3).to(dtype))

    class Overwrites(MeanLinear):
        def forward(self, subsequences: Tensor) -> Tensor:
            return super().forward(subsequences.mul_(2))

    checked(Overwrites(4, 3))


def test_a_module_may_refuse_longer_sequences_but_not_those_it_is_said_to_take() -> None:
    class Short(MeanLinear):
        def forward(self, subsequences: Tensor) -> Tensor:
            if subsequences.shape[1] > 5:
                raise IndexError("five places")
            return super().forward(subsequences)

    assert checked(Short(4, 3)).n_max is None
    assert checked(Short(4, 3), longest=5).n_max is None
    for longest in (6, 8):
        with pytest.raises(
            ModelError, match=rf"scale {longest} fails on features \(4, {longest}, 4\): IndexError: five"
        ):
            checked(Short(4, 3), longest=longest)


def test_weights_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    """As quantized modules have them, whose state holds objects."""
    url = python_bundle(tmp_path / "model", f"{__name__}:with_objects")
    assert "model.json: factory: cannot read the weights of its modules: AttributeError: " in refusal(url)


def test_a_module_that_stays_in_training_mode_is_refused() -> None:
    class Stays(MeanLinear):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.dropout.training = True
            return self

    with pytest.raises(ModelError, match=r"stays in training mode after eval\(\) \('dropout'\)"):
        checked(Stays(4, 3))


def test_a_module_is_checked_again_where_it_is_moved() -> None:
    """A constant of one dtype; a generator of its own, which nothing else would show."""

    class Constant(MeanLinear):
        def forward(self, subsequences: Tensor) -> Tensor:
            return super().forward(subsequences) @ torch.eye(3)

    for model in (checked(Constant(4, 3)), checked({1: Constant(4, 3)})):
        check_repeatable(model)
        with pytest.raises(ModelError, match=r"fails on features \(4, 1, 4\): RuntimeError: expected .* dtype"):
            check_repeatable(model.to(dtype=torch.float64))
    drawing = variable_length_model(Module(LAWLESS["of its own"][0]), make_prior(3), feature_dim=4)
    with pytest.raises(ModelError, match=r"draws from its own generator \(own\)"):
        check_repeatable(drawing)


def test_calls_of_a_load(tmp_path: Path) -> None:
    """Modules of tests misbehave after these."""
    url = python_bundle(tmp_path / "model", "tests.support.job_factories:slow", arguments={"fixed": "none"})
    scorer: Any = load_model(url, code="tests").scorer
    assert scorer.module.calls == CALLS_OF_A_LOAD


def test_loading_twice_gives_one_digest(tmp_path: Path) -> None:
    """Looking at a module leaves no trace in it."""
    url = python_bundle(tmp_path / "model", "tests.support.factories:variable")
    assert len({load_model(url, code="tests").digest for _ in range(3)}) == 1
