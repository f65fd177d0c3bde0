"""The weights of modules that a factory returns, as one state dict: names as in the module, or `s.name` by scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few
from esv_ray.models.fixed_length import FixedLength

Modules = nn.Module | Mapping[int, nn.Module]
"""What a factory returns: one module of any length, or a module for each scale."""

_MOST_NAMED = 3


def load_weights(modules: Modules, weights: Mapping[str, Tensor]) -> None:
    """Load weights into modules: all that they have, and no others.

    A module made by `fixed_length` takes the names of the module inside it. Tensors of a module that share their memory
    (tied weights) may be given once.

    Args:
        modules: changed in place.
        weights: by name; by ``s.name`` for a mapping {s: module}.

    Raises:
        ModelError: names or shapes differ; names the first few.
    """
    state = weights_of(modules)
    given = {_memory(state[name]) for name in weights if name in state}
    faults = {
        "missing": [name for name, tensor in state.items() if name not in weights and _memory(tensor) not in given],
        "not in the module": [name for name in weights if name not in state],
        "of another shape or type": [
            f"{name} {_form(weights[name])}, in the module {_form(tensor)}"
            for name, tensor in state.items()
            if name in weights and not is_lazy(tensor) and _differ(weights[name], tensor)
        ],
    }
    found = [f"{kind}: {few([name[:120] for name in names], _MOST_NAMED)}" for kind, names in faults.items() if names]
    if found:
        by_scale = (
            f"; of a mapping {{s: module}} each name begins with its scale, as {next(iter(state))}"
            if isinstance(modules, Mapping) and state and not any(name in state for name in weights)
            else ""
        )
        raise ModelError(
            f"weights: expected the {len(state)} tensors of the module that the factory returns, {len(weights)} are "
            f"given; {'; '.join(found)}; check the arguments of the factory and the file with the weights"
            f"{by_scale}"
        )
    if isinstance(modules, Mapping):
        for s, module in modules.items():
            _load(
                module,
                {name.removeprefix(f"{s}."): value for name, value in weights.items() if name.startswith(f"{s}.")},
            )
    else:
        _load(modules, weights)


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    _inner(module).load_state_dict(weights, strict=False)  # names have been checked, and those of tied weights may lack


def _inner(module: nn.Module) -> nn.Module:
    """Return the module inside one of a fixed length."""
    return module.module if isinstance(module, FixedLength) else module


def _differ(given: Tensor, own: Tensor) -> bool:
    return given.shape != own.shape or given.is_floating_point() != own.is_floating_point()


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def weights_of(modules: Modules) -> dict[str, Tensor]:
    """Return the weights and buffers of modules by the names that `load_weights` takes; they share memory with them.

    Raises:
        ModelError: a state dict holds something else, as quantized modules have it.
    """
    if isinstance(modules, Mapping):
        return {f"{s}.{name}": tensor for s, module in modules.items() for name, tensor in weights_of(module).items()}
    state = _inner(modules).state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"weights: expected a module whose state dict holds tensors only, got also {few(others, _MOST_NAMED)}"
        )
    return state


def _memory(tensor: Tensor) -> Hashable:
    """Return where a tensor's numbers are; for a tensor without numbers something of its own."""
    if is_lazy(tensor) or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
