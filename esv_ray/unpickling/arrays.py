"""NumPy's arrays, scalars and types in pickles. Arrays of objects stay inert."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from esv_ray.unpickling.inert import Global, Inert
from esv_ray.unpickling.limits import Budget

# Booleans, integers, floats, complex numbers, and bytes and texts of a fixed length.
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|\?|[bBhHiIlLqQefdFD]|[SU][0-9]{1,6})")
_ORDERS: tuple[Literal["<", ">", "|", "="], ...] = ("<", ">", "|", "=")
_MOST_AXES = 32


class PickledType(Inert):
    """The type of an array's numbers, with their byte order."""

    def __init__(self, name: str, code: str) -> None:
        super().__init__(name, (code,))
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "="

    def set_order(self, state: object) -> None:
        """Take the byte order of the type's state, (version, order, ...).

        Raises:
            ValueError: it is no such state, or that of a type of other kind.
        """
        order = state[1] if isinstance(state, tuple) and len(state) > 1 and not any(state[2:5]) else None
        known = [each for each in _ORDERS if each == order]
        if not known:
            raise ValueError("one with an array of a type that is not known")
        self.order = known[0]

    def resolved(self) -> np.dtype[np.generic]:
        """Return the type."""
        return np.dtype(self.code).newbyteorder(self.order)


def fill(array: npt.NDArray[np.generic], state: object, budget: Budget) -> None:
    """Set an array's shape, type and numbers, those of a state (version, shape, type, whether Fortran's order, bytes).

    Raises:
        ValueError: it is no such state, or the number of bytes is another.
    """
    fields = state if isinstance(state, tuple) else ()
    fields = fields[1:] if len(fields) == 5 else fields
    if len(fields) != 4 or not isinstance(fields[1], PickledType):
        raise ValueError("one with an array of a type that is not known")
    shape, pickled, fortran, raw = fields
    dtype, raw = pickled.resolved(), raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray):  # a list: of objects
        raise ValueError("one with an array of objects")
    budget.spend(len(raw))
    _check_size(shape, dtype, raw)
    array.__setstate__((1, shape, dtype, bool(fortran), bytes(raw)))  # type: ignore[arg-type]  # a bool


def _check_size(shape: object, dtype: np.dtype[np.generic], raw: bytes | bytearray) -> None:
    """Check that bytes are the numbers of an array."""
    counts = shape if isinstance(shape, tuple) else (-1,)
    if len(counts) > _MOST_AXES or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("one with an array without a shape")
    if len(raw) != math.prod(counts) * dtype.itemsize:
        raise ValueError(f"one with an array of {len(raw)} bytes, but {counts} numbers of {dtype.itemsize} bytes")


def _is_array_class(value: object) -> bool:
    return isinstance(value, Global) and value.name in ("numpy.ndarray", "numpy.memmap", "numpy.core.memmap.memmap")


def _empty(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_reconstruct(numpy.ndarray, (0,), b"b")``: an array whose state follows."""
    if not arguments or not _is_array_class(arguments[0]):
        return None
    return np.empty(0, np.int8)


def _type(arguments: tuple[object, ...], budget: Budget) -> object:
    """``dtype("f8", False, True)``."""
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or _TYPE.fullmatch(code) is None:
        return None
    return PickledType("numpy.dtype", code)


def _scalar(arguments: tuple[object, ...], budget: Budget) -> object:
    """``scalar(dtype, bytes)``."""
    if len(arguments) != 2 or not isinstance(arguments[0], PickledType):
        return None
    dtype, raw = arguments[0].resolved(), arguments[1]
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray):
        return None
    _check_size((), dtype, raw)
    return np.frombuffer(bytes(raw), dtype)[0] if raw else None


def _from_buffer(arguments: tuple[object, ...], budget: Budget) -> object:
    """``_frombuffer(bytes, dtype, shape, order)``, of protocol 5."""
    if len(arguments) != 4:
        return None
    raw, pickled, shape, order = arguments
    if not isinstance(raw, bytes | bytearray) or not isinstance(pickled, PickledType) or order not in ("C", "F"):
        return None
    dtype = pickled.resolved()
    budget.spend(len(raw))
    _check_size(shape, dtype, raw)
    assert isinstance(shape, tuple)
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order="C" if order == "C" else "F")


BUILDERS: dict[str, Callable[[tuple[object, ...], Budget], object]] = {
    "numpy.core.multiarray._reconstruct": _empty,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _type,
}
