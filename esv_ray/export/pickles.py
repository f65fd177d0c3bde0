"""Write a pickle piece by piece: arrays that are longer than memory stream into it.

The names of NumPy's functions are those of NumPy 1, which NumPy 2 reads too; `pickle.dump` in NumPy 2 writes names that
NumPy 1 lacks. Protocol 4 is read by Python 3.4 and newer.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_PIECE = 2**20  # numbers that are copied at a time
_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
_EMPTY = b"cnumpy\nndarray\n" + pickle.BININT1 + b"\0" + pickle.TUPLE1 + pickle.SHORT_BINBYTES + b"\x01b"


class PickleWriter:
    """Writes one dictionary; each method writes one value, after its key."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin the dictionary."""
        self._file = file
        self._memo = 0
        file.write(pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.MARK)

    def end(self) -> None:
        """End the dictionary."""
        self._file.write(pickle.SETITEMS + pickle.STOP)

    def text(self, value: str) -> None:
        """Write a text."""
        data = value.encode("utf-8", "surrogatepass")
        self._file.write(pickle.BINUNICODE + struct.pack("<I", len(data)) + data)

    def texts(self, values: Iterable[str]) -> None:
        """Write a list of texts."""
        self.begin_list()
        for value in values:
            self.text(value)
        self.end_list()

    def dictionary(self, values: dict[str, str]) -> None:
        """Write a dictionary of texts."""
        self._file.write(pickle.EMPTY_DICT + pickle.MARK)
        for key, value in values.items():
            self.text(key)
            self.text(value)
        self._file.write(pickle.SETITEMS)

    def begin_list(self) -> None:
        """Begin a list, whose values follow."""
        self._file.write(pickle.EMPTY_LIST + pickle.MARK)

    def end_list(self) -> None:
        """End a list."""
        self._file.write(pickle.APPENDS)

    def array(self, values: npt.NDArray[np.generic]) -> None:
        """Write an array of numbers, in C order; a view of a file is read in pieces."""
        write = self._file.write
        write(_RECONSTRUCT + _EMPTY + pickle.TUPLE3 + pickle.REDUCE)
        write(pickle.MARK + _whole(1) + pickle.MARK + b"".join(map(_whole, values.shape)) + pickle.TUPLE)
        self._type(values.dtype)
        write(pickle.NEWFALSE + pickle.BINBYTES8 + struct.pack("<Q", values.nbytes))
        flat = values.reshape(-1)
        for start in range(0, len(flat), _PIECE):
            write(np.ascontiguousarray(flat[start : start + _PIECE]).astype(values.dtype.newbyteorder("<")).tobytes())
        write(pickle.TUPLE + pickle.BUILD)

    def repeated(self, values: npt.NDArray[np.generic], count: int) -> None:
        """Write a list with the same array `count` times, which is stored once."""
        self.begin_list()
        if count:
            self.array(values)
            place = struct.pack("<I", self._memo)
            self._memo += 1
            self._file.write(pickle.LONG_BINPUT + place + (pickle.LONG_BINGET + place) * (count - 1))
        self.end_list()

    def _type(self, dtype: np.dtype[np.generic]) -> None:
        self._file.write(b"cnumpy\ndtype\n")
        self.text(f"{dtype.kind}{dtype.itemsize}")
        self._file.write(pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _whole(3))
        self.text("<")
        self._file.write(pickle.NONE * 3 + _whole(-1) + _whole(-1) + _whole(0) + pickle.TUPLE + pickle.BUILD)


def _whole(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)
