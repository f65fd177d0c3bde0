"""Opening HDF5 files, which must not lead to other files of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError, SpecError, short_text
from esv_ray.input.sources.arrays import check_size
from esv_ray.input.sources.files import on_disk
from esv_ray.input.sources.records import RecordError


@contextmanager
def open_file(url: str) -> Iterator[Any]:
    """Open an HDF5 file; one on an object store is copied to this machine first.

    Raises:
        SpecError: h5py is not installed.
        DataError: it is no HDF5 file.
    """
    try:
        import h5py
    except ImportError as error:
        raise SpecError("reading HDF5 needs h5py: pip install 'esv-ray[hdf5]'") from error
    with on_disk(url) as path:
        try:
            opened = h5py.File(path, "r")
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise DataError(f"cannot read the features: {url}: {short_text(error, 200)}") from None
            raise DataError(f"{url}: expected an HDF5 file: {short_text(error, 200)}") from None
        with opened:
            yield opened


def read_dataset(dataset: Any) -> npt.NDArray[Any]:
    """Read a data set whole.

    Raises:
        RecordError: it is damaged, too large, or its numbers are in other files.
    """
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError) as error:  # H5T_TIME and others without a type of NumPy
        raise RecordError("not numbers", short_text(error, 120)) from None
    if dataset.is_virtual or dataset.external:
        raise RecordError("numbers in another file, which is not opened")
    if dtype.hasobject:
        raise RecordError("not numbers", "of variable length")
    if dataset.shape is None:
        raise RecordError("no frames or no features", "an empty data set")
    check_size(dataset.size * dtype.itemsize)
    try:
        return np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise RecordError("damaged", short_text(error, 120)) from None


def member(group: Any, key: str) -> Any:
    """Return a data set below a group by hard links only, or None: others leave the file."""
    import h5py

    item = group
    for part in key.split("/"):
        if not isinstance(item, h5py.Group) or not part or part == ".":
            return None
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            return None
        item = item[part]
    return item if isinstance(item, h5py.Dataset) else None
