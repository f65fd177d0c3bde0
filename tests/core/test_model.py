"""A model's class prior, taken in float64 or refused in a line that names the classes; its device and dtype."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from esv_ray.core.games.model import characteristic_game, check_prior, variable_length_model
from esv_ray.errors import ModelError
from tests.conftest import make_model, make_prior

NAN, INF = float("nan"), float("inf")


def test_a_prior_is_taken_in_float64() -> None:
    assert torch.equal(check_prior(torch.tensor([0.25, 0.0, 0.75])), torch.tensor([0.25, 0, 0.75]).double())
    assert len(check_prior(torch.tensor([0.5, 0.49995]))) == 2, "rounded"


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ([], "expected a probability for each class, shape (C,), got shape (0,)"),
        ([[1.0]], "expected a probability for each class, shape (C,), got shape (1, 1)"),
        ([0.5, -0.25, 0.75], "expected probabilities from 0 to 1, got -0.25 for class 1; a class without videos has 0"),
        ([NAN, 1.0, INF, -INF], "from 0 to 1, got nan for class 0, inf for class 2, -inf for class 3; a class without"),
        ([-1.0] * 9, "-1 for class 3, -1 for class 4, ...; a class"),
        (
            [0.5, 0.3],
            "of 2 classes that sum to 1 within 0.0001, got a sum of 0.8; divide each by their sum, if no class",
        ),
        ([2.0], "of 1 classes that sum to 1 within 0.0001, got a sum of 2"),
    ],
)
def test_a_prior_that_is_none_names_classes_what_is_expected_and_what_there_is(prior: list[float], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_prior(torch.tensor(prior))
    assert str(caught.value).startswith("prior: expected ")
    assert said in str(caught.value)


def test_device_and_dtype_follow_the_modules_wherever_they_are_moved() -> None:
    """The place of the first floating-point tensor is looked up once, the tensor each time."""
    for model in (make_model(), variable_length_model(nn.Linear(4, 3), make_prior(3), feature_dim=4)):
        assert (model.dtype, model.device.type) == (torch.float32, "cpu")
        assert model.to(dtype=torch.float64).dtype == torch.float64
        assert model.dtype == torch.float64, "modules are moved, not copied"
        model.scorer.half()
        assert model.dtype == torch.float16
        assert copy.deepcopy(model).dtype == torch.float16
    assert characteristic_game(lambda positions: positions.float(), torch.zeros(1)).dtype == torch.float32
