"""Model bundles: what is saved is what is loaded, and everything else is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from esv_ray import storage
from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, multiscale_model
from esv_ray.core.games.modules import Average, Over
from esv_ray.core.scales import Combine, Scales
from esv_ray.core.workspace import Workspace
from esv_ray.errors import DataError, EsvError, ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.class_tables import parse_classes, parse_prior
from esv_ray.models.explain import explain
from esv_ray.models.explanation import Explanation
from esv_ray.models.saving import exists_bundle, save_average, save_heads
from tests.conftest import make_heads, make_prior
from tests.support import factories
from tests.support.model_bundles import edit, python_bundle, refusal
from tests.support.oracle import Game, esv_by_orders, module_game, multiscale_game
from tests.support.s3_server import S3Server

HEAD = "head-02.safetensors"
NAMES = ("one", "two", "three")


def sequential(
    scale: int, *, feature_dim: int, hidden_dims: list[int], n_classes: int, batch_norm: bool, input_relu: bool
) -> nn.Sequential:
    """A head as torch's own modules, the layers that `MlpHead` promises, with random weights and statistics."""
    generator = torch.Generator().manual_seed(100 + scale)
    layers: list[nn.Module] = [nn.Flatten(), *([nn.ReLU()] if input_relu else []), nn.Dropout(0.3)]
    width = scale * feature_dim
    for dim in hidden_dims:
        layers.append(nn.Linear(width, dim, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(dim, eps=1e-3))
        layers.append(nn.ReLU())
        width = dim
    layers.append(nn.Linear(width, n_classes))
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(2 * torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
                if layer.bias is not None:
                    layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
            if isinstance(layer, nn.BatchNorm1d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.copy_(0.5 + torch.rand(layer.weight.shape, generator=generator))
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator))
                layer.running_var.copy_(0.25 + torch.rand(layer.running_var.shape, generator=generator))
    return nn.Sequential(*layers).eval()


def head_like(module: nn.Sequential, **shape: Any) -> MlpHead:
    """An `MlpHead` with the weights of torch's own modules."""
    head = MlpHead(**shape)
    linears = [layer for layer in module if isinstance(layer, nn.Linear)]
    norms = [layer for layer in module if isinstance(layer, nn.BatchNorm1d)]
    for own, given in zip(head.linears, linears, strict=True):
        own.load_state_dict(given.state_dict())
    for own, norm in zip(head.norms or [], norms, strict=True):
        assert isinstance(own, nn.BatchNorm1d)
        own.load_state_dict(norm.state_dict())
        own.eps = norm.eps
    return head.eval()


def logits(model: VideoModel, features: Tensor, s: int) -> tuple[Tensor, Tensor]:
    """Of every subsequence of s elements: its logits (R, C) by the model's scorer, and itself (R, s, D)."""
    n = len(features)
    chosen = torch.tensor(list(combinations(range(n), s)), dtype=torch.int32)
    prepared = model.scorer.prepare(features[:, None], s, Workspace(features.device, features.dtype))
    out = torch.empty(len(chosen), 1, model.scorer.columns(model.n_classes))
    model.scorer.scores(prepared, chosen[:, None], torch.zeros(n + 1, len(chosen)), out)
    # A head of a multi-scale model gives its share of Eq. 9.
    return out[:, 0, : model.n_classes] * (s if model.n_max else 1), features[chosen.long()]


def assert_plays(result: Explanation, game: Game) -> None:
    n = len(result.esv)
    assert result.exact
    assert np.allclose(result.scores.numpy(), game(tuple(range(n))), rtol=0, atol=1e-5)
    assert np.allclose(result.esv.numpy(), esv_by_orders(game, n), rtol=0, atol=1e-5)


def saved(folder: Path, **shape: Any) -> str:
    url = str(folder / "model")
    save_heads(url, make_heads(**shape), make_prior(3), classes=NAMES, training={"seed": 1})
    return url


def edit_tensors(url: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str = HEAD) -> None:
    path = Path(url, name)
    path.write_bytes(safetensors.torch.save(change(safetensors.torch.load(path.read_bytes()))))


def with_value(name: str, value: float) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state[name].view(-1)[0] = value
        return state

    return change


# --- what is saved is what is loaded


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_dims": [8]},
        {"hidden_dims": []},
        {"hidden_dims": [], "input_relu": True},
        {"hidden_dims": [8, 5, 6]},
        {"hidden_dims": [8], "batch_norm": True},
        {"hidden_dims": [8, 5], "batch_norm": True, "input_relu": True},
    ],
)
def test_saved_weights_keep_their_bits_and_the_loaded_model_computes_as_torch(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    full: dict[str, Any] = {"feature_dim": 4, "n_classes": 3, "batch_norm": False, "input_relu": False, **shape}
    modules = {s: sequential(s, **full) for s in (1, 2, 3)}
    heads = {s: head_like(module, scale=s, **full) for s, module in modules.items()}
    url, prior = str(tmp_path / "model"), make_prior(3)
    save_heads(url, heads, prior)

    for s, head in heads.items():
        stored = safetensors.torch.load((tmp_path / "model" / f"head-{s:02d}.safetensors").read_bytes())
        assert set(stored) == set(head.state_dict())
        for name, tensor in head.state_dict().items():
            assert stored[name].dtype == tensor.dtype
            assert torch.equal(stored[name], tensor), name

    model = load_model(url)
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (3, 3, 4, None)
    assert model.dtype == torch.float32
    assert torch.equal(model.prior, prior)
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(3))
    for s, module in modules.items():
        scores, subsequences = logits(model, features, s)
        with torch.no_grad():
            assert torch.allclose(scores, module(subsequences), rtol=0, atol=1e-5)
    result = explain(model, features, estimator="exact")
    assert_plays(result, multiscale_game(modules, features, prior))


