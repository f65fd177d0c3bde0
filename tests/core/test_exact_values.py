"""Interactions and values of given subsequences, from the values of all subsequences: against plain loops over sets."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from torch import Tensor

from esv_ray.core.attribution import Attribution, Extras
from esv_ray.core.engine import Engine
from esv_ray.core.exact import values as exact_values
from esv_ray.core.exact.values import interactions, values_at
from esv_ray.core.games.model import VideoModel, variable_length_model
from esv_ray.core.lattices.lattice import elements_of, full_lattice, index_of
from esv_ray.estimator import Estimator
from tests.conftest import make_heads, make_model, make_prior
from tests.support.oracle import Game, module_game, multiscale_game


def attributed(
    model: VideoModel, features: Tensor, *, output: str = "probability", marginals: bool = False
) -> Attribution:
    """Exact ESVs of a batch (B, n, D), with the values of all subsequences."""
    engine = Engine(
        model,
        Estimator(kind="exact", output=output),  # type: ignore[arg-type]
        memory_budget=2**30,
        extras=Extras(marginals=marginals, values=True),
    )
    batch, n, _ = features.shape
    names = [str(b) for b in range(batch)]
    ((_, result),) = engine.attributions([n] * batch, names, lambda indices: features[indices])
    return result


def interaction(game: Game, n: int, i: int, j: int) -> np.ndarray:
    """By the definition: weighted over the subsequences of the others."""
    others = [element for element in range(n) if element not in (i, j)]
    total = np.zeros(len(game(())))
    for size in range(n - 1):
        weight = factorial(size) * factorial(n - size - 2) / factorial(n - 1)
        for s in combinations(others, size):
            both, first, second = (tuple(sorted((*s, *more))) for more in ((i, j), (i,), (j,)))
            total += weight * (game(both) - game(first) - game(second) + game(s))
    return total


class Recurrent(torch.nn.Module):
    """A module of any length that depends on the order of its elements."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.cell, self.out = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.cell(3 * x)[1][0])
        return logits


def games(features: Tensor, output: str) -> dict[str, tuple[VideoModel, list[Game]]]:
    """Models, and the game of each video by plain code."""
    logits, prior, module = output == "logit", make_prior(3), Recurrent().eval()
    return {
        "multi-scale": (
            make_model(),
            [multiscale_game(make_heads(), video, prior, logits=logits) for video in features],
        ),
        "any length": (
            variable_length_model(module, prior, feature_dim=4),
            [module_game(module, video, prior, logits=logits) for video in features],
        ),
    }


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("kind", ["multi-scale", "any length"])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_interactions_are_those_of_the_definition(n: int, kind: str, output: str) -> None:
    features = torch.randn((2, n, 4), generator=torch.Generator().manual_seed(n))
    model, plain = games(features, output)[kind]
    result = attributed(model, features, output=output)
    assert result.values is not None
    videos, classes = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    empty = model.empty_value(output).float()  # type: ignore[arg-type]
    found = interactions(result.values, empty, n, videos, classes)
    assert found.shape == (3, n * (n - 1) // 2)
    for row, (video, kept) in enumerate(zip(videos.tolist(), classes.tolist(), strict=True)):
        expected = [interaction(plain[video], n, i, j)[kept] for i, j in combinations(range(n), 2)]
        np.testing.assert_allclose(found[row], expected, atol=2e-6)


def test_the_interactions_of_an_element_sum_to_what_it_adds_last_less_what_it_adds_first() -> None:
    """Sum over i of I_ij = v(all) - v(all but j) - v(j) + v(none)."""
    n, features = 5, torch.randn((1, 5, 4), generator=torch.Generator().manual_seed(0))
    model = make_model()
    result = attributed(model, features)
    game = multiscale_game(make_heads(), features[0], make_prior(3))
    assert result.values is not None
    found = interactions(result.values, model.prior.float(), n, torch.tensor([0]), torch.tensor([1]))[0]
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = found
    square += square.T
    everything = tuple(range(n))
    for j in range(n):
        rest = tuple(element for element in everything if element != j)
        expected = game(everything) - game(rest) - game((j,)) + game(())
        assert square[:, j].sum() == pytest.approx(expected[1], abs=2e-6)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_values_are_those_of_their_subsequences(n: int) -> None:
    features = torch.randn((2, n, 4), generator=torch.Generator().manual_seed(n))
    model, plain = games(features, "probability")["multi-scale"]
    result = attributed(model, features)
    assert result.values is not None
    subsequences = [x for s in range(n + 1) for x in combinations(range(n), s)]
    kept = torch.zeros((2, len(subsequences), n), dtype=torch.bool)
    for place, x in enumerate(subsequences):
        kept[:, place, list(x)] = True
    found = values_at(result.values, model.prior.float(), kept)
    for video in range(2):
        expected = np.stack([plain[video](x) for x in subsequences])
        np.testing.assert_allclose(found[video], expected, atol=1e-6)


def test_the_index_of_a_subsequence_is_its_place_in_the_lattice() -> None:
    for n in (1, 5, 9):
        for s, scale in enumerate(full_lattice(n, scales_with_elements=0).scales, start=1):
            kept = torch.zeros((len(scale), n), dtype=torch.bool)
            kept.scatter_(1, elements_of(scale.masks, n, s).long(), True)
            assert index_of(kept).tolist() == list(range(len(scale)))


def test_keeping_values_changes_no_bit_of_the_esvs() -> None:
    features = torch.randn((3, 6, 4), generator=torch.Generator().manual_seed(0))
    kept = attributed(make_model(), features)
    engine = Engine(make_model(), Estimator(kind="exact"), memory_budget=2**30)
    ((_, plain),) = engine.attributions([6] * 3, ["0", "1", "2"], lambda indices: features[indices])
    assert torch.equal(kept.esv, plain.esv)
    assert torch.equal(kept.scores, plain.scores)
    assert plain.values is None


def test_values_of_some_videos() -> None:
    features = torch.randn((3, 4, 4), generator=torch.Generator().manual_seed(0))
    result = attributed(make_model(), features)
    taken = result.take(torch.tensor([2, 0]))
    assert result.values is not None
    assert taken.values is not None
    for whole, part in zip(result.values, taken.values, strict=True):
        assert torch.equal(part, whole[:, [2, 0]])


def test_interactions_of_many_classes_take_little_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts they are the same; found by a review."""
    features = torch.randn((3, 5, 4), generator=torch.Generator().manual_seed(0))
    model = make_model()
    result = attributed(model, features)
    assert result.values is not None
    arguments = result.values, model.prior.float(), 5, torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    whole = interactions(*arguments)
    monkeypatch.setattr(exact_values, "_PRODUCT", 100)
    torch.testing.assert_close(interactions(*arguments), whole)
