"""esv import model --from module: one's own modules, their weights in the bundle, explained as by brute force."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import esv_ray
from esv_ray.errors import EsvError
from esv_ray.models.module_weights import load_weights, weights_of
from tests.conftest import make_prior
from tests.support.command import run
from tests.support.model_bundles import edit, refusal
from tests.support.oracle import Game, esv_by_orders, module_game, multiscale_game
from tests.support.s3_server import S3Server

JOBS = Path(__file__).parents[2] / "jobs"
EXAMPLES = ("gru", "transformer", "tsn", "trn", "clip_zero_shot")
C, D = 9, 12  # of the demo's recordings


class Command:
    """Runs `esv import model --from module` in this process; the folder of a user's is the working folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)

    def module(self, name: str, text: str) -> None:
        """Write a module of the user's."""
        (self.folder / f"{name}.py").write_text(f"import esv_ray, torch, random\nfrom torch import nn\n{text}")

    def prior(self, n_classes: int) -> str:
        rows = [f"{index},{p}" for index, p in enumerate(make_prior(n_classes).tolist())]
        (self.folder / f"prior-{n_classes}.csv").write_text("\n".join(["class,prior", *rows]) + "\n")
        return f"prior-{n_classes}.csv"

    def __call__(
        self, factory: str, *options: str, n_classes: int = C, out: str = "model", code: str = "", of: str = ""
    ) -> Any:
        """Exit code, standard output and standard error."""
        arguments = [
            "import",
            "model",
            "--from",
            "module",
            factory,
            "--out",
            out,
            "--prior",
            of + self.prior(n_classes),
        ]
        arguments += ["--code", code or factory.partition(":")[0].partition(".")[0]]
        return run(*arguments, *options, monkeypatch=self.monkeypatch, capsys=self.capsys)

    def refusal(self, factory: str, *options: str, **keys: Any) -> str:
        """The one line with which the command refuses; nothing is written."""
        code, out, err = self(factory, *options, **keys)
        assert (code, out) == (2, ""), err
        assert not Path("model").exists()
        assert err.count("\n") == 1, err
        assert err.startswith("esv: ")
        return str(err)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    before = set(sys.modules)
    path = list(sys.path)
    yield Command(tmp_path, monkeypatch, capsys)
    assert sys.path == path, "the working folder is importable only while the user's code runs"
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith((str(tmp_path), str(JOBS))):
            del sys.modules[name]


def recording(n: int) -> Tensor:
    """n evenly spaced frames of a recording (n, D)."""
    row = pq.read_table(JOBS / "demo" / "test.parquet").slice(7, 1).column("features")[0].as_py()
    frames = torch.tensor(row)
    return frames[[int((i + 0.5) * len(frames) / n) for i in range(n)]]


def game_of(modules: Any, features: Tensor, n_classes: int = C) -> Game:
    if isinstance(modules, dict):
        return multiscale_game({s: module.eval() for s, module in modules.items()}, features, make_prior(n_classes))
    return module_game(modules.eval(), features, make_prior(n_classes))


# --- the examples


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_brought_in_by_one_command_and_explained(name: str, command: Command) -> None:
    """Weights in a file, n below and above eight frames and n_max; the ESVs are those of brute force."""
    (command.folder / f"{name}.py").write_bytes((JOBS / "models" / f"{name}.py").read_bytes())
    command.monkeypatch.syspath_prepend(command.folder)
    made = import_module(name).make()
    command.monkeypatch.undo()
    command.monkeypatch.chdir(command.folder)
    del sys.modules[name]
    weights = {key: tensor.clone() for key, tensor in weights_of(made).items()}
    save_file(weights, command.folder / "own.safetensors")
    code, out, err = command(f"{name}:make", "--weights", "own.safetensors")
    assert code == 0, err
    assert out.startswith("found ")
    assert "D = 12, C = 9" in out
    assert f"own.safetensors: {len(weights)} tensors" in out
    written = json.loads(Path("model/model.json").read_text())
    assert (written["kind"], written["factory"], written["weights"]) == (
        "pooled" if name == "clip_zero_shot" else "python",
        f"{name}:make",
        "weights.safetensors",
    )
    assert written["n_max"] == (4 if name == "trn" else None)
    assert written.get("fixed_length") == ([{"length": 8, "how": "interpolate"}] if name == "transformer" else None)
    model = esv_ray.load_model("model", code=name)
    assert (model.feature_dim, model.n_classes) == (D, C)
    for n in (1, 3, 6):
        features = recording(n)
        result = esv_ray.explain(model, features)
        assert result.exact
        np.testing.assert_allclose(result.esv, esv_by_orders(game_of(made, features), n), atol=2e-6)


