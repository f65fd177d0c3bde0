"""torch's storages and tensors in pickles.

Sizes, strides and positions are checked against the numbers of the storage before torch gets them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esv_ray.unpickling.inert import Global
from esv_ray.unpickling.limits import Budget

_MOST_AXES = 64
_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "QUInt8": torch.uint8,
    "QInt8": torch.int8,
    "QInt32": torch.int32,
    "Untyped": torch.uint8,
}
_STORAGES = {
    f"{module}.{name}Storage": dtype
    for name, dtype in _DTYPES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
_NAMED = {
    f"torch.{name}": value
    for name in (
        *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
        *("complex128", "complex64", "uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
    if isinstance(value := getattr(torch, name, None), torch.dtype)
}
_COMPRESSED = {
    "torch.sparse_csr": torch.sparse_csr,
    "torch.sparse_csc": torch.sparse_csc,
    "torch.sparse_bsr": torch.sparse_bsr,
    "torch.sparse_bsc": torch.sparse_bsc,
}


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers of tensors.

    Attributes:
        raw: (bytes,) uint8, in the byte order of this machine unless `swapped`.
        dtype: type of the numbers.
        swapped: whether the byte order is the other one.
    """

    raw: Tensor
    dtype: torch.dtype
    swapped: bool = False

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Return the numbers, (N,)."""
        raw, size = self.raw[: len(self.raw) // dtype.itemsize * dtype.itemsize], dtype.itemsize
        if self.swapped and size > 1:
            part = size // 2 if dtype.is_complex else size
            raw = raw.view(-1, part).flip(1).flatten()
        return raw.view(dtype)


def storage_type(name: object) -> torch.dtype:
    """Return the type of the numbers of a storage by its class.

    Raises:
        ValueError: it is no storage.
    """
    dtype = _STORAGES.get(name.name) if isinstance(name, Global) else None
    if dtype is None:
        raise ValueError("one with a storage of a type that is not known")
    return dtype


def _counts(value: object) -> tuple[int, ...]:
    """Return a tuple of numbers >= 0."""
    if not isinstance(value, tuple | list) or len(value) > _MOST_AXES:
        raise ValueError("one with a tensor without sizes")
    counts = tuple(item for item in value if isinstance(item, int) and 0 <= item < 2**62)
    if len(counts) != len(value):
        raise ValueError("one with a tensor without sizes")
    return counts


def _view(storage: object, offset: object, size: object, stride: object, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor of some of the numbers of a storage."""
    if not isinstance(storage, Storage):
        raise ValueError("one with a tensor without a storage")
    numbers = storage.numbers(storage.dtype if dtype is None else dtype)
    sizes, strides, (start,) = _counts(size), _counts(stride), _counts((offset,))
    if len(sizes) != len(strides):
        raise ValueError("one with a tensor of as many strides as sizes")
    count = math.prod(sizes)
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) if count else start - 1
    if count > len(numbers) or last >= len(numbers):
        raise ValueError(f"one with a tensor that is a view {sizes} of {len(numbers)} numbers")
    return numbers.as_strided(sizes, strides, numbers.storage_offset() + (start if count else 0))


def _tensor(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_tensor(storage, offset, size, stride)``; ``_rebuild_tensor_v2`` adds what tensors at rest lack."""
    storage, offset, size, stride = arguments[:4]
    return _view(storage, offset, size, stride, None)


def _typed_tensor(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)``."""
    storage, offset, size, stride, _, _, dtype = arguments[:7]
    if not isinstance(dtype, Global) or dtype.name not in _NAMED:
        raise ValueError("one with a tensor of a type that is not known")
    return _view(storage, offset, size, stride, _NAMED[dtype.name])


def _parameter(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_parameter(tensor, requires_grad, hooks)``."""
    tensor = arguments[0]
    if not isinstance(tensor, Tensor):
        return None
    differentiable = tensor.is_floating_point() or tensor.is_complex()
    return nn.Parameter(tensor, requires_grad=differentiable and arguments[1:2] == (True,))


def _of_subclass(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_from_type_v2(function, class, arguments, state)``: the plain tensor."""
    function, _, given = arguments[:3]
    builder = BUILDERS.get(function.name) if isinstance(function, Global) else None
    if builder is None or builder is _of_subclass or not isinstance(given, tuple):
        return None
    return builder(given, budget)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep torch's warnings of quantized and sparse tensors (deprecated, beta) from whoever reads a file with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@_without_warnings()
def _sparse(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_sparse_tensor(layout, parts)``."""
    layout, parts = arguments[:2]
    if not isinstance(parts, tuple) or len(parts) < 3:
        return None
    *indices, values, size = parts[:3] if layout == "torch.sparse_coo" else parts[:4]
    if not all(isinstance(part, Tensor) for part in (*indices, values)):
        return None
    if layout == "torch.sparse_coo" and len(indices) == 1:
        return torch.sparse_coo_tensor(indices[0], values, _counts(size), check_invariants=True)
    if layout in _COMPRESSED and len(indices) == 2:
        compressed, plain = indices
        return torch.sparse_compressed_tensor(
            compressed, plain, values, _counts(size), layout=_COMPRESSED[layout], check_invariants=True
        )
    return None


def _layout(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_get_layout("torch.sparse_coo")``: the name."""
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], str) else None


def _quantized(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_qtensor(storage, offset, size, stride, (scheme, scale, zero point), ...)``."""
    storage, offset, size, stride, parameters = arguments[:5]
    whole = _view(storage, offset, size, stride, None)
    if not isinstance(parameters, tuple) or len(parameters) != 3:
        return _without_numbers((None, size), budget)
    scheme, scale, zero = parameters
    affine = isinstance(scheme, Global) and scheme.name == "torch.per_tensor_affine"
    if not affine or not isinstance(scale, float) or not isinstance(zero, int):
        return _without_numbers((None, size), budget)
    with _without_warnings():
        return torch._make_per_tensor_quantized_tensor(whole, scale, zero)


def _without_numbers(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)``."""
    return torch.empty(_counts(arguments[1]), device="meta")


BUILDERS: dict[str, Callable[[tuple[object, ...], Budget], object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_numbers,
    "torch.serialization._get_layout": _layout,
}
