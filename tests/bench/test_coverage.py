"""The benchmark of coverage: what it prints, what it refuses, and that factors change confidence alone."""

from __future__ import annotations

import pytest
import torch

from esv_ray.bench import coverage
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.games.model import variable_length_model
from esv_ray.errors import ModelError


def test_factors_change_how_sure_a_model_is_and_not_what_it_predicts() -> None:
    model = random_model(Dimensions(feature_dim=3, hidden=4, n_classes=3, n_max=2))
    features = torch.randn((4, 5, 3), generator=torch.Generator().manual_seed(0))
    plain, same, sharp = (
        coverage.truth_of(m, features) for m in (model, *(coverage.sharpened(model, f) for f in (1, 50)))
    )
    assert torch.equal(plain.esv, same.esv)
    assert torch.equal(plain.predicted, sharp.predicted)
    assert 1 / 3 < plain.sharpness < sharp.sharpness <= 1
    other = variable_length_model(torch.nn.Identity(), torch.full((3,), 1 / 3), feature_dim=3)
    with pytest.raises(ModelError, match="heads that are MLPs"):
        coverage.sharpened(other, 2)


def test_it_prints_a_row_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    coverage.main(["-n", "5", "-n", "7", "-m", "16", "--factor", "10", "--videos", "2", "--names", "2", "--seeds", "1"])
    header, short, long, _ = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "n factor sharpness m cover pred. class largest error stderr own"
    assert short.split()[-1] == "exact", "16 subsequences per length are all of 5 elements"
    assert long.split()[:2] == ["7", "10"]
    assert 50 < float(long.split()[4]) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "17"], "-n of 2 to 16"),
        (["-m", "8"], "-m of 16 or more"),
        (["--factor", "0"], "factors above 0"),
        (["--names", "0"], "1 or more"),
        (["--model", "somewhere"], "--model and --features"),
    ],
)
def test_it_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        coverage.main(arguments)
    assert message in capsys.readouterr().err
