"""The authors' released checkpoints (willprice/play-fair) as model bundles.

Only tensors are unpickled (``weights_only=True``). An MLP's keys are ``model.<i>.weight/bias``, where i counts the
places of [ReLU,] dropout, linear, [batch norm,] ReLU, ..., linear; a TSN's are ``classifier.weight/bias``; a joint
multi-scale checkpoint holds all heads under ``single_scale_models.<s - 1>.model.<i>``. Every tensor is used or reported
as unused; any other tensor that may change F is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.modules import Average
from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few, in_file, read_classes, read_prior
from esv_ray.models.saving import save_average, save_heads
from esv_ray.models.sources.checkpoints import Checkpoint, read_checkpoint
from esv_ray.models.sources.mlp_places import layers_of_places
from esv_ray.models.sources.notes import unused_notes
from esv_ray.models.weights import check_weights, head_from_state

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


def import_play_fair(
    checkpoints: Sequence[str], *, prior: str, out: str, classes: str | None = None, input_relu: bool = True
) -> str:
    """Write a bundle from the authors' checkpoints.

    Args:
        checkpoints: locations: one TSN, one joint multi-scale checkpoint, or single-scale MLPs of scales 1..n_max in
            any order.
        prior: location of the class prior's CSV (class,prior).
        out: folder of the bundle.
        classes: location of the class names' CSV (name,id), or None.
        input_relu: whether a TSN has a ReLU on its input, which its checkpoint does not record (the authors' have one);
            for an MLP the layers determine it.

    Returns:
        A one-line summary: what was written, which tensors were not used, and changes to the prior.

    Raises:
        ModelError: a file is not such a checkpoint or holds further tensors that may change F, or scales are missing.
    """
    if not checkpoints:
        raise ModelError("expected at least one checkpoint, got none")
    files = Counter(map(storage.identity, checkpoints))
    repeated = [url for url in checkpoints if files[storage.identity(url)] > 1]
    if repeated:
        raise ModelError(f"{repeated[0]}: expected each checkpoint once, got it more than once")
    read = {url: read_checkpoint(url, lambda name: _HEAD.fullmatch(name) is not None) for url in checkpoints}
    states = {url: _state(url, checkpoint) for url, checkpoint in read.items()}
    prior_values, notes = read_prior(prior)
    names, name_notes = (None, []) if classes is None else read_classes(classes, len(prior_values))
    notes += name_notes
    averages = [url for url, state in states.items() if _layout(state) == "average"]
    if averages and len(states) > 1:
        raise ModelError(
            f"{averages[0]} is a TSN (classifier.weight), which is a complete model: expected one checkpoint, got "
            f"{len(states)}"
        )
    if averages:
        average = _average(averages[0], states[averages[0]], len(prior_values), input_relu)
        save_average(out, average, prior_values, classes=names)
        feature_dim = average.weight.shape[1]
        summary = f"TSN, D = {feature_dim}, C = {len(prior_values)}"
    else:
        heads = _heads(states, len(prior_values))
        save_heads(out, heads, prior_values, classes=names)
        feature_dim = heads[1].feature_dim
        summary = f"multi-scale model, n_max = {max(heads)}, D = {feature_dim}, C = {len(prior_values)}"
    return "; ".join([summary, *unused_notes(read, feature_dim), *notes])


def _state(url: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the heads' tensors by their names in the layout.

    Raises:
        ModelError: there are none, or there are further tensors that may change F.
    """
    matches = {name: _HEAD.fullmatch(name) for name in checkpoint.state}
    prefixes = sorted({match[1] for match in matches.values() if match})
    if not prefixes:
        got = next((repr(name)[:100] for name in matches), "none of them")
        raise ModelError(f"{url}: expected keys model.<i>.weight/bias, or those of a TSN; got {got}")
    if len(prefixes) > 1:
        raise ModelError(
            f"{url}: expected the heads of one model, got some under {few([repr(each)[:60] for each in prefixes])}; "
            "save only the state dict of the model to import"
        )
    heads = {match[2]: name for name, match in matches.items() if match}
    layout = _layout(heads)
    strays = [name for name, match in matches.items() if not match]
    strays += [name for key, name in heads.items() if _layout([key]) != layout]
    if strays:
        raise ModelError(
            f"{url}: expected {_LAYOUTS[layout]} alone, got {few([repr(name)[:60] for name in strays])} too: further "
            "layers may change F; leave them out of the state dict only if they are before the features or unused"
        )
    tensors = {name: checkpoint.tensor(name) for name in heads.values()}
    with in_file(url):
        check_weights(tensors)
    return {key: tensors[name] for key, name in heads.items()}


def _layout(keys: Iterable[str]) -> str:
    """Return the layout of keys; for mixed keys that of a joint checkpoint or of a TSN."""
    joined = {
        "joint" if _JOINT.fullmatch(key) else "average" if key.startswith("classifier.") else "single" for key in keys
    }
    return next(name for name in _LAYOUTS if name in joined)


def _average(url: str, state: Mapping[str, Tensor], n_classes: int, input_relu: bool) -> Average:
    weight, bias = state.get("classifier.weight"), state.get("classifier.bias")
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (weight, bias)]
    if weight is None or bias is None or weight.ndim != 2 or shapes != [(n_classes, weight.shape[1]), (n_classes,)]:
        raise ModelError(
            f"{url}: expected classifier.weight ({n_classes}, D) and classifier.bias ({n_classes},), since the prior "
            f"has {n_classes} classes; got weight {shapes[0] or 'none'}, bias {shapes[1] or 'none'}"
        )
    # Copies: the two may share memory in the file.
    return Average(weight.to(torch.float32, copy=True), bias.to(torch.float32, copy=True), input_relu=input_relu)


def _heads(states: Mapping[str, Mapping[str, Tensor]], n_classes: int) -> dict[int, MlpHead]:
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
    heads = {}
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
            raise ModelError(f"{location}: {error} (the prior has {n_classes} classes)") from None
    if len({(head.input_relu, head.norms is None) for head in heads.values()}) != 1:
        raise ModelError("expected heads of one kind, got some with and some without input ReLU or batch norm")
    return dict(sorted(heads.items()))
