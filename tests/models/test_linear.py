"""The last linear layer of any checkpoint: F is the mean over elements of its outputs, or of their softmax."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from esv_ray.cli import cli
from esv_ray.errors import ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.sources.linear import read_linear
from tests.support.oracle import esv_by_orders

D, C = 5, 4


class Torchvision(nn.Module):
    """The layers of a residual network, from their names: `fc` after pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, D, 3), nn.BatchNorm2d(D))
        self.fc = nn.Linear(D, C)


class Sequential(nn.Module):
    """`classifier.<i>`, with a hidden layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 1))
        self.classifier = nn.Sequential(nn.Linear(2, D), nn.ReLU(), nn.Dropout(), nn.Linear(D, C))


class Blocks(nn.Module):
    """pytorchvideo's `blocks.<i>.proj`."""

    def __init__(self) -> None:
        super().__init__()
        head = nn.Module()
        head.proj = nn.Linear(D, C)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv3d(3, D, 1)), head])


class SlowFast(nn.Module):
    """SlowFast's `head.projection`."""

    def __init__(self) -> None:
        super().__init__()
        self.s1 = nn.Conv3d(3, 2, 1)
        self.head = nn.Module()
        self.head.projection = nn.Linear(D, C)


class Transformer(nn.Module):
    """Hugging Face's `classifier`, and a number that scales attention."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, 2 * D), nn.Linear(2 * D, D), nn.LayerNorm(D))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.classifier = nn.Linear(D, C)


class Convolution(nn.Module):
    """A convolution of one position, without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, D, 3)
        self.logits = nn.Conv3d(D, C, 1, bias=False)


MODELS: dict[str, tuple[type[nn.Module], str]] = {
    "torchvision": (Torchvision, "fc"),
    "classifier.N": (Sequential, "classifier.3"),
    "pytorchvideo": (Blocks, "blocks.1.proj"),
    "SlowFast": (SlowFast, "head.projection"),
    "Hugging Face": (Transformer, "classifier"),
    "convolution": (Convolution, "logits"),
}


@pytest.fixture
def prior(tmp_path: Path) -> str:
    (tmp_path / "prior.csv").write_text("class,prior\n0,0.4\n1,0.3\n2,0.2\n3,0.1\n")
    return str(tmp_path / "prior.csv")


def ran(tmp_path: Path, content: object, prior: str, *options: str) -> Result:
    torch.save(content, tmp_path / "model.pth")
    words = ["import", "model", "--from", "linear", "--prior", prior, "--out", str(tmp_path / "bundle")]
    return CliRunner().invoke(cli, [*words, *options, str(tmp_path / "model.pth")])


def probabilities(layer: nn.Module, features: Tensor, over: str) -> Tensor:
    """F of one sequence (n, D), from the layer itself."""
    elements = features[..., None, None, None] if isinstance(layer, nn.Conv3d) else features
    with torch.no_grad():
        logits: Tensor = layer(elements).flatten(1)
    return logits.softmax(dim=1).mean(dim=0) if over == "probabilities" else logits.mean(dim=0).softmax(dim=0)


@pytest.mark.parametrize("over", ["logits", "probabilities"])
@pytest.mark.parametrize("name", MODELS)
def test_esvs_are_those_of_the_layer(tmp_path: Path, prior: str, name: str, over: str) -> None:
    """Against all orders of the elements."""
    torch.manual_seed(0)
    make, layer = MODELS[name]
    module = make()
    done = ran(tmp_path, {"state_dict": module.state_dict()}, prior, "--layer", layer, "--over", over)
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"linear layer {layer}, D = {D}, C = {C}" in done.output
    assert f"mean of the {over} of the elements" in done.output
    assert "not used" in done.output
    features = torch.randn((4, D), generator=torch.Generator().manual_seed(1))
    result = explain(load_model(str(tmp_path / "bundle")), features)
    assert result.exact
    chosen = module.get_submodule(layer)

    def game(kept: tuple[int, ...]) -> npt.NDArray[np.float64]:
        values = probabilities(chosen, features[list(kept)], over) if kept else result.prior
        return values.double().numpy()

    assert np.allclose(result.scores, game((0, 1, 2, 3)), atol=1e-6)
    assert np.allclose(result.esv, esv_by_orders(game, 4), atol=1e-6)


WRAPS: list[Callable[[nn.Module], object]] = [
    lambda module: module.state_dict(),
    lambda module: {"model": {f"module.{name}": tensor for name, tensor in module.state_dict().items()}},
    lambda module: {"state_dict": {f"model.{name}": tensor for name, tensor in module.state_dict().items()}},
    lambda module: {"state_dict": {f"backbone.{name}": tensor for name, tensor in module.state_dict().items()}},
    lambda module: {"model": module, "epoch": 3},
    lambda module: {"state_dict": module.state_dict(), "state_dict_ema": module.state_dict(), "arch": "resnet"},
    lambda module: {
        "model_state": module.state_dict(),
        "optimizer_state": torch.optim.Adam(module.parameters()).state_dict(),
    },
]


@pytest.mark.parametrize("number", range(len(WRAPS)))
def test_however_it_is_wrapped(tmp_path: Path, prior: str, number: int) -> None:
    torch.manual_seed(0)
    module = Torchvision()
    done = ran(tmp_path, WRAPS[number](module), prior, "--layer", "fc")
    assert done.exit_code == 0, (done.output, done.exception)
    weight = safetensors.torch.load_file(tmp_path / "bundle" / "head-01.safetensors")["weight"]
    assert torch.equal(weight, module.fc.weight)


