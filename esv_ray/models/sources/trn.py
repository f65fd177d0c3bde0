"""Published TRN checkpoints (Zhou et al. 2018) with a bottleneck, and TSN heads of mmaction2, as model bundles.

A linear layer maps the features to a bottleneck. Relation I then maps the concatenation of s = N - I elements to
logits: ReLU, linear, ReLU, linear; I = 0 is the longest scale N, the last one scale 2. The published forward pass adds
the longest relation once and up to three random subsequences of every other scale. Its expectation is the weighted
sum (`core.scales.Scales`) with these numbers as weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.modules import Average, Over
from esv_ray.core.scales import Combine
from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.sources.built_in import imported_average, imported_heads
from esv_ray.models.sources.checkpoints import read_checkpoint
from esv_ray.models.sources.configuration import configuration_rows, extraction_of
from esv_ray.models.sources.imported import Imported, Row
from esv_ray.models.sources.layouts import tensors_of_layout
from esv_ray.models.sources.notes import unused_rows
from esv_ray.models.weights import head_from_state, projection_from_state

_DRAWN = 3  # subsequences of each shorter scale in the published forward pass
_LINEARS = {"linears.0": "1", "linears.1": "3"}  # names of `MlpHead`, places in a torch.nn.Sequential
_PARTS = ("weight", "bias")
_NORM_EPS = 1e-5  # of no use: these heads have no batch norm


@dataclass(frozen=True)
class Layout:
    """Names of the tensors of a published model.

    Attributes:
        projection: prefix of the linear layer that maps features to the bottleneck; of a TSN, to the classes.
        consensus: prefix of the relations.
        tsn: whether a model without relations is a TSN.
    """

    projection: str
    consensus: str
    tsn: bool = False


LAYOUTS = {
    "trn-pytorch": Layout("new_fc", "consensus"),
    "epic-kitchens": Layout("new_fc", "consensus"),  # below `model.`
    "mmaction2": Layout("cls_head.fc_cls", "cls_head.consensus", tsn=True),
}


def read_trn(checkpoint: str, *, source: str, combine: Combine = "sum", over: Over = "logits") -> Imported:
    """Read a published TRN, or a TSN of mmaction2.

    Args:
        checkpoint: location.
        source: key of `LAYOUTS`.
        combine: `sum`: F is the expectation of the published forward pass; `mean`: F of a shorter subsequence is scaled
            up, so that its logits are as large as those of a full sequence.
        over: what a TSN averages over elements.

    Raises:
        ModelError: the file is no such checkpoint, or holds further tensors that may change F.
    """
    layout = LAYOUTS[source]
    pattern = _pattern(layout)
    read = read_checkpoint(checkpoint, lambda name: pattern.fullmatch(name) is not None)
    expected = f"{layout.projection}.weight/bias and {layout.consensus}.fc_fusion_scales.<I>.{{1,3}}.weight/bias"
    state = tensors_of_layout(read, pattern, _key, expected=expected)
    with in_file(checkpoint):
        shapes = {name: tuple(state[f"projection.{name}"].shape) for name in _PARTS if f"projection.{name}" in state}
        weight, bias = shapes.get("weight", ()), shapes.get("bias", ())
        if len(weight) != 2 or bias != weight[:1]:
            raise ModelError(
                f"expected {layout.projection}.weight (bottleneck, D) and {layout.projection}.bias (bottleneck,), got "
                f"{shapes or 'none'}"
            )
        projection = projection_from_state({name: state[f"projection.{name}"] for name in _PARTS}, weight[1])
        relations = _relations(state, projection.out_features)
        rows = unused_rows({checkpoint: read}, projection.in_features)
        rows += configuration_rows(read.configuration, "probabilities" if relations else over)
        extraction = extraction_of(read.configuration)
        if relations and over != "logits":
            raise ModelError(f"expected a TSN for a mean over {over}, got a TRN, which adds logits")
        if relations:
            return _imported_relations(projection, relations, combine, rows, extraction)
        if not layout.tsn:
            raise ModelError(
                f"expected relations {layout.consensus}.fc_fusion_scales.<I>..., got {layout.projection} alone"
            )
    average = Average(projection.weight.detach(), projection.bias.detach(), input_relu=False, over=over)
    return imported_average(average, found="TSN", rows=rows, extraction=extraction)


def _pattern(layout: Layout) -> re.Pattern[str]:
    """Return the pattern of the names: a prefix, then the projection, a relation of a scale, or a single relation."""
    consensus = re.escape(layout.consensus)
    return re.compile(
        rf"((?:.+?\.)??)(?:{re.escape(layout.projection)}\.(?P<linear>weight|bias)"
        rf"|{consensus}\.fc_fusion_scales\.(?P<relation>0|[1-9][0-9]{{0,3}})\.(?P<place>[0-9])\.(?P<name>weight|bias)"
        rf"|{consensus}\.classifier\.(?P<only>[0-9])\.(?P<of_only>weight|bias))"
    )


def _key(match: re.Match[str]) -> str:
    """Return a tensor's name as ``projection.*`` or ``<relation>.<place>.*``."""
    if match["linear"]:
        return f"projection.{match['linear']}"
    if match["relation"]:
        return f"{int(match['relation'])}.{match['place']}.{match['name']}"
    return f"only.{match['only']}.{match['of_only']}"


