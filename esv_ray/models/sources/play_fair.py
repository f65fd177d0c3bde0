"""The authors' released checkpoints (willprice/play-fair) as model bundles.

An MLP's keys are ``model.<i>.weight/bias``, where i counts the
places of [ReLU,] dropout, linear, [batch norm,] ReLU, ..., linear; a TSN's are ``classifier.weight/bias``; a joint
multi-scale checkpoint holds all heads under ``single_scale_models.<s - 1>.model.<i>``. Every tensor is used or reported
as unused; any other tensor that may change F is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.modules import Average
from esv_ray.errors import ModelError
from esv_ray.input.faults import check_all
from esv_ray.models.class_tables import in_file
from esv_ray.models.sources.built_in import imported_average, imported_heads
from esv_ray.models.sources.checkpoints import Checkpoint, read_checkpoint
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.layouts import check_no_strays, tensors_of_layout
from esv_ray.models.sources.mlp_places import layers_of_places
from esv_ray.models.sources.notes import unused_rows
from esv_ray.models.weights import head_from_state

_NORM_EPS = 1e-5  # torch's default, used by the authors; a checkpoint does not store it
_NAMED_SCALE = re.compile(r", scale ([0-9]{1,9})$|_([0-9]{1,9})_frames(?:\.\w+)*$")
# The heads may have a common prefix (Lightning's `model.`, the authors' `temporal_module.`).
_HEAD = re.compile(
    r"((?:.+?\.)??)"
    r"((?:single_scale_models\.(?:0|[1-9][0-9]{0,5})\.)?model\.[0-9]+\.\w+|classifier\.(?:weight|bias))"
)
_JOINT = re.compile(r"single_scale_models\.([0-9]{1,6})\.(model\..+)")
_LAYOUTS = {
    "joint": "single_scale_models.<s - 1>.model.<i>...",
    "average": "classifier.weight and classifier.bias (TSN)",
    "single": "model.<i>.weight/bias",
}
_EXPECTED = "model.<i>.weight/bias, or those of a TSN (classifier.weight/bias)"


def read_play_fair(checkpoints: Sequence[str], *, input_relu: bool = True) -> Imported:
    """Read the authors' checkpoints.

    Args:
        checkpoints: locations: one TSN, one joint multi-scale checkpoint, or single-scale MLPs of scales 1..n_max in
            any order.
        input_relu: whether a TSN has a ReLU on its input, which its checkpoint does not record (the authors' have one);
            for an MLP the layers determine it.

    Raises:
        ModelError: a file is not such a checkpoint or holds further tensors that may change F, or scales are missing.
    """
    if not checkpoints:
        raise ModelError("expected at least one checkpoint, got none")
    files = Counter(map(storage.identity, checkpoints))
    repeated = [url for url in checkpoints if files[storage.identity(url)] > 1]
    if repeated:
        raise ModelError(f"{repeated[0]}: expected each checkpoint once, got it more than once")
    both = check_all({url: partial(_read, url) for url in checkpoints})
    read = {url: checkpoint for url, (checkpoint, _) in zip(checkpoints, both, strict=True)}
    states = {url: state for url, (_, state) in zip(checkpoints, both, strict=True)}
    averages = [url for url, state in states.items() if _layout(state) == "average"]
    if averages and len(states) > 1:
        raise ModelError(
            f"{averages[0]} is a TSN (classifier.weight), which is a complete model: expected one checkpoint, got "
            f"{len(states)}"
        )
    if averages:
        average = _average(averages[0], states[averages[0]], input_relu)
        return imported_average(average, found="TSN", rows=unused_rows(read, average.weight.shape[1]))
    heads = _heads(states)
    return imported_heads(
        heads,
        found=f"multi-scale model, n_max = {max(heads)}",
        f="mean over scales of the mean logits over subsequences of each scale (Eq. 8 of the paper)",
        rows=unused_rows(read, heads[1].feature_dim),
    )


def _read(url: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Return a checkpoint, and the heads' tensors by their names in the layout, all of one layout.

    Raises:
        ModelError: there are none, or there are further tensors that may change F.
    """
    checkpoint = read_checkpoint(url, lambda name: _HEAD.fullmatch(name) is not None)
    state = tensors_of_layout(checkpoint, _HEAD, lambda match: match[2], expected=_EXPECTED)
    layout = _layout(state)
    check_no_strays(url, [key for key in state if _layout([key]) != layout], expected=_LAYOUTS[layout])
    return checkpoint, state


def _layout(keys: Iterable[str]) -> str:
    """Return the layout of keys; for mixed keys that of a joint checkpoint or of a TSN."""
    joined = {
        "joint" if _JOINT.fullmatch(key) else "average" if key.startswith("classifier.") else "single" for key in keys
    }
    return next(name for name in _LAYOUTS if name in joined)


def _average(url: str, state: Mapping[str, Tensor], input_relu: bool) -> Average:
    weight, bias = state.get("classifier.weight"), state.get("classifier.bias")
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (weight, bias)]
    if weight is None or bias is None or weight.ndim != 2 or 0 in weight.shape or bias.shape != weight.shape[:1]:
        raise ModelError(
            f"{url}: expected classifier.weight (C, D) and classifier.bias (C,), got weight {shapes[0] or 'none'}, "
            f"bias {shapes[1] or 'none'}"
        )
    # Copies: the two may share memory in the file.
    return Average(weight.to(torch.float32, copy=True), bias.to(torch.float32, copy=True), input_relu=input_relu)