def test_a_loaded_model_gives_the_bits_of_the_model_in_memory(bundle: str) -> None:
    features = torch.randn((6, 4), generator=torch.Generator().manual_seed(1))
    model = multiscale_model(make_heads(), make_prior(3), feature_dim=4)
    assert torch.equal(explain(load_model(bundle), features).esv, explain(model, features).esv)


def test_names_of_any_spelling_and_any_prior_come_back(tmp_path: Path) -> None:
    names = ('a, b and "c"', "Doing [something]\nover two lines", "  élan ", "")
    prior = torch.tensor([1 / 3, 0, 1e-17, 2 / 3], dtype=torch.float64)
    url = str(tmp_path / "model")
    save_heads(url, make_heads(n_classes=4), prior, classes=names)
    model = load_model(url)
    assert model.classes == names
    assert torch.equal(model.prior, prior)


def test_classes_are_optional_and_a_slash_at_the_end_does_not_matter(bundle: str) -> None:
    assert load_model(bundle + "/").digest == load_model(bundle).digest
    assert load_model(bundle).classes == NAMES
    Path(bundle, "classes.csv").unlink()
    assert load_model(bundle).classes is None


@pytest.mark.parametrize("input_relu", [True, False])
@pytest.mark.parametrize("over", ["logits", "probabilities"])
def test_an_average_model(tmp_path: Path, input_relu: bool, over: Over) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn((3, 4), generator=generator), torch.randn(3, generator=generator)
    url, prior = str(tmp_path / "tsn"), make_prior(3)
    save_average(url, Average(weight, bias, input_relu=input_relu, over=over), prior, classes=NAMES)
    stored = safetensors.torch.load((tmp_path / "tsn" / "head-01.safetensors").read_bytes())
    assert torch.equal(stored["weight"], weight)
    assert torch.equal(stored["bias"], bias)

    model = load_model(url)
    n_max = None if over == "logits" else 1
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (n_max, 3, 4, NAMES)
    features = torch.randn((5, 4), generator=generator)
    linear = nn.Linear(4, 3)
    linear.load_state_dict({"weight": weight, "bias": bias})

    class Tsn(nn.Module):
        def forward(self, subsequences: Tensor) -> Tensor:
            out: Tensor = linear(subsequences.relu() if input_relu else subsequences)
            return out.mean(dim=1) if over == "logits" else out.softmax(dim=2).mean(dim=1).log()

    assert_plays(explain(model, features), module_game(Tsn(), features, prior))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda state: {**state, "weight": torch.zeros(3, 5)}, ("(3, 4)", "(3, 5)")),
        (lambda state: {"weight": state["weight"]}, ("bias",)),
        (lambda state: {**state, "more": torch.zeros(1)}, ("more",)),
        (with_value("weight", float("nan")), ("weight", "finite", "NaN")),
    ],
)
def test_a_broken_average_model_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], parts: tuple[str, ...]
) -> None:
    url = str(tmp_path / "tsn")
    save_average(url, Average(torch.ones(3, 4), torch.zeros(3), input_relu=True), make_prior(3))
    edit_tensors(url, change, "head-01.safetensors")
    text = refusal(url)
    assert text.startswith(f"{url}/head-01.safetensors: ")
    assert all(part in text for part in parts), text


# --- the digest


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    url = saved(tmp_path)
    digest = load_model(url).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert load_model(url).digest == digest
    shutil.copytree(url, tmp_path / "elsewhere")
    assert load_model(str(tmp_path / "elsewhere")).digest == digest
    assert load_model(saved(tmp_path / "again")).digest == digest


