"""Models with one class are refused: the softmax of one logit is 1 whatever the features are."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import esv_ray
from esv_ray.cli import cli
from esv_ray.core.games.model import multiscale_model, pooled_model, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.core.games.pooled import CosinePooling
from esv_ray.errors import DataError, ModelError
from esv_ray.models.saving import save_average, save_heads, save_pooled
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train
from tests.conftest import make_heads, make_table
from tests.support.model_bundles import python_bundle, refusal

SAID = "expected at least two classes, got 1: the softmax of one logit is always 1"
TO_DO = "two columns, 0 and x"
ONE = torch.ones(1, dtype=torch.float64)


class Logit(nn.Module):
    """A module with one logit."""

    def __init__(self, columns: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.columns = columns
        nn.init.constant_(self.linear.weight, 0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, sequences: Tensor) -> Tensor:
        x: Tensor = self.linear(sequences.mean(dim=1))
        return x if self.columns == 1 else torch.cat([torch.zeros_like(x), x], dim=1)


@esv_ray.factory
def logit(columns: int = 1) -> nn.Module:
    return Logit(columns)


def check(text: str) -> None:
    assert SAID in text
    assert TO_DO in text


@pytest.mark.parametrize("kind", ["multiscale", "average", "probabilities", "pooled", "python"])
def test_a_bundle_of_one_class_is_not_loaded(tmp_path: Path, kind: str) -> None:
    url = str(tmp_path / "model")
    if kind == "multiscale":
        save_heads(url, make_heads(n_classes=1), ONE)
    elif kind == "pooled":
        save_pooled(url, CosinePooling(torch.ones(1, 4), 1.0), ONE, feature_dim=4)
    elif kind == "python":
        python_bundle(tmp_path / "model", f"{__name__}:logit", n_classes=1)
    else:
        over = "logits" if kind == "average" else "probabilities"
        average = Average(torch.ones(1, 4), torch.zeros(1), input_relu=False, over=over)  # type: ignore[arg-type]
        save_average(url, average, ONE)
    text = refusal(url)
    check(text)
    assert "model.json: n_classes: " in text


def test_the_models_of_python_code_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        multiscale_model(dict(make_heads(n_classes=1)), ONE, feature_dim=4)
    check(str(caught.value))
    with pytest.raises(ModelError) as caught:
        variable_length_model(Logit(), ONE, feature_dim=4)
    check(str(caught.value))
    with pytest.raises(ModelError) as caught:
        pooled_model(CosinePooling(torch.ones(1, 4), 1.0), ONE, feature_dim=4, width=4)
    check(str(caught.value))


def imported(*arguments: str) -> str:
    """The error line of `esv import model`; nothing is written."""
    done = CliRunner().invoke(cli, ["import", "model", *arguments, "--out", "model", "--prior", "uniform"])
    assert done.exit_code != 0
    assert not Path("model").exists()
    return str(done.exception or done.output)


def test_the_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file({"fc.weight": torch.ones(1, 4), "fc.bias": torch.zeros(1)}, "one.safetensors")
    torch.save({"model": {"classifier.weight": torch.ones(1, 4), "classifier.bias": torch.zeros(1)}}, "tsn.pth")
    torch.save(torch.ones(1, 4), "text.pt")
    check(imported("--from", "linear", "--layer", "fc", "one.safetensors"))
    check(imported("--from", "linear", "--layer", "fc", "--over", "probabilities", "one.safetensors"))
    check(imported("--from", "play-fair", "tsn.pth"))
    check(imported("--from", "clip", "text.pt"))
    check(imported("--from", "module", f"{__name__}:logit", "--code", "tests", "--feature-dim", "4"))
    safetensors.torch.save_file({"fc.weight": torch.ones(3, 4), "fc.bias": torch.zeros(3)}, "three.safetensors")
    words = "import model --from linear --layer fc three.safetensors --out cut --outputs a=0:1 --prior a=uniform"
    done = CliRunner().invoke(cli, words.split())
    check(str(done.exception))
    assert not Path("cut").exists()


def test_two_columns_are_the_sigmoid(tmp_path: Path) -> None:
    """What the message advises."""
    url = python_bundle(tmp_path / "model", f"{__name__}:logit", n_classes=2, arguments={"columns": 2})
    features = torch.randn((3, 4), generator=torch.Generator().manual_seed(0))
    result = esv_ray.explain(esv_ray.load_model(url, code="tests"), features)
    expected = Logit()(features[None])[0, 0].sigmoid()
    torch.testing.assert_close(torch.as_tensor(result.scores)[1].float(), expected.detach())


def test_nothing_is_trained_for_one_class(tmp_path: Path) -> None:
    table = tmp_path / "train.parquet"
    pq.write_table(make_table([3] * 8, n_classes=1), table)
    keys = {"features": str(table), "output": str(tmp_path / "model"), "n_max": 2}
    with pytest.raises(DataError, match="expected videos of at least two classes, got only class 0"):
        train(load_train_spec(keys))
