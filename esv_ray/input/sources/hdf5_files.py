"""Opening HDF5 files, which must not lead to other files of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError, SpecError, short_text
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.arrays import check_size
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.files import on_disk


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
    with parsing("", reason="not numbers"):  # H5T_TIME and others without a type of NumPy
        dtype = dataset.dtype
    with parsing(""):
        if dataset.is_virtual or dataset.external:
            raise RecordError("numbers in another file, which is not opened")
        if dtype.hasobject:
            raise RecordError("not numbers", "of variable length")
        if dataset.shape is None:
            raise RecordError("no frames or no features", "an empty data set")
        check_size(dataset.size * dtype.itemsize)
        return np.asarray(dataset[()])


class LinkError(Exception):
    """A part of a path is a link other than a hard one, which may lead to another file."""


def item_at(group: Any, path: str) -> Any:
    """Return the group or data set below a group, or None; links other than hard ones are not followed.

    Raises:
        LinkError: a part of the path is one; the error is the part.
    """
    import h5py

    item = group
    for part in path.split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) and part not in ("", ".") else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise LinkError(part)
        item = item[part]
    return item


def member(group: Any, key: str) -> Any:
    """Return a data set below a group by hard links only, or None: others leave the file."""
    import h5py

    try:
        item = item_at(group, key)
    except LinkError:
        return None
    return item if isinstance(item, h5py.Dataset) else None


class Found(NamedTuple):
    """A data set or group below a group.

    Attributes:
        name: its path; bytes that are no UTF-8 are surrogates, as in names of files.
        fault: why it is not read, or None.
    """

    name: str
    fault: RecordError | None = None


def videos_of(hdf: Any, key: str | None) -> list[Found]:
    """Return the data sets of a file, or its groups with the data set `key`, in the order of their paths.

    Every name of a data set is one; links that leave the group, and second names of groups, are faults.
    """
    found: list[Found] = []
    visited: set[tuple[int, int]] = set()
    waiting = [("", hdf)]
    while waiting:
        path, group = waiting.pop()
        try:
            inside = _inside(group, key)
        except RecordError as error:
            found.append(Found(path, error))
            continue
        if inside.is_video:
            found.append(Found(path))
        if inside.place in visited:
            if not inside.is_video:
                found.append(Found(path, RecordError("a second name of a group, whose content is read once")))
            continue
        visited.add(inside.place)
        below = path + "/" * bool(path)
        waiting += [(below + name, item) for name, item in inside.groups]
        if key is None:
            found += [Found(below + name) for name in inside.datasets]
        if not inside.is_video:
            found += [Found(below + name, fault) for name, fault in inside.faults]
    return sorted(found, key=lambda video: video.name)


class _Inside(NamedTuple):
    """What is directly in a group.

    Attributes:
        is_video: whether it has the data set that is sought.
        place: of the group in its file, which all of its names share.
        groups: with their names.
        datasets: names.
        faults: names that are not followed, and why.
    """

    is_video: bool
    place: tuple[int, int]
    groups: list[tuple[str, Any]]
    datasets: list[str]
    faults: list[Found]


def _inside(group: Any, key: str | None) -> _Inside:
    """Look into a group.

    Raises:
        RecordError: it is damaged.
    """
    import h5py

    with parsing(""):
        is_video = key is not None and member(group, key) is not None
        place = h5py.h5o.get_info(group.id)
        names = list(group.id)
    inside = _Inside(is_video, (place.fileno, place.addr), [], [], [])
    for raw in names:
        name = raw.decode(errors="surrogateescape")
        try:
            item = _item(group, raw)
        except RecordError as error:
            inside.faults.append(Found(name, error))
            continue
        if isinstance(item, h5py.Group):
            inside.groups.append((name, item))
        elif isinstance(item, h5py.Dataset):
            inside.datasets.append(name)
    return inside


def _item(group: Any, raw: bytes) -> Any:
    """Return what a name of a group leads to.

    Raises:
        RecordError: the name is no UTF-8, it is a link that may leave the file, or what it leads to is damaged.
    """
    import h5py

    with parsing("", reason="an id that is not UTF-8"):
        name = raw.decode()
    with parsing(""):
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise RecordError("a link, which is not followed", "soft or to another file")
        return group[name]
