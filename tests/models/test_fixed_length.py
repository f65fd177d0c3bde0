"""Modules of a fixed length, made into modules of any length: what they get, and exact ESVs against brute force."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import esv_ray
from esv_ray.core.games.model import variable_length_model
from esv_ray.models.fixed_length import HOWS, How, fixed_lengths, to_length
from tests.conftest import make_prior
from tests.support.model_bundles import edit, python_bundle, refusal
from tests.support.oracle import esv_by_orders, module_game


class Places(nn.Module):
    """A linear layer over exactly `length` places, in which each place has its own weights."""

    def __init__(self, length: int = 4, feature_dim: int = 4, n_classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.linear = nn.Linear(length * feature_dim, n_classes)
        with torch.no_grad():
            for parameter in self.linear.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, elements: Tensor) -> Tensor:
        out: Tensor = self.linear(elements.flatten(1))
        return out


@esv_ray.factory
def places(length: int = 4, how: Any = "interpolate") -> nn.Module:
    return esv_ray.fixed_length(Places(length), length, how)


def elements(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# --- what the module gets


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_sequence_of_its_length_is_passed_on_as_it_is(how: How, length: int) -> None:
    sequences = elements(3, length, 2)
    assert to_length(sequences, length, how) is sequences


@pytest.mark.parametrize("s", range(1, 13))
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_interpolation_is_that_of_torch(s: int, length: int) -> None:
    sequences = elements(2, s, 3)
    expected = F.interpolate(sequences.mT, size=length, mode="linear", align_corners=False).mT
    torch.testing.assert_close(to_length(sequences, length, "interpolate"), expected)


@pytest.mark.parametrize("s", range(1, 13))
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_the_nearest_element_is_the_one_that_a_job_takes(s: int, length: int) -> None:
    """floor((j + 0.5) * s / length), as `frames`: repeated if there are fewer, left out if there are more."""
    taken = [int(np.floor((j + 0.5) * s / length)) for j in range(length)]
    sequences = elements(2, s, 3)
    hows: list[How] = ["repeat", "mean", "zero"] if s > length else ["repeat"]
    for how in hows:
        assert torch.equal(to_length(sequences, length, how), sequences[:, taken])


@pytest.mark.parametrize("s", range(1, 8))
def test_missing_elements_are_the_mean_or_zeros(s: int) -> None:
    sequences = elements(2, s, 3)
    for how, filling in (("mean", sequences.mean(dim=1)), ("zero", torch.zeros(2, 3))):
        made = to_length(sequences, 8, how)  # type: ignore[arg-type]
        assert torch.equal(made[:, :s], sequences)
        for place in range(s, 8):
            assert torch.equal(made[:, place], filling)


@pytest.mark.parametrize("how", HOWS)
def test_laws_of_every_way(how: How) -> None:
    """Equal elements stay so (but zeros); rows do not mix; the dtype is that of the features; the input is kept."""
    for s in (1, 3, 5, 9, 40):
        constant = elements(2, 1, 3).expand(2, s, 3)
        made = to_length(constant, 5, how)
        torch.testing.assert_close(made[:, : min(s, 5)], constant[:, :1].expand(2, min(s, 5), 3))
        if how != "zero":
            torch.testing.assert_close(made, constant[:, :1].expand(2, 5, 3))
        for dtype in (torch.float16, torch.float32, torch.float64):
            sequences = elements(4, s, 3).to(dtype)
            before = sequences.clone()
            made = to_length(sequences, 5, how)
            assert made.dtype == dtype
            assert made.shape == (4, 5, 3)
            assert torch.equal(made[1:2], to_length(sequences[1:2], 5, how))
            assert torch.equal(sequences, before)


def test_reversal_commutes_with_interpolation() -> None:
    for s in range(1, 20):
        sequences = elements(2, s, 3)
        made = to_length(sequences, 6, "interpolate")
        torch.testing.assert_close(to_length(sequences.flip(1), 6, "interpolate"), made.flip(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Places, 4), "expected a torch.nn.Module, got type"),
        ((Places(), 0), "length: expected a whole number >= 1, got 0"),
        ((Places(), True), "length: expected a whole number >= 1, got True"),
        ((Places(), 4.0), "length: expected a whole number >= 1, got 4.0"),
        ((Places(), 4, "nearest"), "how: expected one of interpolate, repeat, mean, zero, got 'nearest'"),
        ((Places(), 4, None), "how: expected one of interpolate, repeat, mean, zero, got None"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^fixed_length: {message}"):
        esv_ray.fixed_length(*arguments)


# --- explained


def by_hand(rows: list[list[float]], length: int, how: How) -> list[list[float]]:
    """What the module gets for a subsequence, written out number by number from the documentation's table."""
    s = len(rows)
    if s == length:
        return rows
    points = [(j + 0.5) * s / length for j in range(length)]  # element i spans i to i + 1, and its center is i + 1/2
    if how == "interpolate":
        made = []
        for point in points:
            place = min(max(point - 0.5, 0.0), s - 1.0)
            before = int(place)
            after, share = min(before + 1, s - 1), place - before
            made.append([x + share * (y - x) for x, y in zip(rows[before], rows[after], strict=True)])
        return made
    if s > length or how == "repeat":
        return [rows[int(point)] for point in points]
    mean = [sum(column) / s for column in zip(*rows, strict=True)]
    return rows + [mean if how == "mean" else [0.0] * len(mean)] * (length - s)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_esvs_are_those_of_all_orders_of_what_the_table_says(how: How, length: int) -> None:
    """Brute force, n <= 5, of the module of exactly `length` elements itself: nothing of `fixed_length` is in it."""
    prior = make_prior(3)
    module = Places(length).double().eval()
    for n in range(1, 6):
        features = elements(n, 4).double()
        rows = features.tolist()

        def game(held: tuple[int, ...], rows: list[list[float]] = rows) -> npt.NDArray[np.float64]:
            made = by_hand([rows[i] for i in sorted(held)], length, how) if held else []
            values = module(torch.tensor([made], dtype=torch.float64))[0].softmax(dim=0) if held else prior
            return np.asarray(values.detach().numpy())

        result = esv_ray.explain(esv_ray.fixed_length(module, length, how), features, prior=prior, estimator="exact")
        np.testing.assert_allclose(result.esv, esv_by_orders(game, n), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_esvs_are_those_of_brute_force(how: How, n: int) -> None:
    """Fewer elements than the module takes, as many, and more."""
    module, features, prior = places(how=how), elements(n, 4), make_prior(3)
    model = variable_length_model(module, prior, feature_dim=4)
    result = esv_ray.explain(model, features)
    assert result.exact
    np.testing.assert_allclose(result.esv, esv_by_orders(module_game(module, features, prior), n), atol=1e-6)


def filled_by_hand(rows: list[list[float]], length: int, how: str) -> list[list[float]]:
    """`length` elements of a subsequence, in plain Python, from the documentation's words."""
    s = len(rows)
    if how == "repeat" or s > length:
        return [rows[int((j + 0.5) * s // length)] for j in range(length)]
    mean = [sum(column) / s for column in zip(*rows, strict=True)]
    return rows + [mean if how == "mean" else [0.0] * len(mean)] * (length - s)


@pytest.mark.parametrize("how", ["repeat", "mean", "zero"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_esvs_are_those_of_all_orders_by_hand(how: How, n: int) -> None:
    """No code of the filling is shared: n! orders, numpy, and the bare module; shorter, as long and longer than 3."""
    module, features, prior = Places(length=3).double(), elements(n, 4).double(), make_prior(3)
    weight, bias = (each.detach().numpy() for each in (module.linear.weight, module.linear.bias))

    def value(x: tuple[int, ...]) -> Any:
        if not x:
            return prior.numpy()
        logits = weight @ np.concatenate(filled_by_hand([features[i].tolist() for i in x], 3, how)) + bias
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    expected = np.zeros((n, 3))
    orders = list(permutations(range(n)))
    for order in orders:
        for place, element in enumerate(order):
            expected[element] += value(tuple(sorted(order[: place + 1]))) - value(tuple(sorted(order[:place])))
    model = variable_length_model(esv_ray.fixed_length(module, 3, how), prior, feature_dim=4)
    result = esv_ray.explain(model, features)
    assert result.exact
    np.testing.assert_allclose(result.esv, expected / len(orders), atol=1e-6)


# --- in a bundle and in run.json


def test_how_is_part_of_the_model(tmp_path: Path) -> None:
    digests = set()
    for name, arguments in {"a": {"how": "zero"}, "b": {"how": "mean"}, "c": {}}.items():
        url = python_bundle(tmp_path / name, f"{__name__}:places", arguments=arguments)
        model = esv_ray.load_model(url, code="tests")
        assert fixed_lengths(model.scorer) == [{"length": 4, "how": arguments.get("how", "interpolate")}]
        digests.add(model.digest)
    assert len(digests) == 3


def test_code_that_makes_another_length_of_it_is_refused(tmp_path: Path) -> None:
    said = [{"length": 4, "how": "interpolate"}]
    url = python_bundle(tmp_path / "model", f"{__name__}:places", fixed_length=said)
    before = esv_ray.load_model(url, code="tests").digest
    edit(url, fixed_length=None)
    assert esv_ray.load_model(url, code="tests").digest == before, "the modules' own is part of the hash"
    for other in ([], [{"length": 4, "how": "mean"}], [*said, *said]):
        edit(url, fixed_length=other)
        text = refusal(url)
        assert "model.json: fixed_length: expected [" in text
        assert text.endswith("its code has changed: import the model again")
    edit(url, fixed_length="mean")
    assert "fixed_length: Input should be a valid array, got 'mean'" in refusal(url)


def test_how_stands_in_run_json(tmp_path: Path, features: str) -> None:
    url = python_bundle(tmp_path / "model", f"{__name__}:places", arguments={"how": "mean"})
    spec = esv_ray.load_spec(
        {"features": features, "model": url, "output": str(tmp_path / "out")},
        ["cluster.actors=0", "frames=6"],
        code=["tests"],
    )
    for _ in range(2):
        assert esv_ray.run(spec).exit_code == 0
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert written["model"]["fixed_length"] == [{"length": 4, "how": "mean"}]


@pytest.mark.slow
def test_the_name_costs_nothing_until_it_is_used() -> None:
    code = (
        "import esv_ray, sys; assert 'torch' not in sys.modules; esv_ray.fixed_length; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
