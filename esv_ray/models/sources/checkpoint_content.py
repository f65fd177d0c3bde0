"""Content of an unpickled checkpoint as nested dictionaries of tensors.

A file may hold a whole module in the place of its state dict, and NumPy arrays in the place of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esv_ray.unpickling import Inert

MOST_DEPTH = 3
"""Dictionaries around a state dict."""


def as_tensors(content: object) -> tuple[object, list[str]]:
    """Put state dicts in the place of modules, and tensors in the place of floating-point arrays in dictionaries.

    Args:
        content: of a file; its dictionaries are changed.

    Returns:
        The content, and the classes of the modules in it.
    """
    classes: list[str] = []
    states: dict[int, dict[str, Tensor]] = {}  # by the id of the module
    top: dict[object, object] = {None: content}
    waiting: list[tuple[dict[object, object], int]] = [(top, 0)]
    visited: set[int] = set()
    while waiting:
        mapping, depth = waiting.pop()
        for key, value in mapping.items():
            if isinstance(value, Inert) and _module_attributes(value) is not None:
                if id(value) not in states:
                    classes.append(value.name)
                    states[id(value)] = _state_of_module(value)
                mapping[key] = states[id(value)]
            elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and depth:
                mapping[key] = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=True))
            elif isinstance(value, dict) and id(value) not in visited and depth <= MOST_DEPTH:
                visited.add(id(value))
                waiting.append((value, depth + 1))
    return top[None], classes


def joined_scales(content: Mapping[Any, Any], depth: int = 0) -> Mapping[Any, Any]:
    """Join state dicts that stand under their scales, {s: {name: tensor}}, to one with names ``s.name``.

    Args:
        content: dictionaries of tensors, nested up to `MOST_DEPTH` deep; not changed.
        depth: of dictionaries around it.
    """
    if content and all(str(key).isdecimal() and _is_state(value) for key, value in content.items()):
        return {f"{key}.{name}": tensor for key, state in content.items() for name, tensor in state.items()}
    if depth >= MOST_DEPTH:
        return content
    return {
        key: joined_scales(value, depth + 1) if isinstance(value, Mapping) else value for key, value in content.items()
    }


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _module_attributes(value: Inert) -> Mapping[Any, Any] | None:
    """Return the attributes of a ``torch.nn.Module``, or None for another object."""
    states = [state for state in value.states if isinstance(state, Mapping)]
    return next((state for state in states if "_parameters" in state and "_modules" in state), None)


def _state_of_module(module: Inert) -> dict[str, Tensor]:
    """Return the state dict of a module: parameters and persistent buffers, by their names."""
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, object]] = [("", module)]
    visited = set()
    while waiting:
        prefix, value = waiting.pop()
        attributes = _module_attributes(value) if isinstance(value, Inert) and id(value) not in visited else None
        if attributes is None:
            continue
        visited.add(id(value))
        passing = attributes.get("_non_persistent_buffers_set")
        for group in ("_parameters", "_buffers"):
            for name, tensor in _items(attributes.get(group)):
                kept = group == "_parameters" or not isinstance(passing, set) or name not in passing
                if isinstance(tensor, Tensor) and kept:
                    state[f"{prefix}{name}"] = tensor
        waiting += [(f"{prefix}{name}.", inner) for name, inner in _items(attributes.get("_modules"))]
    return state


def _items(value: object) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []
