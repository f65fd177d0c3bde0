"""Tensors and arrays in files of torch.save and pickle.dump, read without running their code."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.errors import short_text
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.numpy_files import pick
from esv_ray.unpickling import Inert, unpickle


def read_pickled(data: bytes, key: str | None) -> npt.NDArray[Any]:
    """Read the tensor or array of a file, or that of a dictionary in it.

    Args:
        data: content of the file.
        key: of the dictionary; None: its only tensor or array. A file of one tensor has no keys.

    Raises:
        RecordError: the file is damaged, or holds something else.
    """
    expected = "a file of torch.save or pickle.dump"
    with parsing(expected):  # unpickle calls zipfile, NumPy and torch
        try:
            content = unpickle(data)
        except ValueError as error:
            raise RecordError("damaged", f"expected {expected}, got {short_text(error, 120)}") from None
    if isinstance(content, dict):
        arrays = {_shown(name): value for name, value in content.items() if _is_array(value)}
        content = arrays[pick(arrays, key)]
    if not _is_array(content):
        kind = content.name if isinstance(content, Inert) else type(content).__name__
        raise RecordError("neither a tensor nor an array", f"an object of {kind:.60}")
    return _as_array(content)


def _shown(name: object) -> str:
    """Return the key of a dictionary as text; others than texts and numbers may be nested without end."""
    if isinstance(name, str):
        return name
    return str(name) if isinstance(name, int) and abs(name) < 2**63 else f"(a {type(name).__name__})"


def _is_array(value: object) -> bool:
    import torch

    return isinstance(value, np.ndarray | torch.Tensor)


def _as_array(value: Any) -> npt.NDArray[Any]:
    import torch

    if isinstance(value, np.ndarray):
        return value
    if value.layout is not torch.strided or value.is_quantized:
        raise RecordError("not numbers", "a sparse or quantized tensor")
    if value.is_meta:
        raise RecordError("not numbers", "a meta tensor, which has a shape and no values")
    with parsing("", reason="not numbers"):  # of a type or a kind that NumPy lacks
        tensor = value.detach()
        if tensor.dtype.is_floating_point and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
            tensor = tensor.to(torch.float32)  # exact: bfloat16 and the types of eight bits have no NumPy type
        array: npt.NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    return array