def test_notes_on_the_training_and_the_spelling_of_the_json_leave_the_digest(tmp_path: Path) -> None:
    url = saved(tmp_path)
    digest = load_model(url).digest
    edit(url, training={"accuracy": 0.5, "by": "somebody else"})
    assert load_model(url).digest == digest
    manifest = json.loads(Path(url, "model.json").read_text())
    del manifest["training"]
    Path(url, "model.json").write_text(json.dumps(dict(reversed(manifest.items())), indent=7))
    assert load_model(url).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda url: edit_tensors(url, with_value("linears.0.weight", 0.125), "head-01.safetensors"),
        lambda url: edit_tensors(url, with_value("linears.1.bias", 0.125), "head-03.safetensors"),
        lambda url: Path(url, "prior.csv").write_text("class,prior\n0,0.5\n1,0.25\n2,0.25\n"),
        lambda url: Path(url, "classes.csv").write_text("name,id\none,0\ntwo,1\nfour,2\n"),
        lambda url: Path(url, "classes.csv").unlink(),
        lambda url: edit(url, input_relu=True),
        lambda url: edit(url, norm_eps=1e-4),
    ],
    ids=["first head", "last head", "prior", "class name", "no classes", "input_relu", "norm_eps"],
)
def test_any_other_change_changes_the_digest(tmp_path: Path, change: Callable[[str], object]) -> None:
    url = saved(tmp_path)
    digest = load_model(url).digest
    change(url)
    assert load_model(url).digest != digest


# --- saving


def test_a_bundle_is_not_written_over_another(bundle: str) -> None:
    before = {path.name: path.read_bytes() for path in Path(bundle).iterdir()}
    average = Average(torch.ones(3, 4), torch.zeros(3), input_relu=True)
    with pytest.raises(ModelError) as caught:
        save_heads(bundle, make_heads(seed=1), make_prior(3))
    assert re.fullmatch(f"{bundle}: there is a model bundle already.*", str(caught.value))
    with pytest.raises(ModelError) as caught:
        save_average(bundle, average, make_prior(3))
    assert re.fullmatch(f"{bundle}: there is a model bundle already.*", str(caught.value))
    assert {path.name: path.read_bytes() for path in Path(bundle).iterdir()} == before


def test_model_json_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    replace = storage.replace

    def recorded(url: str, data: bytes, doing: str) -> None:
        written.append(url.rpartition("/")[2])
        replace(url, data, doing)

    monkeypatch.setattr(storage, "replace", recorded)
    url = saved(tmp_path)
    assert written[-1] == "model.json"
    assert sorted(written) == sorted(path.name for path in Path(url).iterdir())
    assert exists_bundle(url)


def test_an_unfinished_bundle_is_none_and_may_be_written_again(tmp_path: Path) -> None:
    url = saved(tmp_path)
    digest = load_model(url).digest
    Path(url, "model.json").unlink()
    assert not exists_bundle(url)
    assert load_model(saved(tmp_path)).digest == digest


# --- elsewhere than on a disk


def test_a_bundle_in_memory(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/model"
    try:
        save_heads(url, make_heads(), make_prior(3), classes=NAMES)
        model = load_model(url)
        assert model.digest == load_model(saved(tmp_path)).digest
        assert model.classes == NAMES
        with pytest.raises(ModelError, match="already"):
            save_heads(url, make_heads(), make_prior(3))
        refused = refusal(f"memory://{tmp_path.name}/none")
        assert "model.json" in refused
        assert f"memory://{tmp_path.name}/none" in refused
    finally:
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_bundle_on_s3(tmp_path: Path, s3: S3Server) -> None:
    url = f"s3://{s3.bucket}/{tmp_path.name}/model"
    assert not exists_bundle(url)
    save_heads(url, make_heads(), make_prior(3), classes=NAMES)
    assert exists_bundle(url)
    local = load_model(saved(tmp_path))
    for spelled in (url, url + "/"):
        model = load_model(spelled)
        assert model.digest == local.digest
        assert model.classes == NAMES
    features = torch.randn((4, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(explain(model, features).esv, explain(local, features).esv)
    with pytest.raises(ModelError, match="already"):
        save_heads(url, make_heads(), make_prior(3))

    fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    fs.pipe_file(f"{s3.bucket}/{tmp_path.name}/model/{HEAD}", b"garbage" * 20)
    assert refusal(url).startswith(f"{url}/{HEAD}: expected a safetensors file")
    fs.rm_file(f"{s3.bucket}/{tmp_path.name}/model/model.json")
    assert refusal(url).startswith(f"{url}: expected a model bundle")


# --- models made by a factory


def test_a_factory_that_gives_heads(tmp_path: Path) -> None:
    url = python_bundle(tmp_path / "model", "tests.support.factories:heads", arguments={"n_max": 3}, n_max=3)
    (tmp_path / "model" / "classes.csv").write_text("name,id\nthree,2\none,0\ntwo,1\n")
    model = load_model(url, code="tests.support.factories")
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (3, 3, 4, NAMES)
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(1))
    expected = explain(multiscale_model(make_heads(), make_prior(3), feature_dim=4), features)
    result = explain(model, features)
    assert torch.allclose(result.esv, expected.esv, rtol=0, atol=1e-5)
    assert torch.allclose(result.scores, expected.scores, rtol=0, atol=1e-5)


def test_a_factory_that_gives_mlp_heads_takes_the_fast_path(tmp_path: Path) -> None:
    url = python_bundle(tmp_path / "model", "tests.support.factories:mlp_heads")
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(1))
    expected = explain(multiscale_model(make_heads(), make_prior(3), feature_dim=4), features)
    assert torch.equal(explain(load_model(url, code="tests.support.factories"), features).esv, expected.esv)


def test_a_factory_that_gives_one_module(tmp_path: Path) -> None:
    url = python_bundle(tmp_path / "model", "tests.support.factories:variable")
    model = load_model(url, code="tests.support.factories")
    assert (model.n_max, model.n_classes, model.feature_dim) == (None, 3, 4)
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(1))
    assert factories.variable().training
    assert_plays(explain(model, features), module_game(factories.variable().eval(), features, make_prior(3)))