def test_the_clip_like_example_is_pooled(command: Command) -> None:
    """Its sums may be formed once: a subsequence costs one addition."""
    command.monkeypatch.syspath_prepend(JOBS / "models")
    model, features = import_module("clip_zero_shot").make(), torch.randn(5, D)
    command.monkeypatch.undo()
    encoded = model.encode(features)
    for kept in ([0], [1, 3], [0, 2, 4], [0, 1, 2, 3, 4]):
        total, size = encoded[kept].sum(dim=0, keepdim=True), torch.tensor([float(len(kept))])
        torch.testing.assert_close(model.decode(total, size), model(features[kept][None]))
    cosine = nn.functional.cosine_similarity(nn.functional.normalize(features, dim=1).mean(dim=0), model.texts, dim=1)
    torch.testing.assert_close(model(features[None])[0], 100 * cosine)


POOLED = """
class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(12, 20), nn.Linear(21, 9)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    def encode(self, x):
        return self.inner(x).tanh()
    def decode(self, sums, sizes):
        return self.out(torch.cat([sums, sizes[:, None]], dim=1))
class Other(Summed):
    def forward(self, x):
        return self.out(nn.functional.pad(self.encode(x).amax(dim=1), (0, 1)))
class Broken(Summed):
    def decode(self, sums, sizes):
        return self.out(sums)
@esv_ray.factory
def summed():
    return Summed()
@esv_ray.factory
def other():
    return Other()
@esv_ray.factory
def broken():
    return Broken()
"""


def test_modules_with_encode_and_decode(command: Command) -> None:
    """Without a forward pass, F is decode of the sum; a forward pass that is something else is F itself."""
    command.module("own", POOLED)
    features = recording(5)
    for name, kind in (("summed", "pooled"), ("other", "python")):
        code, out, err = command(f"own:{name}", out=name)
        assert code == 0, err
        assert ("F        decode(sum of encode(x)" in out) == (kind == "pooled")
        assert json.loads(Path(name, "model.json").read_text())["kind"] == kind
        model = esv_ray.load_model(name, code="own")
        module = getattr(sys.modules["own"], name)()
        if kind == "pooled":
            module.forward = lambda x, own=module: own.decode(own.encode(x).sum(dim=1), torch.full((1,), x.shape[1]))
        result = esv_ray.explain(model, features)
        assert result.exact
        np.testing.assert_allclose(result.esv, esv_by_orders(game_of(module, features), 5), atol=2e-6)
    text = command.refusal("own:broken", "--feature-dim", "12")
    assert "fails on features (2, 1, 12): RuntimeError: mat1 and mat2 shapes cannot be multiplied" in text
    assert "fixed_length" not in text
    text = command.refusal("own:broken")
    assert text.startswith("esv: factory: the module of scale 1 fails on features (2, 1, ")
    assert "so it fails with each size of its tensors as the number of features" in text


