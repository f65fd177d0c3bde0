"""Imports of the authors' files, and refusals of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esv_ray.errors import EsvError, ModelError
from esv_ray.models.sources.importing import BundleRequest, import_bundles
from esv_ray.models.sources.play_fair import read_play_fair
from tests.conftest import FILES

PRIOR = str(FILES / "class-priors.csv")

CLASSES = str(FILES / "classes.csv")


def import_play_fair(
    checkpoints: Sequence[str], *, prior: str, out: str, classes: str | None = None, input_relu: bool = True
) -> str:
    """The summary of an import, in a line: what was found, not used and noted; without what F is."""
    rows = import_bundles(read_play_fair(checkpoints, input_relu=input_relu), [BundleRequest(out, prior, classes)])
    texts = [text if heading in ("found", "note") else f"{heading}: {text}" for heading, text in rows]
    left_out = (f"prior: {prior}", f"classes: {classes}", "classes: without names", "F: ", "model: ")
    return "; ".join(text for text in texts if text not in left_out and not text.startswith(left_out[2:]))


def imported(out: Path, *names: str, **options: Any) -> str:
    """The bundle of some of the authors' files."""
    import_play_fair([str(FILES / name) for name in names], prior=PRIOR, out=str(out), **options)
    return str(out)


def state_of(name: str) -> dict[str, Tensor]:
    content = torch.load(FILES / name, weights_only=True)
    state: dict[str, Tensor] = content["model"] if "model" in content else content["state_dict"]
    return state


def written(path: Path, content: object, **options: Any) -> str:
    torch.save(content, path, **options)
    return str(path)


def refusal(
    tmp_path: Path, *checkpoints: str, prior: str = PRIOR, kind: type[EsvError] = ModelError, **options: Any
) -> str:
    """The message, one line, with which an import is refused, nothing having been written."""
    out = tmp_path / "refused"
    with pytest.raises(EsvError) as caught:
        import_play_fair(checkpoints, prior=prior, out=str(out), **options)
    text = str(caught.value)
    assert text.splitlines() == [text], text
    assert type(caught.value) is kind, repr(caught.value)
    assert not out.exists()
    return text