def test_the_digest_of_a_factory_is_that_of_its_call(tmp_path: Path) -> None:
    digests = {
        load_model(
            python_bundle(tmp_path / str(index), f"tests.support.factories:{name}", arguments=arguments),
            code="tests.support.factories",
        ).digest
        for index, (name, arguments) in enumerate(
            [("variable", {}), ("variable", {"n_classes": 3}), ("heads", {}), ("heads", {"n_max": 2})]
        )
    }
    assert len(digests) == 4


def test_a_factory_may_leave_out_scales(tmp_path: Path) -> None:
    model = load_model(python_bundle(tmp_path / "model", "tests.support.factories:gap"), code=["tests"])
    assert model.scales == Scales((1, 0, 1))


@pytest.mark.parametrize(
    ("factory", "keys", "parts"),
    [
        (None, {}, ("package.module:function", "None")),
        ("tests.support.factories", {}, ("package.module:function", "'tests.support.factories'")),
        (":heads", {}, ("package.module:function", "':heads'")),
        ("tests.support.factories:", {}, ("package.module:function",)),
        ("tests.support.factories.no_such:heads", {}, ("tests.support.factories.no_such", "installed")),
        ("tests.support.factories:no_such", {}, ("tests.support.factories defines no function no_such",)),
        ("tests.support.factories:nothing", {}, ("mapping", "module", "NoneType")),
        ("tests.support.factories:as_list", {}, ("mapping", "module", "list")),
        ("tests.support.factories:empty", {}, ("a mapping {s: module} or a module, got a mapping without modules",)),
        ("tests.support.factories:heads", {"n_max": 2}, ("n_max = 2", "got 3")),
        ("tests.support.factories:heads", {"n_classes": 5}, ("(N, 5)", "(4, 3)")),
        ("tests.support.factories:variable", {"n_classes": 5}, ("(N, 5)", "(4, 3)")),
        ("tests.support.factories:heads", {"arguments": [1]}, ("arguments", "[1]")),
        *(
            pytest.param(f"tests.support.factories:{name}", keys, parts, id=name)
            for name, keys, parts in [
                ("second_head_wrong_classes", {}, ("5",)),
                ("second_head_wrong_inputs", {}, ()),
                ("variable", {"feature_dim": 5}, ()),
                ("pair", {}, ("tuple",)),
                ("string_keys", {}, ()),
                ("functions", {}, ()),
                ("failing", {}, ("weights.bin",)),
                ("not_a_function", {}, ()),
                ("heads", {"arguments": {"n": 1}}, ()),
            ]
        ),
        (".factories:heads", {}, ()),
    ],
)
def test_a_factory_that_gives_no_model_is_refused(
    tmp_path: Path, factory: object, keys: dict[str, Any], parts: tuple[str, ...]
) -> None:
    url = python_bundle(tmp_path / "model", factory, **keys)
    text = refusal(url)
    assert text.startswith(f"{url}/model.json: ")
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("code", ["raise ValueError('needs a license')", "def broken(:"])
def test_a_factory_whose_module_cannot_be_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "esv_broken_factory.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert "esv_broken_factory was found, but an error is raised while it is imported: " in refusal(
        python_bundle(tmp_path / "model", "esv_broken_factory:heads"), code="esv_broken_factory"
    )


# --- refusals