@pytest.mark.slow
def test_a_job_from_the_folder_where_the_module_is(tmp_path: Path) -> None:
    """In processes of their own: the command, and an actor of a local Ray; nothing is installed."""
    folder = JOBS / "models"
    torch.manual_seed(0)
    weights = tmp_path / "gru.safetensors"
    code = f"import gru, safetensors.torch as s; s.save_file(gru.make().state_dict(), {str(weights)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    rows = "\n".join(f"{index},{p}" for index, p in enumerate(make_prior(C).tolist()))
    (tmp_path / "prior.csv").write_text(f"class,prior\n{rows}\n")
    pq.write_table(pq.read_table(JOBS / "demo" / "test.parquet").slice(0, 5), tmp_path / "features.parquet")
    model, out = str(tmp_path / "model"), str(tmp_path / "out")
    esv = [sys.executable, "-c", "import sys; sys.path[0:1] = []; from esv_ray.__main__ import main; main()"]
    prior, features = str(tmp_path / "prior.csv"), str(tmp_path / "features.parquet")
    commands = [
        f"import model --from module gru:make --code gru --weights {weights} --out {model} --prior {prior}",
        f"attribute --features {features} --model {model} --output {out} --code gru --set frames=4 "
        "--set cluster.actors=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(esv_ray.__file__).parents[1])}
    for each in commands:
        done = subprocess.run(
            [*esv, *each.split()], cwd=folder, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
    assert "5 videos: 5 ok" in done.stdout


# --- weights in the bundle

NET = """
class Net(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.norm, self.gru, self.out = nn.BatchNorm1d(12), nn.GRU(12, hidden, batch_first=True), nn.Linear(hidden, 9)
        self.tied = self.out
        self.register_buffer("steps", torch.arange(3))
    def forward(self, x):
        return self.out(self.gru(self.norm(x.mT).mT)[1][0])
@esv_ray.factory
def make(hidden: int = 8):
    return Net(hidden)
@esv_ray.factory
def eight(hidden: int = 8):
    return esv_ray.fixed_length(Net(hidden), 8, "mean")
@esv_ray.factory
def heads(hidden: int = 8):
    return {s: Net(hidden) for s in (2, 3)}
"""


def trained(command: Command, *factories: str, hidden: int = 8) -> dict[str, Tensor]:
    """Write a module, and files with weights of what its factories return; return the last."""
    command.module("nets", NET)
    weights = dict[str, Tensor]()
    for name in factories:
        namespace: dict[str, Any] = {"__name__": "nets"}
        exec((command.folder / "nets.py").read_text(), namespace)
        weights = {key: tensor.clone() for key, tensor in weights_of(namespace[name](hidden)).items()}
        save_file(weights, command.folder / f"{name}.safetensors")
    return weights


def test_weights_are_those_of_the_file(command: Command) -> None:
    """Tied weights, integer buffers, running statistics; names of the module inside, and by scale."""
    digests = set()
    for name in ("make", "eight", "heads"):
        weights = trained(command, name, hidden=5)
        arguments = ["--weights", f"{name}.safetensors", "--argument", "hidden=5"]
        assert command(f"nets:{name}", *arguments, out=name)[0] == 0
        model = esv_ray.load_model(name, code="nets")
        loaded = list(model.scorer.state_dict().items())
        for key, tensor in weights.items():
            inner = key.partition(".")[2] if name == "heads" else key
            assert any(own.endswith(inner) and torch.equal(values, tensor) for own, values in loaded), key
        digests.add(model.digest)
    assert len(digests) == 3
    assert {key.partition(".")[0] for key in weights} == {"2", "3"}


@pytest.mark.slow
def test_tied_weights_may_be_given_once(command: Command) -> None:
    weights = trained(command, "make")
    once = {key: tensor for key, tensor in weights.items() if not key.startswith("tied.")}
    save_file(once, command.folder / "once.safetensors")
    assert command("nets:make", "--weights", "make.safetensors", out="twice")[0] == 0
    assert command("nets:make", "--weights", "once.safetensors", out="once")[0] == 0
    features = recording(3)
    one, other = (esv_ray.explain(esv_ray.load_model(url, code="nets"), features) for url in ("once", "twice"))
    assert torch.equal(one.esv, other.esv)


def test_weights_are_part_of_the_model(command: Command) -> None:
    weights = trained(command, "make")
    assert command("nets:make", "--weights", "make.safetensors")[0] == 0
    before = esv_ray.load_model("model", code="nets")
    assert before.digest == esv_ray.load_model("model", code="nets").digest
    weights["out.bias"] = weights["tied.bias"] = weights["out.bias"] + 1e-6
    save_file({key: tensor.clone() for key, tensor in weights.items()}, "model/weights.safetensors")
    assert esv_ray.load_model("model", code="nets").digest != before.digest


@pytest.mark.slow
def test_a_bundle_on_s3_with_weights_on_s3(command: Command, s3: S3Server) -> None:
    from esv_ray import storage

    trained(command, "make")
    place = f"s3://{s3.bucket}/modules"
    storage.replace(f"{place}/own.safetensors", Path("make.safetensors").read_bytes(), "write the weights")
    code, _, err = command("nets:make", "--weights", f"{place}/own.safetensors", out=f"{place}/model")
    assert code == 0, err
    assert command("nets:make", "--weights", "make.safetensors", out="here")[0] == 0
    there, here = (esv_ray.load_model(url, code="nets") for url in (f"{place}/model", "here"))
    assert there.digest == here.digest


def test_weights_of_another_module_are_refused(command: Command) -> None:
    weights = trained(command, "make")
    wrong: dict[str, tuple[dict[str, Tensor], str]] = {
        "missing": (
            {k: v for k, v in weights.items() if "gru" not in k},
            "missing: gru.weight_ih_l0, gru.weight_hh_l0",
        ),
        "more": ({**weights, "extra": torch.zeros(1)}, "not in the module: extra"),
        "prefix": ({f"module.{k}": v for k, v in weights.items()}, "not in the module: module."),
        "shape": ({**weights, "out.bias": torch.zeros(3)}, "out.bias (3,) float32, in the module (9,) float32"),
        "type": ({**weights, "steps": torch.zeros(3)}, "steps (3,) float32, in the module (3,) int64"),
        "none": ({}, "0 are given; missing: "),
    }
    for name, (tensors, message) in wrong.items():
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, f"{name}.safetensors")
        text = command.refusal("nets:make", "--weights", f"{name}.safetensors")
        assert text.startswith("esv: weights: expected the 14 tensors of the module that the factory returns, "), text
        assert message in text
    assert command("nets:make", "--weights", "make.safetensors")[0] == 0
    Path("model/weights.safetensors").write_bytes(Path("shape.safetensors").read_bytes())
    assert wrong["shape"][1] in refusal("model", code="nets")


@pytest.mark.slow
def test_weights_of_a_torch_checkpoint_become_safetensors(command: Command) -> None:
    """A state dict alone, or nested beside training state, and named as by a wrapper; shared memory stays apart."""
    weights = trained(command, "make")
    weights["tied.bias"] = weights["out.bias"]
    assert command("nets:make", "--weights", "make.safetensors", out="safe")[0] == 0
    digest = esv_ray.load_model("safe", code="nets").digest
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(24, 12)}}}
    for name, content in {
        "alone": weights,
        "nested": {"epoch": 3, "state_dict": wrapped, "optimizer": optimizer},
        "lightning": {"state_dict": {f"net.{name}": tensor for name, tensor in weights.items()}, "epoch": 1},
    }.items():
        torch.save(content, f"{name}.pth")
        code, out, err = command("nets:make", "--weights", f"{name}.pth", out=name)
        assert code == 0, err
        assert f"{name}.pth: 14 tensors" in out
        assert ("not used optimizer (1 tensor)" in out) == (name == "nested")
        assert esv_ray.load_model(name, code="nets").digest == digest
    weights["more.weight"] = torch.zeros(2, 2)
    torch.save(weights, "more.pth")
    assert "not in the module: more.weight" in command.refusal("nets:make", "--weights", "more.pth")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_no_file_of_weights_runs_code(command: Command) -> None:
    weights = trained(command, "make")
    for name, content in {"evil": {**weights, "evil": Evil()}, "alone": Evil()}.items():
        torch.save(content, f"{name}.pth")
        command("nets:make", "--weights", f"{name}.pth", out=name)
        assert not Path("ran").exists()
    Path("text.safetensors").write_text("no weights")
    Path("text.pth").write_text("no weights")
    for name in ("text.safetensors", "text.pth"):
        assert f"{name}: expected a " in command.refusal("nets:make", "--weights", name)
    for name in ("none.safetensors", "none.pth"):
        text = command.refusal("nets:make", "--weights", name)
        assert text.startswith("esv: cannot read the "), text
        assert name in text


def test_bundles_hold_safetensors_only(command: Command) -> None:
    weights = trained(command, "make")
    torch.save(weights, "own.pth")
    assert command("nets:make", "--weights", "own.pth")[0] == 0
    Path("model/weights.safetensors").write_bytes(Path("own.pth").read_bytes())
    assert "weights.safetensors: expected a safetensors file, got a torch checkpoint" in refusal("model", code="nets")
    Path("model/weights.safetensors").unlink()
    with pytest.raises(EsvError, match=r"weights\.safetensors"):
        esv_ray.load_model("model", code="nets")
    Path("model/weights.safetensors").symlink_to(command.folder / "make.safetensors")
    assert "got a link out of it" in refusal("model", code="nets")


def test_weights_stand_at_one_name_in_bundles_of_modules_only(command: Command, bundle: str) -> None:
    trained(command, "make")
    assert command("nets:make", "--weights", "make.safetensors", out="own")[0] == 0
    for name in ("../make.safetensors", "make.safetensors", ""):
        edit("own", weights=name)
        assert "weights: Input should be 'weights.safetensors'" in refusal("own", code="nets")
    edit(bundle, weights="weights.safetensors")
    assert "weights: expected null for the kind multiscale" in refusal(bundle)


def test_loading_weights_changes_no_module_when_they_are_refused() -> None:
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    with pytest.raises(EsvError):
        load_weights(module, {"weight": torch.zeros(2, 2)})
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("form", ["state dicts", "modules", "numbers", "nested", "joined"])
def test_weights_by_scale(form: str, command: Command) -> None:
    """However a checkpoint keeps the modules of {s: module}; without scales, the message says how names begin."""
    command.module("own", MODULES + "@esv_ray.factory\ndef heads():\n    return {1: Mean(), 2: Mean()}\n")
    states = {s: {"linear.weight": torch.full((9, 12), float(s)), "linear.bias": torch.zeros(9)} for s in (1, 2)}
    modules = {}
    for s, state in states.items():
        modules[str(s)] = nn.Module()
        modules[str(s)].linear = nn.Linear(12, 9)
        modules[str(s)].load_state_dict(state)
    content: dict[str, Any] = {
        "state dicts": {str(s): state for s, state in states.items()},
        "modules": modules,
        "numbers": states,
        "nested": {"epoch": 3, "state_dict": {str(s): state for s, state in states.items()}},
        "joined": nn.ModuleDict(modules).state_dict(),
    }
    torch.save(content[form], command.folder / "heads.pth")
    code, _, err = command("own:heads", "--weights", "heads.pth")
    assert code == 0, err
    esv_ray.load_model("model", code="own")
    written = load_file("model/weights.safetensors")
    assert [float(written[f"{s}.linear.weight"][0, 0]) for s in (1, 2)] == [1.0, 2.0]
    with pytest.raises(EsvError) as caught:
        load_weights({1: nn.Linear(2, 2), 2: nn.Linear(2, 2)}, nn.Linear(2, 2).state_dict())
    assert "each name begins with its scale, as 1.weight" in str(caught.value)


def test_an_error_in_the_module_is_told_from_a_module_that_is_missing(command: Command) -> None:
    command.module("own", "import esv_that_is_nowhere\n")
    text = command.refusal("own:make")
    assert "own was found, but an error is raised while it is imported: ModuleNotFoundError: No module named" in text
    assert "is it installed" not in text
    assert "cannot import missing_module, is it installed" in command.refusal("missing_module:make")


# --- what is refused

MODULES = """
class Mean(nn.Module):
    def __init__(self, extra=lambda out: out):
        super().__init__()
        self.linear, self.extra = nn.Linear(12, 9), extra
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)
    def forward(self, x):
        return self.extra(self.linear(x.cumsum(dim=1)).mean(dim=1))
@esv_ray.factory
def plain(**arguments):
    return Mean()
@esv_ray.factory
def dropout():
    return Mean(lambda out: nn.functional.dropout(out, 0.5))
@esv_ray.factory
def drawn_frames():
    class Drawn(Mean):
        def forward(self, x):
            return super().forward(x[:, torch.randperm(x.shape[1])[:3].sort().values])
    return Drawn()
@esv_ray.factory
def drawn_order():
    order = torch.randperm(9)
    return Mean(lambda out: out + torch.arange(9.0)[order])
@esv_ray.factory
def drawn_order_of_heads():
    order = torch.randperm(9)
    return {2: Mean(), 3: Mean(lambda out: out + torch.arange(9.0)[order])}
@esv_ray.factory
def drawn_order_of_many():
    class Many(Mean):
        order = torch.randperm(9)
        def forward(self, x):
            return super().forward(x) + (torch.arange(9.0)[self.order] if x.shape[1] > 2 else 0)
    return Many()
@esv_ray.factory
def untrained():
    return nn.Sequential(Mean(), nn.Linear(9, 9))
@esv_ray.factory
def eight_frames():
    class Eight(Mean):
        def forward(self, x):
            return super().forward(x + torch.zeros(8, 12))
    return Eight()
@esv_ray.factory
def no_size():
    class Sums(nn.Module):
        def forward(self, x):
            return x.sum(dim=(1, 2))[:, None].expand(-1, 9)
    return Sums()
@esv_ray.factory
def two_sizes():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(20, 30))
        def forward(self, x):
            return x.mean(dim=1)[:, :9]
    return First()
@esv_ray.factory
def grows():
    return Mean(lambda out: out) if False else Grows()
class Grows(Mean):
    def forward(self, x):
        return super().forward(x)[:, : x.shape[1] + 1]
@esv_ray.factory
def sequence_out():
    class Each(Mean):
        def forward(self, x):
            return self.linear(x)
    return Each()
@esv_ray.factory
def a_tuple():
    return Other(lambda out: (out, 1))
@esv_ray.factory
def a_dict():
    return Other(lambda out: {"logits": out, "features": out})
@esv_ray.factory
def batch_second():
    return Other(lambda out: out[None])
@esv_ray.factory
def exits():
    return Other(lambda out: exit(3))
class Other(Mean):
    def __init__(self, change):
        super().__init__()
        self.change = change
    def forward(self, x):
        return self.change(super().forward(x))
@esv_ray.factory
def eleven_frames():
    class Eleven(Mean):
        def forward(self, x):
            if x.shape[1] != 11:
                raise ValueError("expected 11 frames")
            return super().forward(x)
    return Eleven()
@esv_ray.factory
def many_frames():
    class Many(Mean):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(128, 12))
        def forward(self, x):
            return super().forward(x + self.places)
    return Many()
class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(96, 9)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)
    def forward(self, x):
        return self.linear(x.reshape(-1, 96))
@esv_ray.factory
def flat():
    return Flat()
@esv_ray.factory
def flat_of_eight():
    return esv_ray.fixed_length(Flat(), 8)
@esv_ray.factory
def features_first():
    class First(Mean):
        def forward(self, x):
            return super().forward(x.transpose(1, 2))
    return First()
@esv_ray.factory
def raises():
    class Raises(Mean):
        def forward(self, x):
            raise ValueError("always")
    return Raises()
@esv_ray.factory
def no_attribute():
    class No(Mean):
        def forward(self, x):
            return self.nothing(x)
    return No()
@esv_ray.factory
def text_keys():
    return {"1": Mean(), "2": Mean()}
@esv_ray.factory
def dictionary():
    return nn.ModuleDict({"1": Mean(), "2": Mean()})
@esv_ray.factory
def listed():
    return [Mean(), Mean()]
@esv_ray.factory
def scale_0():
    return {0: Mean()}
@esv_ray.factory
def none():
    return {}
@esv_ray.factory
def a_class():
    return Mean
@esv_ray.factory
def lazily():
    from esv_beside import make
    return make()
def unmarked():
    return Mean()
"""
REFUSED = {
    "dropout": "draws from torch's global generator; make it deterministic",
    "drawn_frames": "scale 4 for the same features (4, 4, 12): it draws from torch's global generator",
    "drawn_order": "the same weights and other logits at scale 1: it draws something else at random",
    "drawn_order_of_many": "the same weights and other logits at scale 8: it draws something else at random",
    "drawn_order_of_heads": "the same weights and other logits at scale 3: it draws something else at random",
    "untrained": "expected the same weights at every call of own:untrained, got others (1.weight, 1.bias): they are "
    "drawn at random; give the trained ones with --weights FILE,",
    "eight_frames": "expected a module of any length, but it runs only on 8 elements (of 12 features); return "
    "esv_ray.fixed_length(module, 8)",
    "no_size": "--feature-dim: cannot find the number of features per element by running the module; give it",
    "two_sizes": "--feature-dim: the module runs with 30, 20 features per element; say which",
    "grows": "esv: factory: expected logits of as many classes at every length, got {1: 2, 2: 3}",
    "sequence_out": "expected logits (N, C) for features (N, 1, 12), got (2, 1, 9) for N = 2",
    "a_tuple": "esv: factory: expected logits (N, C) for features (N, 1, 12), got tuple for N = 2; return the logits "
    "alone, one of (2, 9), int",
    "a_dict": "esv: factory: expected logits (N, C) for features (N, 1, 12), got dict for N = 2; return the logits "
    "alone, of its keys logits, features",
    "batch_second": "esv: factory: expected logits (N, C) for features (N, 1, 12), got (1, 2, 9) for N = 2; the batch "
    "comes first: remove the axis of size 1",
    "exits": "esv: factory: the module of scale 1 fails on features (2, 1, 12): SystemExit: 3",
    "eleven_frames": "esv: factory: expected a module of any length, but it runs only on 11 elements (of 12 features); "
    "return esv_ray.fixed_length(module, 11)",
    "many_frames": "esv: factory: expected a module of any length, but it runs only on 128 elements (of 12 features); "
    "return esv_ray.fixed_length(module, 128)",
    "flat": "esv: factory: expected a module of any length, but it runs only on 8 elements (of 12 features), "
    "16 (of 6), 4 (of 24), ...; return esv_ray.fixed_length(module, LENGTH)",
    "features_first": "esv: factory: expected a module of features (N, s, D), got one of (N, D, s) with D = 12: "
    "transpose its input",
    "raises": "esv: factory: the module of scale 1 fails on features (2, 1, 12): ValueError: always (own.py, line ",
    "no_attribute": "esv: factory: the module of scale 1 fails on features (2, 1, 12): AttributeError: 'No' object",
    "text_keys": "got dict with the keys '1', '2'; the keys are scales, whole numbers from 1: {1: module, 2: module}",
    "dictionary": "got ModuleDict with the keys '1', '2'; the keys are scales, whole numbers from 1",
    "listed": "got list; name the scale of each module: {1: module, 2: module}",
    "scale_0": "got dict with the keys 0; the keys are scales, whole numbers from 1",
    "none": "expected a mapping {s: module} or a module, got a mapping without modules",
    "a_class": "got the class Mean; return an object of it, Mean(...)",
    "unmarked": "expected a function decorated with @esv_ray.factory, got own:unmarked",
    "lazily": "own:lazily failed; check its arguments (it takes none) and what it reads: ModuleNotFoundError: No",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(name: str, command: Command) -> None:
    command.module("own", MODULES)
    assert REFUSED[name] in command.refusal(f"own:{name}")


def test_the_size_of_a_module_of_a_fixed_length_is_found(command: Command) -> None:
    """Also if its weights are those of all elements together."""
    command.module("own", MODULES)
    code, out, err = command("own:flat_of_eight")
    assert code == 0, err
    assert "a module of 8 elements; 873 weights, D = 12, C = 9" in out


def test_sizes_that_cannot_be_found_can_be_given(command: Command) -> None:
    command.module("own", MODULES)
    for name, dim in (("no_size", "7"), ("two_sizes", "20")):
        code, out, err = command(f"own:{name}", "--feature-dim", dim, out=name)
        assert code == 0, err
        assert f"D = {dim}, C = 9" in out
        assert "was found" not in out
    assert "features (2, 1, 13): RuntimeError" in command.refusal("own:plain", "--feature-dim", "13")
    text = command.refusal("own:grows", "--feature-dim", "12")
    assert "expected logits of as many classes at every length, got {1: 2, 2: 3}" in text
    text = command.refusal("own:eight_frames", "--feature-dim", "12")
    assert "it runs only on 8 elements (of 12 features); return esv_ray.fixed_length(module, 8)" in text


def test_options_that_do_not_fit(command: Command) -> None:
    command.module("own", MODULES)
    for value, message in {
        "hidden": "--argument: expected NAME=VALUE, for example hidden=64, got 'hidden'",
        "a b=1": "--argument: expected NAME=VALUE",
        "=1": "--argument: expected NAME=VALUE",
        "a=": "--argument a: expected a value after =, got none",
        "a=.nan": "--argument a: expected a value that JSON can hold, got .nan",
        "a=99999999999999999999": "--argument a: expected numbers of at most 63 bits",
    }.items():
        assert message in command.refusal("own:plain", "--argument", value)
    assert "expected each name once, got a twice" in command.refusal(
        "own:plain", "--argument", "a=1", "--argument", "a=2"
    )
    assert "expected a prior of 9 classes" in command.refusal("own:plain", n_classes=3)
    assert "cannot be cut" in command.refusal("own:plain", "--outputs", "x=0:2", of="x=")
    assert "expected consent to run code, got none for own:plain(a)" in command.refusal(
        "own:plain", "--argument", "a=1", code="other"
    )
    assert "own" not in sys.modules or not str(sys.modules["own"].__file__).endswith("other"), "nothing was imported"
    assert "expected package.module:function, got 'own'" in command.refusal("own")
    for name in ("a/own.py:plain", "./a/own:plain"):
        text = command.refusal(name, code="own")
        assert "got a file; from the folder that has a in it, give a.own:plain" in text
    assert "give own:plain" in command.refusal("own.py:plain", code="own")
    code, _, err = command("own:plain", "--combine", "mean")
    assert (code, "--combine has no effect on models of module" in err) == (2, True)
    code, _, err = command("own:plain", "own:dropout")
    assert (code, "expected one factory of module, the whole model, got 2" in err) == (2, True)
    assert command("own:plain")[0] == 0


def test_the_same_import_again_changes_nothing_and_another_is_refused(command: Command, tmp_path: Path) -> None:
    command.module("own", MODULES)
    code, out, _ = command("own:plain")
    assert (code, "complete before" in out) == (0, False)
    (bundle,) = [path.parent for path in tmp_path.rglob("model.json")]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in bundle.iterdir()}
    code, out, _ = command("own:plain")
    assert (code, "; the bundle was complete before, nothing was changed" in out) == (0, True)
    (bundle / "prior.csv").write_text("class,prior\n")
    code, _, err = command("own:plain")
    assert code == 2
    assert "there is a model bundle already, which differs in prior.csv; choose another folder or remove it" in err
    (bundle / "prior.csv").unlink()
    assert "differs in prior.csv" in command("own:plain")[2]
    for path, (data, written) in before.items():
        if path.name != "prior.csv":
            assert (path.read_bytes(), path.stat().st_mtime_ns) == (data, written)


