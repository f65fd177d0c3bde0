"""The last layer of any checkpoint, applied to the pooled features of each element and averaged over elements.

Most clip models are tested in this way: torchvision's ``fc``, ``classifier.<i>`` and ``head``, pytorchvideo's
``blocks.<i>.proj``, SlowFast's ``head.projection``, Hugging Face's ``classifier``. The features are the inputs of that
layer; every other tensor comes before them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from esv_ray.core.games.modules import Average, Over
from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.sources.built_in import imported_average
from esv_ray.models.sources.checkpoint_numbers import may_change_f
from esv_ray.models.sources.checkpoints import Checkpoint, read_checkpoint
from esv_ray.models.sources.configuration import configuration_rows, extraction_of
from esv_ray.models.sources.imported import Imported, Row
from esv_ray.models.sources.notes import counted, unused_rows
from esv_ray.models.weights import check_weights

_WEIGHT = ".weight"
_PARTS = ("weight", "bias")
_USUAL = re.compile(
    r"(?:.+\.)?(?:fc|fc_cls|head|classifier|classifier\.[0-9]+|cls|logits|linear|last_linear|output|projection|proj)"
)
"""Names that last layers usually have."""
_MOST_LISTED = 8


def read_linear(checkpoint: str, *, layer: str | None, over: Over = "logits") -> Imported:
    """Read a linear layer of a checkpoint.

    Args:
        checkpoint: location.
        layer: its name, or the end of its name; None is refused, with the layers that may be meant, unless the file
            holds one linear layer alone, whose name is the key of the file that it stands under.
        over: what is averaged over elements.

    Raises:
        ModelError: there is no such layer, there are several, or it has further tensors than weight and bias.
    """
    end = _WEIGHT if layer is None else f".{layer}{_WEIGHT}"
    read = read_checkpoint(checkpoint, lambda name: f".{name}".endswith(end), whole=True)
    alone = set(read.state) <= set(_PARTS) and "weight" in read.state
    if alone:
        own = read.path[-1] if read.path else "linear"
        read = replace(read, state={f"{own}.{part}": value for part, value in read.state.items()})
    with in_file(checkpoint):
        layers = _linear_layers(read.state)
        layer = next(iter(layers), None) if alone and layer is None else layer
        name = _chosen(layers, layer)
        known = {f"{name}.{part}" for part in _PARTS}
        unknown = [each for each in read.state if each.startswith(f"{name}.") and each not in known]
        if unknown:
            raise ModelError(f"layer {name}: expected a weight and a bias alone, got {few(unknown)} too")
        weight = read.tensor(f"{name}{_WEIGHT}")
        bias = read.tensor(f"{name}.bias") if f"{name}.bias" in read.state else torch.zeros(len(weight))
        check_weights({f"{name}.weight": weight, f"{name}.bias": bias})
        if bias.shape != weight.shape[:1]:
            raise ModelError(f"layer {name}: expected a bias ({len(weight)},), got {tuple(bias.shape)}")
        _check_last(layers, name)
    rows = [*unused_rows({checkpoint: read}, -1), *_rows(read, layers, name)]
    rows += configuration_rows(read.configuration, over)
    rows.sort(key=lambda row: row[0] != "not used")
    average = Average(
        weight.flatten(1).to(torch.float32, copy=True),
        bias.to(torch.float32, copy=True),
        input_relu=False,
        over=over,
    )
    extraction = extraction_of(read.configuration)
    return imported_average(average, found=f"linear layer {name}", rows=tuple(rows), extraction=extraction)


def _linear_layers(state: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Return the shapes (outputs, inputs, 1, ...) of linear layers, and of convolutions of one position, by name."""
    shapes = {
        name.removesuffix(_WEIGHT): tuple(tensor.shape)
        for name, tensor in state.items()
        if name.endswith(_WEIGHT) and isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.ndim >= 2
    }
    return {name: shape for name, shape in shapes.items() if set(shape[2:]) <= {1} and 0 not in shape}


def _chosen(layers: Mapping[str, tuple[int, ...]], layer: str | None) -> str:
    """Return the name of the layer that is asked for."""
    if layer in layers:
        return str(layer)
    ends = [name for name in layers if layer is not None and name.endswith(f".{layer}")]
    if len(ends) == 1:
        return ends[0]
    listed = _listed({name: layers[name] for name in ends} or layers)
    if ends:
        raise ModelError(f"expected one layer {layer}, got several; --layer is one of: {listed}")
    if layer is None:
        raise ModelError(f"expected --layer, the name of the last linear layer; the file has: {listed or 'none'}")
    raise ModelError(f"expected a linear layer {layer} (--layer); the file has: {listed or 'none'}")


def _listed(layers: Mapping[str, tuple[int, ...]]) -> str:
    """List the layers that may be the last one: first those of the usual names, then those whose outputs end there."""
    inputs = {shape[1] for shape in layers.values()}
    places = {name: place for place, name in enumerate(layers)}

    def rank(name: str) -> tuple[bool, bool, int]:
        return _USUAL.fullmatch(name) is None, layers[name][0] in inputs, -places[name]

    likely = sorted(layers, key=rank)
    return few([f"{name} ({layers[name][0]} outputs of {layers[name][1]} inputs)" for name in likely], _MOST_LISTED)


def _check_last(layers: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse a layer of a ``torch.nn.Sequential`` with a later one behind it."""
    parent, _, place = name.rpartition(".")
    later = [
        other
        for other, shape in layers.items()
        if place.isdecimal() and other.rpartition(".")[0] == parent and shape[1] == layers[name][0]
        if other.rpartition(".")[2].isdecimal() and int(other.rpartition(".")[2]) > int(place)
    ]
    if later:
        raise ModelError(f"layer {name}: expected the last layer, got one before {few(later)}; choose the last one")


def _rows(read: Checkpoint, layers: Mapping[str, tuple[int, ...]], name: str) -> list[Row]:
    """Report the tensors before the features, and what might come behind the layer."""
    others = {
        key: value for key, value in read.state.items() if isinstance(value, Tensor) and key.rpartition(".")[0] != name
    }
    groups = Counter(f"{key.partition('.')[0]}.*" if "." in key else key for key in others)
    rows = [("not used", few([counted(*group) for group in groups.items()], 20))] if groups else []
    if len(layers[name]) > 2:
        rows.append(("note", f"{name} is a convolution of one position; correct if its outputs are only averaged"))
    behind = [other for other, shape in layers.items() if other != name and shape[1] == layers[name][0]]
    if behind:
        rows.append(("note", f"layers with C inputs, which are taken to come before the features: {few(behind)}"))
    numbers = [key for key, tensor in others.items() if tensor.numel() == 1 and may_change_f(key)]
    numbers = [key for key in numbers if not key.endswith(("num_batches_tracked", ".weight", ".bias"))]
    if numbers:
        rows.append(("note", f"numbers that are taken to come before the features: {few(numbers)}"))
    return rows
