"""Attention-based models of multiple-instance learning: ABMIL (Ilse et al. 2018) and CLAM (Lu et al. 2021).

Each element gets a weight from a small network; the class logits are linear in the weighted mean of the elements. CLAM
with several branches has an attention weight per class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import in_file
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.sources.checkpoints import read_checkpoint
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.layouts import tensors_of_layout
from esv_ray.models.sources.notes import unused_rows
from esv_ray.models.sources.pooled import imported_pooled

_UNUSED = "unused"

# Patterns of the layers' names, and the names of `GatedAttentionPooling`. Dropout moves the places in a Sequential.
_LAYOUTS = {
    "abmil": {
        r"feature_extractor_part1\.[0-9]+": _UNUSED,  # convolutions before the features
        r"feature_extractor_part2\.0": "hidden",
        r"attention\.0|attention_V\.0": "tanh",
        r"attention_U\.0": "gate",
        r"attention\.2|attention_weights|attention_w": "attention",
        r"classifier|classifier\.0": "classifier",
    },
    "clam": {
        r"attention_net\.0": "hidden",
        r"attention_net\.[23]\.(?:attention_a\.)?0": "tanh",  # without gate: module.0; `module` is taken as a wrapper
        r"attention_net\.[23]\.attention_b\.0": "gate",
        r"attention_net\.[23]\.(?:attention_c|[23])": "attention",
        r"classifiers": "classifier",
        r"classifiers\.(?P<of_class>0|[1-9][0-9]{0,5})": "classifier",
        r"instance_classifiers\.[0-9]+": _UNUSED,  # for training only
    },
}
_EXPECTED = {
    "abmil": "attention.{0,2} or attention_V.0, attention_U.0 and attention_w, and classifier.0",
    "clam": "attention_net.0, attention_net.<I>.attention_{a.0,b.0,c} and classifiers",
}


def read_attention(checkpoint: str, *, source: str) -> Imported:
    """Read a model of ABMIL or CLAM.

    Args:
        checkpoint: location.
        source: `abmil` or `clam`.

    Raises:
        ModelError: the file is no such checkpoint, or holds further tensors that may change F.
    """
    layers = _LAYOUTS[source]
    names = "|".join(each.replace("?P<of_class>", "?:") for each in layers)
    pattern = re.compile(rf"((?:.+?\.)??)({names})\.(weight|bias)")
    read = read_checkpoint(checkpoint, lambda name: pattern.fullmatch(name) is not None)
    named = tensors_of_layout(read, pattern, lambda match: f"{match[2]}.{match[3]}", expected=_EXPECTED[source])
    with in_file(checkpoint):
        state, unused, per_class = _layers(named, layers)
        missing = [name for name in ("tanh", "attention", "classifier") if f"{name}.weight" not in state]
        if missing:
            raise ModelError(f"expected {_EXPECTED[source]}; no layer {missing[0]}")
        classifier = state["classifier.weight"]
        binary = classifier.ndim == 2 and len(classifier) == 1 and not per_class
        if binary:  # a sigmoid is the softmax of 0 and its logit
            for name in [name for name in state if name.startswith("classifier.")]:
                state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
        first = state.get("hidden.weight", state["tanh.weight"])
        feature_dim = first.shape[-1] if first.ndim else 0
        heads = len(state["attention.weight"]) if state["attention.weight"].ndim else 0
        gate = "gated attention" if "gate.weight" in state else "attention"
        rows = [*unused_rows({checkpoint: read}, feature_dim)]
        for group, count in Counter(name.partition(".")[0] for name in unused).items():
            rows.append(("not used", f"{group}.* ({count} tensors)"))
        return imported_pooled(
            PoolingManifest(form="gated_attention", per_class=per_class),
            state,
            feature_dim=feature_dim,
            found=f"{source.upper()}, {gate}, " + ("one branch per class" if per_class else f"{heads} branch(es)"),
            f="linear in the mean of the elements, weighted by attention"
            + ("; probabilities of class 1 are sigmoids" if binary else ""),
            rows=tuple(rows),
        )


def _layers(named: Mapping[str, Tensor], layers: Mapping[str, str]) -> tuple[dict[str, Tensor], list[str], bool]:
    """Return the tensors by the names of `GatedAttentionPooling`, the unused ones, and whether classes have branches.

    Raises:
        ModelError: two tensors have one name, or a class lacks its classifier.
    """
    state: dict[str, Tensor] = {}
    unused: list[str] = []
    of_class: dict[str, dict[int, Tensor]] = {}
    for name, tensor in named.items():
        layer, _, part = name.rpartition(".")
        match, ours = next(
            (match, ours) for pattern, ours in layers.items() if (match := re.fullmatch(pattern, layer)) is not None
        )
        branch = match.groupdict().get("of_class")
        if ours == _UNUSED:
            unused.append(name)
        elif branch is not None:
            of_class.setdefault(f"{ours}.{part}", {})[int(branch)] = tensor
        elif f"{ours}.{part}" in state:
            raise ModelError(f"expected one layer {ours}, got another one: {name}")
        else:
            state[f"{ours}.{part}"] = tensor
    for key, tensors in of_class.items():
        shapes = {tuple(tensor.shape) for tensor in tensors.values()}
        if key in state or sorted(tensors) != list(range(len(tensors))) or len(shapes) > 1:
            raise ModelError(f"expected one classifier for each class, of one shape, got {sorted(tensors)}: {shapes}")
        state[key] = torch.cat([tensors[c] for c in range(len(tensors))])
    return state, unused, bool(of_class)
