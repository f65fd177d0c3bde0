"""Take the tensors of a published layout from a state dict."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.sources.checkpoints import Checkpoint
from esv_ray.models.weights import check_weights


def tensors_of_layout(
    checkpoint: Checkpoint, pattern: re.Pattern[str], key: Callable[[re.Match[str]], str], *, expected: str
) -> dict[str, Tensor]:
    """Return the tensors of a state dict by their names in the layout.

    Args:
        checkpoint: the file's content.
        pattern: matches the whole name of each tensor of the layout; its first group is the prefix, which all of them
            share.
        key: returns the name in the layout.
        expected: the names of the layout, for errors.

    Raises:
        ModelError: there are none, those of two models, further tensors that may change F, or some are no weights.
    """
    url = checkpoint.url
    matches = {name: pattern.fullmatch(name) for name in checkpoint.state}
    found = {name: match for name, match in matches.items() if match is not None}
    prefixes = sorted({match[1] for match in found.values()})
    if not prefixes:
        got = next((repr(name)[:100] for name in matches), "none of them")
        raise ModelError(f"{url}: expected keys {expected}; got {got}")
    if len(prefixes) > 1:
        raise ModelError(
            f"{url}: expected the tensors of one model, got some under {few([repr(each)[:60] for each in prefixes])}; "
            "save only the state dict of the model to import"
        )
    check_no_strays(url, [name for name in matches if name not in found], expected=expected)
    state = {name: checkpoint.tensor(name) for name in found}
    with in_file(url):
        check_weights(state)
    return {key(match): state[name] for name, match in found.items()}


def check_no_strays(url: str, strays: list[str], *, expected: str) -> None:
    """Refuse tensors beside those of the layout.

    Args:
        url: location of the checkpoint.
        strays: their names.
        expected: the names of the layout.
    """
    if strays:
        raise ModelError(
            f"{url}: expected {expected} alone, got {few([repr(name)[:60] for name in strays])} too: further layers "
            "may change F; leave them out of the state dict only if they are before the features or unused"
        )
