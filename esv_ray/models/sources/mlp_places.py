"""Layers of an MLP from the names of a ``torch.nn.Sequential``: ``model.<place>.weight``, ...

Only linear layers and batch norm have tensors; ReLU and dropout are inferred from the places between them. Batch norm
in the authors' order is kept; in any other unambiguous order it is folded into the linear layers, with equal values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.weights import check_weights

_KEY = re.compile(r"model\.(0|[1-9][0-9]{0,5})\.(\w+)")
_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
_LINEAR = {"weight", "bias"}


@dataclass(eq=False)
class _Linear:
    """A linear layer, its place, and the batch norms just before and just after it."""

    place: int
    tensors: Mapping[str, Tensor]
    before: Mapping[str, Tensor] | None = None
    after: Mapping[str, Tensor] | None = None

    @property
    def end(self) -> int:
        """First place after the layer and its batch norm."""
        return self.place + (1 if self.after is None else 2)


def layers_of_places(state: Mapping[str, Tensor], norm_eps: float) -> tuple[dict[str, Tensor], bool]:
    """Convert the tensors of a sequential MLP to those of an `MlpHead`.

    Args:
        state: tensors named ``model.<place>.<name>``.
        norm_eps: epsilon of batch norm, for folding.

    Returns:
        Tensors ``linears.I.*`` and ``norms.I.*``, and whether the MLP begins with a ReLU (then the first linear layer
        is at place 2, else at 1: dropout always precedes it).

    Raises:
        ModelError: a tensor belongs to another kind of layer, or the places are ambiguous.
    """
    layers = _linears(_places(state))
    hidden, last = layers[:-1], layers[-1]
    plain = all(layer.before is None for layer in layers) and last.after is None
    if plain and len({layer.after is None for layer in hidden}) <= 1:
        renamed = {
            f"linears.{i}.{name}": tensor for i, layer in enumerate(layers) for name, tensor in layer.tensors.items()
        }
        for i, layer in enumerate(hidden):
            renamed |= {f"norms.{i}.{name}": tensor for name, tensor in (layer.after or {}).items()}
    else:
        renamed = _folded(layers, norm_eps)
    return renamed, layers[0].place == 2


def _places(state: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Group tensors by place, ascending; each place is a linear layer or a batch norm."""
    places: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise ModelError(f"expected keys model.<i>.weight/bias, or those of a TSN; got {key!r:.100}")
        places.setdefault(int(match[1]), {})[match[2]] = tensor
    for place, tensors in sorted(places.items()):
        # `_linears` reports a single bias at the first place: there is no linear layer.
        recognized = _is_norm(tensors) or _is_linear(tensors) or (place == min(places) and "weight" not in tensors)
        if not recognized:
            shown = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(tensors.items()))
            raise ModelError(
                f"model.{place}: expected a linear layer (weight (outputs, inputs), bias) or batch norm with its "
                f"running statistics, got {shown:.200}"
            )
    return dict(sorted(places.items()))


def _is_norm(tensors: Mapping[str, Tensor]) -> bool:
    sizes = {tuple(tensor.shape) for name, tensor in tensors.items() if name != "num_batches_tracked"}
    complete = {"running_mean", "running_var"} <= set(tensors) <= _NORM
    return complete and len(sizes) == 1 and len(next(iter(sizes))) == 1


def _is_linear(tensors: Mapping[str, Tensor]) -> bool:
    return "weight" in tensors and set(tensors) <= _LINEAR and tensors["weight"].ndim == 2


def _linears(places: Mapping[int, Mapping[str, Tensor]]) -> list[_Linear]:
    """Assign each batch norm to its linear layer, and check that a ReLU separates any two linear layers."""
    layers: list[_Linear] = []
    waiting: Mapping[str, Tensor] | None = None  # a batch norm just before the next linear layer
    shown = f"got places {list(places)}"
    for place, tensors in places.items():
        if "weight" in tensors and _is_linear(tensors):
            if not layers and not (place == 1 or (place == 2 and waiting is None)):
                break
            if 0 in tensors["weight"].shape:
                raise ModelError(f"expected weights (outputs, inputs), got shape {tuple(tensors['weight'].shape)}")
            gap = place - layers[-1].end - (waiting is not None) if layers else 1
            if gap not in (1, 2) or (waiting is not None and places.get(place - 1) is not waiting):
                raise ModelError(
                    f"model.{place}: expected a ReLU and at most a dropout since the last layer with weights, {shown}; "
                    "the positions do not determine which layers lie between them"
                )
            layers.append(_Linear(place, tensors, before=waiting))
            waiting = None
        elif _is_norm(tensors) and waiting is None:
            if layers and place == layers[-1].end and layers[-1].after is None:
                layers[-1].after = tensors
            elif (layers and place == layers[-1].end + 1) or (not layers and place == 0):
                waiting = tensors  # after a ReLU, or on the input
            else:
                raise ModelError(f"model.{place}: expected batch norm beside a linear layer, {shown}")
        else:
            break
    else:
        if layers and waiting is None:
            _check_biases(layers)
            return layers
    if not layers:
        raise ModelError(f"expected a linear layer at place 1 or 2, {shown}")
    raise ModelError(f"expected linear layers (weight and bias), batch norm with running statistics, {shown}")


def _check_biases(layers: Sequence[_Linear]) -> None:
    for layer in layers:
        if "bias" not in layer.tensors and layer.after is None:
            raise ModelError(
                f"model.{layer.place}: expected weight and bias, got weight alone; add a bias of zeros if it has none"
            )


def _folded(layers: Sequence[_Linear], eps: float) -> dict[str, Tensor]:
    """Fold batch norm into the linear layers, in float64."""
    out: dict[str, Tensor] = {}
    for i, layer in enumerate(layers):
        tensors = layer.tensors
        for part, group in (("", layer.tensors), (" (batch norm before)", layer.before), (" (after)", layer.after)):
            check_weights({f"model.{layer.place}{part}: {name}": tensor for name, tensor in (group or {}).items()})
        weight = tensors["weight"].double()
        bias = tensors["bias"].double() if "bias" in tensors else torch.zeros(len(weight), dtype=torch.float64)
        if bias.shape != weight.shape[:1]:
            raise ModelError(f"model.{layer.place}: expected a bias ({len(weight)},), got {tuple(bias.shape)}")
        if layer.before is not None:
            gain, shift = _affine(layer.place, layer.before, weight.shape[1], eps)
            weight, bias = weight * gain, bias + weight @ shift
        if layer.after is not None:
            gain, shift = _affine(layer.place, layer.after, len(weight), eps)
            weight, bias = weight * gain[:, None], bias * gain + shift
        out |= {f"linears.{i}.weight": weight.float(), f"linears.{i}.bias": bias.float()}
    return out


def _affine(place: int, norm: Mapping[str, Tensor], width: int, eps: float) -> tuple[Tensor, Tensor]:
    """Return batch norm in eval mode as x -> gain * x + shift, float64."""
    mean, variance = norm["running_mean"].double(), norm["running_var"].double()
    if len(mean) != width:
        raise ModelError(f"model.{place}: expected batch norm of {width} values beside it, got {len(mean)}")
    gain = (variance + eps).rsqrt()
    if "weight" in norm:
        gain = gain * norm["weight"].double()
    shift = -mean * gain
    return gain, shift + norm["bias"].double() if "bias" in norm else shift
