"""Take the tensors of a published layout from a state dict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.sources.checkpoints import Checkpoint
from esv_ray.models.weights import check_weights

# By the value of --from, the most specific first: names that its checkpoints have.
_SIGNATURES = {
    "mmaction2": r"(?:.+\.)?cls_head\.fc_cls\.weight",
    "trn-pytorch": r"(?:.+\.)?(?:new_fc\.weight|consensus\.(?:fc_fusion_scales\..+|classifier\.[0-9]\.weight))",
    "attentive-probe": r"(?:.+\.)?pooler\.query_tokens",
    "clam": r"(?:.+\.)?(?:attention_net\.0|classifiers(?:\.[0-9]+)?|instance_classifiers\.[0-9]+)\.weight",
    "abmil": r"(?:.+\.)?(?:attention_[VU]\.0|attention_w|attention_weights|attention\.0)\.weight",
    "play-fair": r"(?:.+\.)?(?:single_scale_models\.[0-9]+\.)?model\.[12]\.weight",
}
_LAST_LAYER = re.compile(r"(?:.+\.)?(?:fc|fc_cls|head|classifier(?:\.[0-9]+)?|proj|projection|logits)\.weight")
_LAST_SHAPE = 2


def nearest_layout(state: Mapping[str, object]) -> str:
    """Return a hint at the source whose names are nearest to those of a state dict, or an empty text."""
    likely = _signature(state)
    if likely:
        return likely
    if "weight" in state and {*state} <= {"weight", "bias"}:
        return "; if this linear layer follows the features: use --from linear"
    last = [
        name
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and tensor.ndim == _LAST_SHAPE and _LAST_LAYER.fullmatch(name)
    ]
    if not last:
        return ""
    layer = last[-1].removesuffix(".weight")
    return f"; if one linear layer follows the features: use --from linear --layer {layer:.60}"


def _signature(names: Iterable[str]) -> str:
    """Return a hint at the source that has some of the names, or an empty text."""
    given = list(names)
    for source, pattern in _SIGNATURES.items():
        if any(re.fullmatch(pattern, name) for name in given):
            return f"; keys look like those of {source}: use --from {source}"
    return ""


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
        raise ModelError(f"{url}: expected keys {expected}; got {got}{nearest_layout(checkpoint.state)}")
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
            + _signature(strays)
        )