def _write(name: str, content: str | bytes) -> Callable[[str], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda url: Path(url, name).write_bytes(data)


def _keys(**keys: Any) -> Callable[[str], object]:
    return lambda url: edit(url, **keys)


def _prior(*rows: str) -> Callable[[str], object]:
    return _write("prior.csv", "\n".join(["class,prior", *rows]) + "\n")


def _tensors(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[str], object]:
    return lambda url: edit_tensors(url, change)


def _cut(url: str) -> None:
    Path(url, HEAD).write_bytes(Path(url, HEAD).read_bytes()[:-8])


def _two_classes(url: str) -> None:
    edit(url, n_classes=2)
    _prior("0,0.5", "1,0.5")(url)
    Path(url, "classes.csv").unlink()


FIRST_FORMAT = {
    "format": 1,
    "kind": "multiscale",
    "feature_dim": 4,
    "n_classes": 3,
    "n_max": 3,
    "heads": [f"head-{s:02d}.safetensors" for s in (1, 2, 3)],
    "batch_norm": False,
    "norm_eps": 1e-5,
    "input_relu": False,
}


def test_bundles_of_the_first_format_are_read_and_their_hash_stays(bundle: str) -> None:
    """A job that began with one goes on: run.json holds the hash."""
    expected = load_model(bundle)
    edit(bundle, **FIRST_FORMAT)
    path = Path(bundle, "model.json")
    manifest = {key: value for key, value in json.loads(path.read_text()).items() if key in FIRST_FORMAT}
    path.write_text(json.dumps(manifest))
    model = load_model(bundle)
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(explain(model, features).esv, explain(expected, features).esv)
    digest = hashlib.sha256(json.dumps({**manifest, "factory": None, "arguments": {}}, sort_keys=True).encode())
    for name in sorted(path.name for path in Path(bundle).iterdir() if path.name != "model.json"):
        digest.update(f"{name}:{hashlib.sha256(Path(bundle, name).read_bytes()).hexdigest()}\n".encode())
    assert model.digest == digest.hexdigest()


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_heads_of_some_scales_with_weights_and_a_projection(tmp_path: Path, combine: Combine) -> None:
    weights = {1: 0.5, 3: 2.0}
    heads = {s: head for s, head in make_heads(feature_dim=6).items() if s in weights}
    torch.manual_seed(0)
    projection = nn.Linear(4, 6)
    save_heads(str(tmp_path / "m"), heads, make_prior(3), weights=weights, combine=combine, projection=projection)
    manifest = json.loads((tmp_path / "m" / "model.json").read_text())
    assert (manifest["format"], manifest["feature_dim"], manifest["combine"]) == (2, 4, combine)
    assert manifest["heads"]["3"] == {"file": "head-03.safetensors", "weight": 2.0}
    model = load_model(str(tmp_path / "m"))
    assert model.scales == Scales((0.5, 0, 2.0), combine)
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = multiscale_model(heads, make_prior(3), feature_dim=6, weights=weights, combine=combine)
        expected = explain(before, projection(features))
    result = explain(model, features)
    assert torch.allclose(result.esv, expected.esv, atol=1e-6)
    other = {key: tensor + 1 for key, tensor in projection.state_dict().items()}
    (tmp_path / "m" / "projection.safetensors").write_bytes(safetensors.torch.save(other))
    assert load_model(str(tmp_path / "m")).digest != model.digest


@pytest.mark.parametrize(
    ("state", "part"),
    [
        ({"weight": torch.zeros(6, 5), "bias": torch.zeros(6)}, "expected weight (D', 4)"),
        ({"weight": torch.zeros(6, 4)}, "expected weight (D', 4)"),
        ({"weight": torch.zeros(6, 4), "bias": torch.zeros(5)}, "expected weight (D', 4)"),
        ({"weight": torch.zeros(0, 4), "bias": torch.zeros(0)}, "expected weight (D', 4)"),
        ({"weight": torch.zeros(6, 4), "bias": torch.full((6,), torch.nan)}, "finite"),
        ({"weight": torch.zeros(5, 4), "bias": torch.zeros(5)}, "1 x 5 = 5"),
    ],
)
def test_a_projection_that_fits_nothing_is_refused(bundle: str, state: dict[str, Tensor], part: str) -> None:
    edit(bundle, projection="projection.safetensors")
    Path(bundle, "projection.safetensors").write_bytes(safetensors.torch.save(state))
    assert part in refusal(bundle)


def test_a_projection_that_is_missing_is_noticed(tmp_path: Path) -> None:
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), projection=nn.Linear(4, 4))
    (tmp_path / "m" / "projection.safetensors").unlink()
    assert "projection.safetensors" in refusal(str(tmp_path / "m"), DataError)


def test_a_projection_that_no_key_names_is_used(bundle: str) -> None:
    """The contract of format 2: the file is optional."""
    path = Path(bundle, "model.json")
    manifest = json.loads(path.read_text())
    del manifest["projection"]
    path.write_text(json.dumps(manifest))
    before = load_model(bundle)
    state = {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}
    Path(bundle, "projection.safetensors").write_bytes(safetensors.torch.save(state))
    after = load_model(bundle)
    features = torch.ones(3, 4)
    assert explain(after, features).esv.std(dim=0).max() < 1e-6, "all elements are the same"
    assert not torch.equal(explain(after, features).scores, explain(before, features).scores)


def test_a_bundle_of_the_first_format_ignores_keys_of_the_second(bundle: str) -> None:
    """As the versions did that knew the first format only: its hash does not cover them."""
    edit(bundle, **FIRST_FORMAT)
    before = load_model(bundle)
    edit(bundle, combine="sum")
    after = load_model(bundle)
    assert (after.digest, after.scales) == (before.digest, before.scales)


