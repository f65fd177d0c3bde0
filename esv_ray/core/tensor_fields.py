"""Tensors of dataclasses: by name, for storage, and moved to a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Part = TypeVar("_Part", bound="DataclassInstance")


def tensor_fields(part: DataclassInstance) -> dict[str, Tensor]:
    """Return the fields of a dataclass that hold tensors, by name."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def total_bytes(part: DataclassInstance) -> int:
    """Return the bytes held by a dataclass's tensors."""
    return sum(tensor.nbytes for tensor in tensor_fields(part).values())


def moved(part: _Part, device: torch.device, dtype: torch.dtype) -> _Part:
    """Copy a dataclass with its tensors on a device; floating-point tensors take the dtype."""
    tensors = tensor_fields(part).items()
    return replace(part, **{name: t.to(device, dtype if t.is_floating_point() else None) for name, t in tensors})


def numbered(number: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prefix names with a number, as ``"3.member"``."""
    return {f"{number}.{name}": tensor for name, tensor in tensors.items()}


def by_number(tensors: Mapping[str, Tensor]) -> list[tuple[int, dict[str, Tensor]]]:
    """Group tensors by the number before the first point of their names, ascending; skip names without one."""
    groups: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, point, own_name = name.partition(".")
        if point:
            groups.setdefault(int(number), {})[own_name] = tensor
    return sorted(groups.items())
