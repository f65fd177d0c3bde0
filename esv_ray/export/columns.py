"""Columns of arrays that are longer than memory: appended to files, which are then members of an archive."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_BEGIN = (1980, 1, 1, 0, 0, 0)  # the same arrays give the same bytes


class Columns:
    """Arrays that grow along their first axis, each in a file of a folder; a context that closes the files."""

    def __init__(self, folder: Path) -> None:
        """Keep the arrays in a folder."""
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {}

    def __enter__(self) -> Columns:
        """Return the arrays."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def append(self, name: str, values: npt.NDArray[np.generic]) -> None:
        """Append (k, ...) values to the array of a name, which begins with its first values."""
        values = np.ascontiguousarray(values)
        if name not in self._files:
            self._files[name] = (self._folder / f"{len(self._files)}.raw").open("w+b")
            self._shapes[name] = (values.dtype, (0, *values.shape[1:]))
        dtype, (length, *rest) = self._shapes[name]
        assert (values.dtype, list(values.shape[1:])) == (dtype, rest), "the columns of batches have one type"
        self._files[name].write(values.tobytes())
        self._shapes[name] = (dtype, (length + len(values), *rest))

    def write_npz(self, path: Path, order: Sequence[str]) -> None:
        """Write the arrays as an .npz file, which is not compressed; all of it streams."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in order:
                dtype, shape = self._shapes[name]
                head = BytesIO()
                description = np.lib.format.dtype_to_descr(dtype)
                np.lib.format.write_array_header_2_0(
                    head, {"descr": description, "fortran_order": False, "shape": shape}
                )
                file = self._files[name]
                file.seek(0)
                with archive.open(zipfile.ZipInfo(f"{name}.npy", _BEGIN), "w", force_zip64=True) as member:
                    member.write(head.getvalue())
                    copyfileobj(file, member, 2**20)