REFUSED: dict[str, tuple[Callable[[str], object], str, tuple[str, ...]]] = {
    "broken JSON": (_write("model.json", "{"), "model.json", ("JSON",)),
    "empty JSON": (_write("model.json", ""), "model.json", ("JSON",)),
    "not text": (_write("model.json", b"\xff\xfe\x00"), "model.json", ("JSON",)),
    "deep JSON": (_write("model.json", "[" * 100_000), "model.json", ("JSON",)),
    "JSON list": (_write("model.json", "[]"), "model.json", ("object", "[]")),
    "format 3": (_keys(format=3), "model.json", ("format", "1 or 2", "got 3")),
    "kind": (_keys(kind="tran"), "model.json", ("kind", "'multiscale'", "'tran'")),
    "feature_dim 0": (_keys(feature_dim=0), "model.json", ("feature_dim", "got 0")),
    "feature_dim text": (_keys(feature_dim="4"), "model.json", ("feature_dim", "'4'")),
    "n_classes true": (_keys(n_classes=True), "model.json", ("n_classes", "True")),
    "input_relu": (_keys(input_relu="may\nbe"), "model.json", ("input_relu", "boolean")),
    "too few heads": (_keys(format=1, heads=["head-01.safetensors"]), "model.json", ("heads", "expected 3", "got 1")),
    "no heads": (_keys(format=1, heads=[]), "model.json", ("heads", "expected 3", "got 0")),
    "no heads of format 2": (_keys(heads={}), "model.json", ("heads", "n_max = 3", "got []")),
    "a list in format 2": (
        _keys(heads=["head-01.safetensors"]),
        "model.json",
        ("heads", "a mapping of scales", "a list"),
    ),
    "a mapping in format 1": (_keys(format=1), "model.json", ("heads", "a list of file names", "a mapping")),
    "scale 0": (_keys(heads={"0": {"file": "head-01.safetensors"}}), "model.json", ("heads", "0")),
    "scale of letters": (_keys(heads={"one": {"file": "head-01.safetensors"}}), "model.json", ("heads", "one")),
    "no file": (_keys(heads={"3": {"weight": 1.0}}), "model.json", ("heads", "3", "file")),
    "weight 0": (
        _keys(heads={"3": {"file": HEAD, "weight": 0}}),
        "model.json",
        ("weight", "greater than", "got 0"),
    ),
    "weight -1": (_keys(heads={"3": {"file": HEAD, "weight": -1}}), "model.json", ("weight", "greater than")),
    "weight of letters": (_keys(heads={"3": {"file": HEAD, "weight": "x"}}), "model.json", ("weight", "number", "'x'")),
    "combine": (_keys(combine="max"), "model.json", ("combine", "'mean' or 'sum'", "'max'")),
    "n_max without a head": (_keys(n_max=4), "model.json", ("heads", "n_max = 4", "[1, 2, 3]")),
    "projection that is not named": (
        _write("projection.safetensors", b"x"),
        "model.json",
        ("no projection", "remove it"),
    ),
    "projection elsewhere": (_keys(projection="../x"), "model.json", ("projection", "'../x'")),
    "weight too large": (_keys(heads={"3": {"file": HEAD, "weight": 1e39}}), "model.json", ("weight", "1000000")),
    "heads null": (_keys(heads=None), "model.json", ("heads", "None")),
    "n_max": (_keys(n_max=2), "model.json", ("heads", "n_max = 2", "[1, 2, 3]")),
    "heads swapped": (
        _keys(format=1, heads=["head-02.safetensors", "head-01.safetensors", "head-03.safetensors"]),
        "head-02.safetensors",
        ("1 x 4 = 4", "got 8"),
    ),
    "D": (_keys(feature_dim=5), "head-01.safetensors", ("1 x 5 = 5", "got 4")),
    "C": (
        _two_classes,
        "head-01.safetensors",
        ("2 classes", "got 3"),
    ),
    "no prior rows": (_prior(), "prior.csv", ("0..2", "got 0")),
    "empty prior": (_write("prior.csv", ""), "prior.csv", ("0..2", "got 0")),
    "prior of too few": (_prior("0,0.5", "1,0.5"), "prior.csv", ("0..2", "got 2")),
    "prior of too many": (_prior("0,0.25", "1,0.25", "2,0.25", "3,0.25"), "prior.csv", ("0..2", "got 4")),
    "prior twice": (_prior("0,0.5", "0,0.25", "1,0.25"), "prior.csv", ("0..2",)),
    "prior sum": (_prior("0,0.5", "1,0.5", "2,0.5"), "prior.csv", ("sum to 1", "1.5")),
    "prior NaN": (_prior("0,nan", "1,0.5", "2,0.5"), "prior.csv", ("prior",)),
    "prior inf": (_prior("0,inf", "1,0.5", "2,0.5"), "prior.csv", ("prior",)),
    "prior below 0": (_prior("0,-0.5", "1,1", "2,0.5"), "prior.csv", ("prior",)),
    "prior of words": (_prior("0,x", "1,0.5", "2,0.5"), "prior.csv", ("numbers", "'x'")),
    "prior without value": (_prior("0", "1,0.5", "2,0.5"), "prior.csv", ("prior",)),
    "prior columns": (_write("prior.csv", "a,b\n0,1\n"), "prior.csv", ("class", "prior")),
    "prior binary": (_write("prior.csv", b"\xff\xfe\x00"), "prior.csv", ("CSV",)),
    "classes of too few": (_write("classes.csv", "name,id\none,0\n"), "classes.csv", ("0..2", "got 1")),
    "classes columns": (_write("classes.csv", "a,b\none,0\n"), "classes.csv", ("name", "id")),
    "classes twice": (_write("classes.csv", "name,id\na,0\nb,0\nc,1\n"), "classes.csv", ("0..2",)),
    "garbage": (_write(HEAD, b"garbage" * 100), HEAD, ("expected a safetensors file", "text that begins with")),
    "nothing": (_write(HEAD, b""), HEAD, ("expected a safetensors file", "an empty file; download it again")),
    "cut short": (_cut, HEAD, ("expected a safetensors file", "cut short", "download it again")),
    "LFS": (_write(HEAD, "version https://git-lfs.github.com/spec/v1\n"), HEAD, ("a Git LFS pointer", "git lfs pull")),
    "pickled": (_write(HEAD, pickle.dumps({"a": 1})), HEAD, ("got a file of pickle.dump", "save its tensors")),
    "of torch": (
        lambda url: torch.save({"a": torch.ones(1)}, Path(url, HEAD)),
        HEAD,
        ("got a torch checkpoint", "esv import model"),
    ),
    "NaN": (_tensors(with_value("linears.1.weight", float("nan"))), HEAD, ("linears.1.weight", "finite", "NaN")),
    "infinity": (_tensors(with_value("linears.0.bias", float("inf"))), HEAD, ("linears.0.bias", "finite", "infinity")),
    "no tensors": (_tensors(lambda state: {}), HEAD, ("linears.0.weight", "[]")),
    "other tensors": (_tensors(lambda state: {"fc.weight": torch.ones(1)}), HEAD, ("linears.0.weight", "fc.weight")),
    "one more tensor": (_tensors(lambda state: {**state, "a\nb": torch.ones(1)}), HEAD, ("a b",)),
    "no bias": (
        _tensors(lambda state: {name: state[name] for name in state if name != "linears.1.bias"}),
        HEAD,
        ("linears.1.bias",),
    ),
    "flat weight": (_tensors(lambda state: {**state, "linears.0.weight": torch.ones(64)}), HEAD, ("linears.0.weight",)),
    "layers that do not fit": (
        _tensors(lambda state: {**state, "linears.1.weight": torch.ones(3, 9)}),
        HEAD,
        ("linears.1.weight", "[3, 9]", "[3, 8]"),
    ),
    "half a batch norm": (
        _tensors(lambda state: {**state, "norms.0.weight": torch.ones(8)}),
        HEAD,
        ("norms.0.running_mean",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_bundle_is_refused(bundle: str, case: str) -> None:
    change, name, parts = REFUSED[case]
    change(bundle)
    text = refusal(bundle)
    assert text.startswith(f"{bundle}/{name}: "), text
    assert all(part in text for part in parts), text


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    for url in (str(tmp_path), str(tmp_path / "none")):
        text = refusal(url)
        assert text.startswith(f"{url}: ")
        assert "model.json" in text


@pytest.mark.parametrize("name", [HEAD, "prior.csv"])
def test_a_missing_file_is_refused(bundle: str, name: str) -> None:
    Path(bundle, name).unlink()
    with pytest.raises(EsvError) as caught:
        load_model(bundle)
    assert f"{bundle}/{name}" in str(caught.value)
    assert "not found" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["head", "/abs", "../", "../..", "a/../b", ".", "..", "", "a\\b", "s3://a/b", "a/"])
def test_file_names_cannot_leave_the_bundle(tmp_path: Path, kind: str) -> None:
    """The file is there and good: what is refused is the name."""
    url = saved(tmp_path)
    outside = tmp_path / "outside.safetensors"
    shutil.copy(Path(url, "head-01.safetensors"), outside)
    if kind == "head":
        name = str(outside)
    elif kind == "../":
        name = "../outside.safetensors"
    else:
        name = kind
    edit(url, format=1, heads=[name, "head-02.safetensors", "head-03.safetensors"])
    text = refusal(url)
    assert text.startswith(f"{url}/model.json: heads: ")
    assert "plain file names" in text
    assert repr(name) in text


def test_a_file_name_with_a_null_is_refused(bundle: str) -> None:
    edit(bundle, format=1, heads=["a\0b", "head-02.safetensors", "head-03.safetensors"])
    assert "plain file names" in refusal(bundle)


def test_rows_in_any_order_are_taken(bundle: str) -> None:
    Path(bundle, "prior.csv").write_bytes(b"\xef\xbb\xbfclass,prior\r\n2,0.5\r\n0,0.125\r\n1,0.375\r\n")
    Path(bundle, "classes.csv").write_text("name,id\nc,2\na,0\nb,1\n")
    model = load_model(bundle)
    assert model.prior.tolist() == [0.125, 0.375, 0.5]
    assert model.classes == ("a", "b", "c")


def test_further_columns_and_tensors_of_other_precision_are_taken(bundle: str) -> None:
    """Weights in float16, as a converter may leave them, count as the float32 numbers they are."""
    Path(bundle, "prior.csv").write_text("class,prior,count\n0,0.125,1\n1,0.375,3\n2,0.5,4\n")
    for s in (1, 2, 3):
        name = f"head-{s:02d}.safetensors"
        edit_tensors(bundle, lambda state: {key: tensor.half() for key, tensor in state.items()}, name)
    model = load_model(bundle)
    assert model.dtype == torch.float32
    heads = make_heads()
    for head in heads.values():
        head.load_state_dict({key: tensor.half().float() for key, tensor in head.state_dict().items()})
    features = torch.randn((4, 4), generator=torch.Generator().manual_seed(0))
    expected = multiscale_model(heads, torch.tensor([0.125, 0.375, 0.5]), feature_dim=4)
    assert torch.equal(explain(model, features).esv, explain(expected, features).esv)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(
            _tensors(lambda state: {name: tensor.double() * 1e300 for name, tensor in state.items()}),
            HEAD,
            id="beyond float32",
        ),
        pytest.param(
            _tensors(lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()}),
            HEAD,
            id="int8",
        ),
        pytest.param(
            _tensors(
                lambda state: {
                    "linears.0.weight": torch.ones(0, 8),
                    "linears.0.bias": torch.ones(0),
                    "linears.1.weight": torch.ones(3, 0),
                    "linears.1.bias": torch.ones(3),
                }
            ),
            HEAD,
            marks=[
                pytest.mark.filterwarnings("ignore:Initializing zero-element"),
            ],
            id="hidden layer of width 0",
        ),
        pytest.param(_keys(norm_eps=float("nan")), "model.json", id="norm_eps NaN"),
        pytest.param(_keys(norm_eps=-1), "model.json", id="norm_eps below 0"),
        pytest.param(_keys(n_max=None), "model.json", id="multiscale without n_max"),
        pytest.param(_write("model.json", "{"), "model.json", id="no empty key"),
    ],
)
def test_what_would_compute_nonsense_is_refused(bundle: str, change: Callable[[str], object], name: str) -> None:
    change(bundle)
    text = refusal(bundle)
    assert text.startswith(f"{bundle}/{name}: "), text
    assert ": : " not in text
    assert "None files" not in text


