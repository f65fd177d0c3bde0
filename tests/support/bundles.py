"""Bundles of kind `python`, of the modules in `factories`."""

from __future__ import annotations

import json
from pathlib import Path


def python_bundle(folder: Path, factory: str, **arguments: str) -> str:
    """Write a model that a function of `factories` makes into a new folder: D = 4, C = 3."""
    folder.mkdir()
    (folder / "prior.csv").write_text("class,prior\n0,0.5\n1,0.25\n2,0.25\n")
    manifest = {"format": 1, "kind": "python", "feature_dim": 4, "n_classes": 3, "arguments": arguments}
    (folder / "model.json").write_text(json.dumps({**manifest, "factory": f"tests.support.job_factories:{factory}"}))
    return str(folder)