def test_arguments_have_the_types_of_a_spec(command: Command) -> None:
    command.module("own", MODULES)
    values = {"a": 1, "b": 1.5, "c": True, "d": "text", "e": "1", "f": None, "g": [1, 2], "h": 1e-3}
    texts = {"a": "1", "b": "1.5", "c": "true", "d": "text", "e": "'1'", "f": "null", "g": "[1, 2]", "h": "1e-3"}
    options = [part for key, text in texts.items() for part in ("--argument", f"{key}={text}")]
    code, out, err = command("own:plain", *options)
    assert code == 0, err
    assert 'own:plain(a=1, b=1.5, c=true, d="text", e="1", f=null, g=[1, 2], h=0.001)' in out
    assert json.loads(Path("model/model.json").read_text())["arguments"] == values
    assert esv_ray.load_model("model", code="own").feature_dim == 12


# --- the working folder


def test_modules_beside_are_importable_while_the_factory_runs(command: Command) -> None:
    command.module("own", MODULES)
    command.module("esv_beside", "from own import plain as make\n")
    assert command("own:lazily")[0] == 0
    assert str(command.folder) not in sys.path


def test_nothing_of_the_working_folder_is_imported_without_consent(command: Command) -> None:
    command.module("own", "open('ran', 'w')\n")
    command.refusal("own:make", code="other")
    for name in ("json", "storage", "torch"):  # what esv_ray itself imports never comes from there
        command.module(name, "open('ran', 'w')\n")
    command.refusal("own:make", code="other")
    assert not Path("ran").exists()
