"""Bundles that tests write: of kind `python`, and heads with large outputs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior


def python_bundle(folder: Path, factory: str, **arguments: str) -> str:
    """Write a model that a function of `factories` makes into a new folder: D = 4, C = 3."""
    folder.mkdir()
    (folder / "prior.csv").write_text("class,prior\n0,0.5\n1,0.25\n2,0.25\n")
    manifest = {"format": 1, "kind": "python", "feature_dim": 4, "n_classes": 3, "arguments": arguments}
    (folder / "model.json").write_text(json.dumps({**manifest, "factory": f"tests.support.job_factories:{factory}"}))
    return str(folder)


def large_bundle(folder: Path, gain: float, bias: float = 0.0) -> str:
    """The small model with its last layers times `gain`, or biases of the size `bias`."""
    heads = make_heads()
    with torch.no_grad():
        for s, head in heads.items():
            last = head.linears[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(gain)
            last.bias.mul_(gain)
            if bias:
                last.bias.copy_(bias * torch.randn(3, generator=torch.Generator().manual_seed(s)))
    save_heads(str(folder), heads, make_prior(3))
    return str(folder)
