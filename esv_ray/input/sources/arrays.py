"""Arrays of features: .npy without pickles, and the checks that every video passes before it is written."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.input.faults import RecordError
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.records import MOST_BYTES, Frames
from esv_ray.input.sources.request import Layout

_MOST_DIMENSIONS = 32
TURNED = "another D than the first video, but as many rows"
"""Of (D, T) arrays of videos of several lengths, read as (T, D): of a fault."""
_FLOATS = (np.float16, np.float32, np.float64)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def parse_npy(data: bytes | memoryview) -> npt.NDArray[Any]:
    """Read the array of a .npy file; nothing is unpickled.

    Raises:
        RecordError: it is damaged, or holds Python objects.
    """
    stream = io.BytesIO(data)
    with parsing("a .npy file"):
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise RecordError("not numbers", f".npy of version {version[0]}.{version[1]}")
        shape, by_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise RecordError("Python objects, which are never unpickled")
    if len(shape) > _MOST_DIMENSIONS or dtype.subdtype or any(type(n) is not int or n < 0 for n in shape):
        raise RecordError("damaged", f"not a .npy file: shape {shape!s:.60}, type {dtype!s:.60}")
    count, start = math.prod(shape), stream.tell()
    if not count and math.prod(max(n, 1) for n in shape) > INT32_MAX:
        shape = tuple(min(n, 1) for n in shape)  # a size beyond 64 bits beside a 0
    if count * dtype.itemsize > len(data) - start:
        raise RecordError("damaged", f"expected {count * dtype.itemsize} bytes of data, got {len(data) - start}")
    if dtype.itemsize == 0:
        raise RecordError("not numbers", str(dtype))
    flat = np.frombuffer(data, dtype, count, start)
    return flat.reshape(shape[::-1]).transpose() if by_columns else flat.reshape(shape)


def check_size(n_bytes: int) -> None:
    """Refuse a video that is too large for the memory, before it is read.

    Raises:
        RecordError: it is.
    """
    if n_bytes > MOST_BYTES:
        raise RecordError("larger than 4 GiB", f"{n_bytes} bytes")


class FeatureCheck:
    """The shape and type that all videos of a table share; those of the first video, unless the user gave a type."""

    def __init__(self, layout: Layout, dtype: str | None) -> None:
        """Start before the first video; `dtype` is the type that the user asks for, or None."""
        self._layout: Layout = layout
        self._rounds = dtype is not None
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.dim: int | None = None
        self.first = ""
        self._first_rows = -1

    def resume(self, dim: int, dtype: npt.DTypeLike, first: str) -> None:
        """Continue after the first video: its D, type and name."""
        self.dim, self.dtype, self.first = dim, np.dtype(dtype), first

    def checked(self, frames: Frames, name: str) -> npt.NDArray[np.floating]:
        """Return the features of a video as (T, D) floats of the table's type, finite.

        Raises:
            RecordError: they are something else; the table's type and D are unchanged.
        """
        array = _as_numbers(frames.features)
        if array.ndim != 2:
            raise RecordError("not a (T, D) array", f"shape {_shape(array)}")
        if self._layout == "DT":
            array = array.T
        if 0 in array.shape:
            raise RecordError("no frames or no features", f"shape {_shape(array)}")
        if self.dim is not None and array.shape[1] != self.dim:
            detail = f"D = {array.shape[1]}; {self.dim} in {self.first}"
            turned = len(array) == self._first_rows
            raise RecordError(TURNED if turned else "another D than the first video", detail)
        for values, what in ((frames.numbers, "frame numbers"), (frames.times, "times")):
            if values is not None and values.shape != (len(array),):
                raise RecordError(f"as many {what} as frames are needed", f"{_shape(values)} for {len(array)} frames")
        if frames.numbers is not None:
            if (frames.numbers > INT32_MAX).any() or (frames.numbers < -INT32_MAX).any():
                raise RecordError("frame numbers beyond 32 bits")
            if (np.diff(frames.numbers) < 0).any():
                raise RecordError("frames that are not in the order of their numbers")
        cast = self._cast(array)
        if not np.isfinite(cast).all():
            raise RecordError("NaN or infinity")
        if self.dim is None:
            self.dim, self.dtype, self.first, self._first_rows = array.shape[1], cast.dtype, name, len(array)
        return cast

    def _cast(self, array: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
        dtype = self.dtype
        if dtype is None:
            dtype = array.dtype.newbyteorder("=") if array.dtype.type in _FLOATS else np.dtype(np.float32)
        if array.dtype == dtype:
            return array
        with np.errstate(over="ignore"):
            cast: npt.NDArray[np.floating] = array.astype(dtype)
        if not self._rounds and not _is_exact(array, cast):
            of = f"{dtype}, the type of {self.first}" if self.first else str(dtype)
            raise RecordError("numbers that the type of the table cannot hold; give --dtype", f"{array.dtype}; {of}")
        return cast


def _is_exact(array: npt.NDArray[Any], cast: npt.NDArray[np.floating]) -> bool:
    if array.dtype.kind == "f":
        return np.array_equal(cast.astype(array.dtype), array, equal_nan=True)
    most = 2 ** (np.finfo(cast.dtype).nmant + 1)  # every integer up to it has a float
    return bool(int(array.max()) <= most and int(array.min()) >= -most)


def _as_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.hasobject:
        raise RecordError("Python objects, which are never unpickled")
    if array.dtype.kind not in "fiu" or array.dtype.fields:
        raise RecordError("not numbers", str(array.dtype)[:80])
    return array


def _shape(array: npt.NDArray[Any]) -> str:
    return f"({', '.join(map(str, array.shape))}{',' * (array.ndim == 1)})"
