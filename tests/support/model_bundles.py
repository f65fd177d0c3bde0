"""Model bundles that tests write, change, and see refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esv_ray.errors import EsvError, ModelError
from esv_ray.models.bundle import load_model
from tests.conftest import make_prior


def edit(url: str, **keys: Any) -> None:
    """Put other values into model.json."""
    path = Path(url, "model.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def refusal(url: str, kind: type[EsvError] = ModelError, code: str = "tests") -> str:
    """The message, one line, with which a bundle is refused."""
    with pytest.raises(EsvError) as caught:
        load_model(url, code=code)
    text = str(caught.value)
    assert text.splitlines() == [text], text
    assert type(caught.value) is kind, repr(caught.value)
    return text


def python_bundle(folder: Path, factory: object, *, n_classes: int = 3, **keys: Any) -> str:
    folder.mkdir(exist_ok=True)
    manifest = {"format": 1, "kind": "python", "feature_dim": 4, "n_classes": n_classes, "factory": factory, **keys}
    (folder / "model.json").write_text(json.dumps(manifest))
    rows = [f"{index},{p}" for index, p in enumerate(make_prior(n_classes).tolist())]
    (folder / "prior.csv").write_text("\n".join(["class,prior", *rows]) + "\n")
    return str(folder)
