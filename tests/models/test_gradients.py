"""Models without gradients are refused before a method that needs them meets a video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.games.model import VideoModel, multiscale_model, variable_length_model
from esv_ray.errors import ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.gradients import check_gradients
from tests.conftest import make_model
from tests.support.bundles import python_bundle
from tests.support.factories import MeanLinear
from tests.support.model_kinds import KINDS, model_of

PRIOR = torch.tensor([0.5, 0.25, 0.25])
LOST = ["no_grad", "inference_mode", "detach", "numpy", "argmax"]


class Scored(nn.Module):
    """(N, s, 4) -> (N, 3) by a function of the mean element."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, sequences: Tensor) -> Tensor:
        return self.function(sequences.mean(dim=1)[:, :3])


def scored(function: Callable[[Tensor], Tensor]) -> VideoModel:
    return variable_length_model(Scored(function), PRIOR, feature_dim=4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_gradients(kind: str) -> None:
    check_gradients(model_of(kind))


@pytest.mark.parametrize("from_length", ["1", "4"])
@pytest.mark.parametrize("how", LOST)
def test_lost_gradients_are_refused(how: str, from_length: str, tmp_path: Path) -> None:
    """At every length that is tried, not only at the first."""
    bundle = python_bundle(tmp_path / "model", "without_gradient", how=how, from_length=from_length)
    model = load_model(bundle, code=["tests.support.job_factories"])
    with pytest.raises(ModelError, match=f"need gradients, but the module of scale {from_length} returns logits witho"):
        check_gradients(model)


def test_a_single_head_without_gradients_is_refused() -> None:
    heads: dict[int, nn.Module] = {1: MeanLinear(4, 3), 2: Scored(lambda x: x.detach()), 3: MeanLinear(4, 3)}
    with pytest.raises(ModelError, match="the module of scale 2 returns logits without one"):
        check_gradients(multiscale_model(heads, PRIOR, feature_dim=4))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("numpy_of_a_leaf", r"scale 1 fails where they are recorded: RuntimeError: Can't call numpy\(\) on Tensor"),
        ("overwritten", "those of the module of scale 1 failed: one of the variables needed for gradient"),
        ("round", "those of the module of scale 1 are 0, although its logits change with the features; check for roun"),
    ],
)
def test_gradients_that_fail_are_refused_in_one_line(how: str, said: str, tmp_path: Path) -> None:
    bundle = python_bundle(tmp_path / "model", "without_gradient", how=how)
    with pytest.raises(ModelError, match=said) as caught:
        check_gradients(load_model(bundle, code=["tests.support.job_factories"]))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.log_softmax(dim=1),
        lambda x: x.softmax(dim=1),
        lambda x: (100 * x).clamp(-1, 1),
        lambda x: 0 * x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: x.abs().sqrt(),
    ],
    ids=["log probabilities", "probabilities", "saturates", "constant", "infinite at 0"],
)
def test_gradients_that_exist_are_taken(function: Callable[[Tensor], Tensor]) -> None:
    check_gradients(scored(function))


def test_it_leaves_no_gradients_behind() -> None:
    module = MeanLinear(4, 3)
    module.requires_grad_()
    check_gradients(variable_length_model(module, PRIOR, feature_dim=4))
    assert all(parameter.grad is None for parameter in module.parameters())
    check_gradients(make_model())
