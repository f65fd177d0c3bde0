"""Probabilities from scores in bits: the softmax, in any range; and the models whose chunks take the shorter way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.exact.probabilities import BITS, probabilities
from esv_ray.core.games.model import VideoModel, multiscale_model
from esv_ray.core.workspace import Workspace
from tests.conftest import make_heads, make_prior
from tests.core.test_attribution import exact, random_features

CPU = torch.device("cpu")
MANY, FEW = 400, 5  # rows, of 3 x 18 numbers: above and below the size from which the shorter way is taken


def random_scores(rows: int, spread: float) -> Tensor:
    """(R, 3, 18) scores of 16 classes, and two idle columns."""
    scores = spread * torch.randn((rows, 3, 18), generator=torch.Generator().manual_seed(0))
    scores[..., 16:] = -torch.inf
    return scores


def baseline() -> Tensor:
    out = torch.rand((3, 18), generator=torch.Generator().manual_seed(1))
    out[:, 16:] = 0
    return out


def in_bits(scores: Tensor, kept: Tensor | None = None) -> Tensor:
    workspace = Workspace(CPU, scores.dtype)
    return probabilities(scores * BITS, baseline().to(scores.dtype), workspace, kept, unit=BITS)


@pytest.mark.parametrize("rows", [MANY, FEW])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0, 1e3])
@pytest.mark.parametrize("shift", [0.0, 40.0, -30.0, 300.0, -300.0])
def test_they_are_the_softmax_minus_the_baseline(rows: int, spread: float, shift: float) -> None:
    """The sums of a shift of 300, and of a spread of 1,000, are beyond float32: they take the softmax."""
    scores = random_scores(rows, spread) + shift
    kept = torch.empty_like(scores)
    found = in_bits(scores, kept)
    expected = scores.double().softmax(dim=-1)
    rounding = 1e-6 + 2e-7 * (abs(shift) + 4 * spread)  # of scores in float32
    assert (found - (expected - baseline())).abs().max() < rounding
    assert (kept - expected).abs().max() < rounding
    assert (found[..., 16:] == 0).all(), "idle columns"
    assert torch.equal(in_bits(scores), found), "keeping the probabilities changes no bit"


def test_scores_in_range_take_the_shorter_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> Tensor:
        raise AssertionError("softmax")

    monkeypatch.setattr(torch, "softmax", forbidden)
    in_bits(random_scores(MANY, 8.0))
    for row in (100.0, -100.0):  # one row is enough
        scores = random_scores(MANY, 8.0)
        scores[7, 1] += row
        with pytest.raises(AssertionError, match="softmax"):
            in_bits(scores)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_score_that_is_no_number_spoils_its_own_row_only(wrong: float) -> None:
    scores = random_scores(MANY, 1.0)
    scores[3, 1, 2] = wrong
    found = in_bits(scores)
    assert found[3, 1, :16].isnan().any()
    found[3, 1] = 0
    assert found.isfinite().all()


def shifted(by: float, gain: float) -> VideoModel:
    """A model in float64, whose logits are all larger by a number."""
    heads = make_heads(n_classes=18, n_max=4, gain=gain)
    for head in heads.values():
        last = head.double().linears[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.add_(by)
    return multiscale_model(heads, make_prior(18), feature_dim=4)


@pytest.mark.parametrize("gain", [2.0, 60.0])
@pytest.mark.parametrize("n", [6, 13])
def test_a_shift_of_all_logits_changes_nothing(n: int, gain: float) -> None:
    """In float64 to its rounding, whichever way a chunk takes; in float32 ESVs stay efficient."""
    features = random_features(1, n)
    plain = exact(shifted(0.0, gain), features.double())
    for by in (-400.0, -30.0, 60.0, 400.0):
        model = shifted(by, gain)
        double = exact(model, features.double())
        assert (double.esv - plain.esv).abs().max() < 1e-10
        single = exact(model.to(dtype=torch.float32), features)
        assert (single.esv - plain.esv).abs().max() < 1e-6 * (10 + gain + abs(by))
        gap = single.esv.sum(dim=1) - (single.scores - model.prior)
        assert gap.abs().max() < 5e-7 * max(1, gain / 2), "thousands of values near one round in one direction"