def test_batch_norm_with_a_negative_variance_is_refused(tmp_path: Path) -> None:
    url = str(tmp_path / "model")
    head = MlpHead(scale=1, feature_dim=4, hidden_dims=[8], n_classes=3, batch_norm=True)
    save_heads(url, {1: head}, make_prior(3))
    edit_tensors(url, with_value("norms.0.running_var", -1.0), "head-01.safetensors")
    refusal(url)


def test_an_absurd_number_of_classes_is_refused(bundle: str) -> None:
    edit(bundle, n_classes=10**17)  # no machine has the addresses
    refusal(bundle)


# --- the CSV files by themselves


def test_the_authors_csv_files() -> None:
    folder = Path(__file__).parent.parent / "reference" / "play_fair_files"
    prior = parse_prior((folder / "class-priors.csv").read_bytes())
    names = parse_classes((folder / "classes.csv").read_bytes())
    assert prior.dtype == torch.float64
    assert len(prior) == len(names) == 7
    assert abs(float(prior.sum()) - 1) < 1e-9
    assert names[3] == "Doing thing 3, with [something]"


def test_a_prior_that_sums_to_one_but_for_rounding_is_taken() -> None:
    assert parse_prior(b"class,prior\n0,0.333333\n1,0.333333\n2,0.333333\n").tolist() == [0.333333] * 3
    with pytest.raises(ModelError, match="sum to 1"):
        parse_prior(b"class,prior\n0,0.3333\n1,0.3333\n2,0.3330\n")
    assert prod(parse_prior(b"class,prior\n0,1\n", 1).tolist()) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trn.pth", "import a checkpoint with `esv import model --from SOURCE`"),
        ("model.json", "give the folder that holds it, "),
        ("head-01.safetensors", "give the folder that holds it, "),
    ],
)
def test_a_file_in_place_of_a_bundle(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path / name))
    assert str(caught.value).startswith(f"{tmp_path / name}: expected the folder of a model bundle, got a file; {hint}")
    assert len(str(caught.value).splitlines()) == 1