@pytest.mark.parametrize("name", ["linear", "1", "fc"])
def test_a_file_of_one_linear_layer(tmp_path: Path, prior: str, name: str) -> None:
    """Saved alone, as a module or as a state dict, in the file or under a key; then its name is that key."""
    layer = nn.Linear(D, C)
    for place, content in enumerate((layer, layer.state_dict())):
        folder = tmp_path / str(place)
        folder.mkdir()
        result = ran(folder, content if name == "linear" else {name: content}, prior)
        assert result.exit_code == 0, result.exception
        assert f"linear layer {name}, D = {D}, C = {C}" in result.output
        assert torch.equal(load_model(str(folder / "bundle")).scorer.weight, layer.weight)  # type: ignore[arg-type]
    path = tmp_path / "other.pth"
    torch.save({name: layer}, path)
    with pytest.raises(ModelError, match=rf"expected a linear layer x .--layer.; the file has: {name} .{C} outputs"):
        read_linear(str(path), layer="x")
    assert read_linear(str(path), layer=name).n_classes == C


def test_what_is_not_used_is_counted(tmp_path: Path, prior: str) -> None:
    done = ran(tmp_path, Torchvision().state_dict(), prior, "--layer", "fc")
    assert "conv1.* (2 tensors), bn1.* (5 tensors), layer1.* (7 tensors)" in done.output
    assert json.loads((tmp_path / "bundle" / "model.json").read_text())["kind"] == "average"


def test_what_may_come_after_the_layer_is_noted(tmp_path: Path, prior: str) -> None:
    state = {**Transformer().state_dict(), "other.weight": torch.zeros(9, C)}
    done = ran(tmp_path, state, prior, "--layer", "classifier")
    assert "numbers that are taken to come before the features: logit_scale" in done.output
    assert "layers with C inputs, which are taken to come before the features: other" in done.output


FC = {"fc.weight": torch.zeros(C, D), "fc.bias": torch.zeros(C)}


@pytest.mark.parametrize(
    ("state", "layer", "parts"),
    [
        (Sequential().state_dict(), None, ("expected --layer", "classifier.3 (4 outputs of 5 inputs), classifier.0")),
        (Transformer().state_dict(), None, ("the file has: classifier (4 outputs of 5 inputs), ",)),
        (Torchvision().state_dict(), "head", ("expected a linear layer head (--layer)", "fc (4 outputs of 5 inputs)")),
        (Sequential().state_dict(), "classifier.0", ("expected the last layer, got one before classifier.3",)),
        ({"conv.weight": torch.zeros(2, 2, 3, 3)}, "fc", ("the file has: none",)),
        ({**FC, "aux.fc.weight": torch.zeros(C, D), "b.fc.weight": torch.zeros(C, D)}, "fc", ()),
        ({f"{a}.{name}": t for a in "ab" for name, t in FC.items()}, "fc", ("several", "b.fc (4", "a.fc (4")),
        ({**FC, "fc.weight_g": torch.zeros(C, 1)}, "fc", ("a weight and a bias alone", "fc.weight_g")),
        ({**FC, "fc.lora.weight": torch.zeros(C, 1)}, "fc", ("fc.lora.weight",)),
        ({**FC, "fc.bias": torch.zeros(3)}, "fc", ("expected a bias (4,), got (3,)",)),
        ({**FC, "fc.weight": torch.full((C, D), torch.nan)}, "fc", ("fc.weight", "finite")),
        ({**FC, "fc.bias": torch.zeros(C).long()}, "fc", ("fc.bias", "floating-point")),
        ({"state_dict": FC, "mean": torch.zeros(D)}, "fc", ("tensors under 'mean'",)),
    ],
    ids=range(13),
)
def test_layers_that_do_not_fit(tmp_path: Path, state: object, layer: str | None, parts: tuple[str, ...]) -> None:
    path = str(tmp_path / "model.pth")
    torch.save(state, path)
    if not parts:
        assert read_linear(path, layer=layer).found == "linear layer fc"
        return
    with pytest.raises(ModelError) as caught:
        read_linear(path, layer=layer)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert all(part in text for part in parts), text


def test_names_from_the_file_reach_no_terminal_as_they_are(tmp_path: Path, prior: str) -> None:
    state = {"\x1b[31m\nx.fc.weight": torch.zeros(C, D), "\x1b[31my.weight": torch.zeros(2)}
    done = ran(tmp_path, state, prior, "--layer", "fc")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "\x1b" not in done.output
    assert len(done.output.splitlines()) == 6


def test_outputs_that_overlap_are_noted(tmp_path: Path, prior: str) -> None:
    words = ["--layer", "fc", "--outputs", "a=0:3", "--outputs", "b=2:4", "--prior", "b=uniform"]
    done = ran(tmp_path, Torchvision().state_dict(), "a=uniform", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "note     outputs: column 2 is kept in more than one bundle" in done.output


def test_outputs_are_cut(tmp_path: Path, prior: str) -> None:
    (tmp_path / "two.csv").write_text("class,prior\n0,0.5\n1,0.5\n")
    module = Torchvision()
    words = ["--layer", "fc", "--outputs", "a=0:2", "--prior", f"a={tmp_path / 'two.csv'}"]
    done = ran(tmp_path, module.state_dict(), f"b={tmp_path / 'two.csv'}", *words, "--outputs", "b=2:4")
    assert done.exit_code == 0, (done.output, done.exception)
    kept = [safetensors.torch.load_file(tmp_path / "bundle" / n / "head-01.safetensors")["weight"] for n in ("a", "b")]
    assert torch.equal(torch.cat(kept), module.fc.weight)
