"""model.json edited by hand: any key deleted, of a wrong type, or absurd gives a model or one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esv_ray.core.games.modules import Average
from esv_ray.errors import EsvError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.saving import save_average, save_heads, save_pooled, save_python
from tests.conftest import make_heads, make_prior
from tests.support.model_bundles import edit, refusal
from tests.support.pooled import CASES, C, D

DELETED = object()
ABSURD: list[object] = [
    DELETED,
    *(0, -1, 1.5, True, None, "3", [], {}, [None], {"1": None}),
    *(2**24, 10**400, float("nan"), 1e-320, "\ud800", "x" * 100_000),
]
INFORMATIVE = ("training", "extraction", "arguments")  # any values


def first_format(url: str) -> None:
    """Heads as in format 1."""
    save_heads(url, make_heads(), make_prior(3), classes=("one", "two", "three"))
    path = Path(url, "model.json")
    content = json.loads(path.read_text())
    names = [head["file"] for head in content["heads"].values()]
    path.write_text(json.dumps({**content, "format": 1, "heads": names}))


def weighted(url: str) -> None:
    heads = make_heads()
    weights = {s: float(s) for s in heads}
    projection = nn.Linear(5, 4)
    notes = {"training": {"epochs": 3}, "extraction": {"size": 224, "mean": [0.5]}}
    save_heads(url, heads, make_prior(3), weights=weights, combine="sum", projection=projection, **notes)  # type: ignore[arg-type]


def average(url: str) -> None:
    save_average(url, Average(torch.ones(3, 4), torch.zeros(3), input_relu=True, over="probabilities"), make_prior(3))


def pooled(name: str) -> Callable[[str], None]:
    return lambda url: save_pooled(url, CASES[name]().pooling, make_prior(C), feature_dim=D)  # type: ignore[arg-type]


def python(url: str) -> None:
    module = nn.Linear(4, 3)
    weights = {"linear.weight": module.weight.detach(), "linear.bias": module.bias.detach()}
    manifest = {
        "kind": "python",
        "feature_dim": 4,
        "n_max": None,
        "factory": "tests.support.factories:variable",
        "arguments": {"feature_dim": 4},
        "fixed_length": [],
    }
    save_python(url, manifest, weights, make_prior(3))


BUNDLES: dict[str, Callable[[str], None]] = {
    "format 1": first_format,
    "weighted sum": weighted,
    "average": average,
    "cosine": pooled("CLIP"),
    "gated attention": pooled("ABMIL"),
    "query attention": pooled("attentive probe"),
    "python": python,
}


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all keys and items of a JSON value, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def edited(content: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A copy with another value at a path, or without it."""
    out = copy.deepcopy(content)
    parent: Any = out
    for key in path[:-1]:
        parent = parent[key]
    if value is DELETED:
        parent.pop(path[-1], None) if isinstance(parent, dict) else parent.pop(path[-1])
    else:
        parent[path[-1]] = value
    return out


def meet(url: str) -> None:
    """Load a bundle, and explain with it; any error is one printable line of an EsvError."""
    try:
        model = load_model(url, code="tests")
        if model.feature_dim < 1000:
            explain(model, torch.ones(2, model.feature_dim), memory_budget=10**8)
    except EsvError as error:
        text = str(error)
        assert text.isprintable(), text
        assert len(text) < 3000


def test_a_length_is_not_tried_that_takes_all_memory(tmp_path: Path) -> None:
    url = str(tmp_path / "model")
    python(url)
    edit(url, n_max=2**23)
    assert "n_max: expected a length whose features can be tried, got 8388608 elements of 4 numbers" in refusal(url)
    edit(url, n_max=2000)
    assert load_model(url, code="tests").n_max is None


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", BUNDLES)
def test_every_key_may_be_missing_or_absurd(tmp_path: Path, name: str) -> None:
    url = str(tmp_path / "model")
    BUNDLES[name](url)
    model = load_model(url, code="tests")
    assert len(explain(model, torch.ones(2, model.feature_dim)).esv) == 2, "the bundle is sound"
    file = Path(url, "model.json")
    content = json.loads(file.read_text())
    known = [(key,) for key in BundleManifest.model_fields if key not in content]
    inner = [path for path in places(content) if len(path) == 1 or path[0] not in INFORMATIVE]
    for path in [*inner, *known]:
        for value in ABSURD:
            try:
                file.write_text(json.dumps(edited(content, path, value)))
            except ValueError:  # of too many digits for Python to print
                continue
            try:
                meet(url)
            except BaseException as error:
                error.add_note(f"{path} = {value!r:.60}")
                raise