def _relations(state: Mapping[str, Tensor], width: int) -> dict[int, dict[str, Tensor]]:
    """Return the tensors of each relation by its scale, with the names of `MlpHead`.

    Args:
        state: tensors by the names of `_state`.
        width: of the bottleneck.

    Raises:
        ModelError: a relation is missing or has other layers.
    """
    relations: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        if first != "projection":
            relations.setdefault(first, {})[rest] = tensor
    if not relations:
        return {}
    if "only" in relations and len(relations) > 1:
        raise ModelError("expected relations of several scales, or of one; got both")
    renamed = []
    for number in ["only"] if "only" in relations else [str(number) for number in range(len(relations))]:
        tensors = relations.get(number) or {}
        if set(tensors) != {f"{place}.{name}" for place in _LINEARS.values() for name in _PARTS}:
            raise ModelError(
                f"relation {number}: expected linear layers at places 1 and 3, after a ReLU each, got "
                f"{few(sorted(tensors)) or 'none'}"
            )
        sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        hidden, last = sizes["1.weight"], sizes["3.weight"]
        biases_fit = sizes["1.bias"] == hidden[:1] and sizes["3.bias"] == last[:1]
        if len(hidden) != 2 or len(last) != 2 or last[1:] != hidden[:1] or not biases_fit:
            raise ModelError(f"relation {number}: expected two linear layers that fit each other, got {sizes}")
        names = [(ours, place, name) for ours, place in _LINEARS.items() for name in _PARTS]
        renamed.append({f"{ours}.{name}": tensors[f"{place}.{name}"] for ours, place, name in names})
    longest = renamed[0]["linears.0.weight"].shape[1] / width
    expected = [longest] if "only" in relations else list(range(int(longest), 1, -1))
    inputs = [state["linears.0.weight"].shape[1] for state in renamed]
    if longest != int(longest) or longest < 2 or inputs != [s * width for s in expected]:
        scales = "of one scale N >= 2" if "only" in relations else "of every scale N, N - 1, ..., 2"
        raise ModelError(f"expected relations {scales}, with s x {width} inputs at scale s, got {inputs} inputs")
    return dict(zip(map(int, expected), renamed, strict=True))


def _imported_relations(
    projection: nn.Linear,
    relations: Mapping[int, Mapping[str, Tensor]],
    combine: Combine,
    rows: tuple[Row, ...],
    extraction: Mapping[str, object] | None,
) -> Imported:
    """Return a TRN."""
    width, longest = projection.out_features, max(relations)
    n_classes = len(relations[longest]["linears.1.weight"])
    heads: dict[int, MlpHead] = {
        s: head_from_state(state, scale=s, feature_dim=width, n_classes=n_classes, input_relu=True, norm_eps=_NORM_EPS)
        for s, state in relations.items()
    }
    weights = {s: float(1 if s == longest else min(_DRAWN, comb(longest, s))) for s in heads}
    total = sum(weights.values())
    if combine == "mean":
        for head in heads.values():
            last = head.linears[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.mul_(total)
                last.bias.mul_(total)
    scales = f"scale {longest}" if len(heads) == 1 else f"scales {min(heads)} to {longest}"
    terms = " + ".join(f"{weights[s]:g} f^{s}" for s in sorted(heads))
    text = f"{terms} (means over subsequences), the expectation of the published forward pass"
    return imported_heads(
        heads,
        found=f"TRN of {longest} segments: relations of {scales}, bottleneck {width}",
        f=text if combine == "sum" else f"{text}; of shorter subsequences scaled up to the same total weight",
        weights=weights,
        combine=combine,
        projection=projection,
        rows=rows,
        extraction=extraction,
    )
