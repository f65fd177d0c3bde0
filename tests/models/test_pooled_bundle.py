"""Bundles of pooled models: what is saved is what is loaded, and everything else is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from esv_ray.core.games.model import pooled_model
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.pooling import ReadyPooling
from esv_ray.models.saving import save_pooled
from tests.conftest import make_prior
from tests.support.model_bundles import edit, python_bundle, refusal
from tests.support.pooled import CASES, C, D

READY = [name for name in CASES if name != "encode and decode"]


def bundle_of(name: str, folder: Path) -> str:
    url = str(folder / "bundle")
    save_pooled(url, cast(ReadyPooling, CASES[name]().pooling), make_prior(C), feature_dim=D, classes=("a", "b", "c"))
    return url


def features_of(n: int) -> Tensor:
    return torch.randn((n, D), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("name", READY)
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, name: str) -> None:
    case, model = CASES[name](), load_model(bundle_of(name, tmp_path))
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (None, C, D, ("a", "b", "c"))
    original = pooled_model(case.pooling, make_prior(C), feature_dim=D, width=case.width)
    for estimator in ("exact", "adjusted"):
        result = explain(model, features_of(12), estimator=estimator, m=20, iterations=1)
        expected = explain(original, features_of(12), estimator=estimator, m=20, iterations=1)
        assert torch.equal(result.esv, expected.esv)


def test_the_hash_covers_the_weights(tmp_path: Path) -> None:
    url = bundle_of("CLIP", tmp_path)
    digest = load_model(url).digest
    path = Path(url, "pooling.safetensors")
    state = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(state | {"scale": state["scale"] * 2}))
    assert load_model(url).digest != digest


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("CLIP", lambda state: state | {"text": torch.zeros(C, D + 1)}, "text: expected a tensor of shape (any, 6)"),
        ("CLIP", lambda state: state | {"text": torch.zeros(C + 1, D)}, "expected 3 classes, got 4"),
        ("CLIP", lambda state: {"text": state["text"]}, "scale: expected a tensor of shape (), got none"),
        ("CLIP", lambda state: state | {"more": torch.zeros(1)}, "expected no further tensors, got more"),
        ("ABMIL", lambda state: state | {"tanh.weight": torch.zeros(5, D + 1)}, "tanh.weight"),
        ("ABMIL", lambda state: state | {"attention.weight": torch.zeros(2, 5)}, "attention.bias"),
        ("attentive probe", lambda state: state | {"kv.weight": torch.zeros(D, D)}, "kv.weight: expected"),
        ("attentive probe", lambda state: {k: v for k, v in state.items() if k != "norm2.bias"}, "norm2.bias"),
        ("attentive probe", lambda state: state | {"query": torch.full((D,), torch.nan)}, "finite"),
    ],
)
def test_broken_weights_are_refused(
    tmp_path: Path, name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], part: str
) -> None:
    url = bundle_of(name, tmp_path)
    path = Path(url, "pooling.safetensors")
    path.write_bytes(safetensors.torch.save(change(safetensors.torch.load(path.read_bytes()))))
    text = refusal(url)
    assert text.startswith(f"{url}/pooling.safetensors: ")
    assert part in text


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"pooling": None}, "pooling: expected either pooling or factory, got neither"),
        ({"factory": "a:b"}, "pooling: expected either pooling or factory, got both"),
        ({"kind": "python", "factory": "a:b"}, "pooling: a key of kind pooled, got kind python"),
        ({"pooling": {"form": "maximum"}}, "pooling.form"),
        ({"pooling": {"form": "query_attention", "attention_heads": 4}}, "attention_heads: expected a divisor of D"),
        ({"heads": {"1": {"file": "head-01.safetensors"}}}, "heads: expected 0 files, got 1"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, keys: dict[str, object], part: str) -> None:
    url = bundle_of("attentive probe", tmp_path)
    edit(url, **keys)
    assert part in refusal(url).replace(": form", ".form")


def own_bundle(folder: Path, name: str) -> str:
    url = python_bundle(folder, f"tests.support.factories:{name}", n_classes=C)
    edit(url, format=2, kind="pooled", feature_dim=D)
    return url


def test_a_module_with_encode_and_decode(tmp_path: Path) -> None:
    url, case = own_bundle(tmp_path / "own", "deep_set"), CASES["encode and decode"]()
    model = load_model(url, code="tests")
    original = pooled_model(case.pooling, make_prior(C), feature_dim=D, width=case.width)
    result, expected = explain(model, features_of(7)), explain(original, features_of(7))
    np.testing.assert_allclose(result.esv, expected.esv, rtol=0, atol=1e-6)
    assert len(model.digest) == 64
    assert "expected consent to run code" in refusal(url, code="somebody_else")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("variable", "a pooled model needs a module with encode"),
        ("heads", "got dict without encode and decode"),
        ("deep_set_of_another_forward", "expected the forward pass of Other to be decode(sum of encode(x)"),
        ("deep_set_that_draws", "torch's global generator"),
        ("encode_of_another_shape", "expected encode (3, 6) -> (3, E), got (3, 5, 1)"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, name: str, part: str) -> None:
    assert part in refusal(own_bundle(tmp_path / "own", name))