def _heads(states: Mapping[str, Mapping[str, Tensor]]) -> dict[int, MlpHead]:
    """Return the heads by scale s, determined from the number of inputs, s * D."""
    parts: dict[str, dict[str, Tensor]] = {}
    for url, state in states.items():
        if _layout(state) == "single":
            parts[url] = dict(state)
            continue
        scales = set()
        for key, tensor in state.items():
            match = _JOINT.fullmatch(key)
            assert match is not None
            scales.add(int(match[1]) + 1)
            parts.setdefault(f"{url}, scale {int(match[1]) + 1}", {})[match[2]] = tensor
        named = _NAMED_SCALE.search(url)
        if named and named[2] and max(scales) != int(named[2]):
            raise ModelError(
                f"{url}: expected heads of scales 1..{named[2]}, as in the file's name, got scales up to "
                f"{max(scales)}; rename the file if it is complete"
            )
    layers = {}
    for location, part in parts.items():
        with in_file(location):
            layers[location] = layers_of_places(part, _NORM_EPS)
    inputs = {location: state["linears.0.weight"].shape[1] for location, (state, _) in layers.items()}
    feature_dim = min(inputs.values())
    if sorted(inputs.values()) != [s * feature_dim for s in range(1, len(inputs) + 1)]:
        raise ModelError(
            "expected single-scale checkpoints of every scale 1..n_max, with D, 2 D, 3 D, ... inputs; got "
            + ", ".join(f"{location}: {count} inputs" for location, count in inputs.items())
        )
    heads: dict[int, MlpHead] = {}
    n_classes = _outputs(next(state for location, (state, _) in layers.items() if inputs[location] == feature_dim))
    for location, (state, relu) in layers.items():
        scale = inputs[location] // feature_dim
        named = _NAMED_SCALE.search(location)
        # Widths alone cannot tell scales 2 and 4 of D from scales 1 and 2 of 2 D; the authors' names can.
        if named and int(named[1] or named[2]) != scale:
            raise ModelError(
                f"{location}: expected a head of scale {named[1] or named[2]}, as in its name, got {inputs[location]} "
                f"inputs, which is scale {scale} (D = {feature_dim}, the fewest inputs of all files); give all scales "
                "1..n_max"
            )
        try:
            heads[scale] = head_from_state(
                state,
                scale=scale,
                feature_dim=feature_dim,
                n_classes=n_classes,
                input_relu=relu,
                norm_eps=_NORM_EPS,
            )
        except ModelError as error:
            raise ModelError(f"{location}: {error}") from None
    if len({(head.input_relu, head.norms is None) for head in heads.values()}) != 1:
        raise ModelError("expected heads of one kind, got some with and some without input ReLU or batch norm")
    return dict(sorted(heads.items()))


def _outputs(state: Mapping[str, Tensor]) -> int:
    """Return the number of outputs of the last linear layer."""
    last = max(int(name.split(".")[1]) for name in state if name.startswith("linears."))
    return len(state[f"linears.{last}.weight"])
