"""Folders of arrays: one file per video, of NumPy, torch.save or pickle.dump."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy.typing as npt

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.arrays import check_size, parse_npy
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.files import DOING, NamePattern, SourceFile, list_files
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest

_PICKLED = (".pt", ".pth", ".pkl", ".pickle")
_SUFFIXES = (".npy", ".npz", *_PICKLED)


@contextmanager
def open_numpy(request: ImportRequest) -> Iterator[Source]:
    """Open a folder, a file or a glob of arrays; ids are relative paths without suffix, unless --match names them.

    Raises:
        DataError: there are no such files.
        SpecError: the pattern is malformed.
    """
    listing = list_files(request.source, _SUFFIXES)
    pattern = NamePattern(request.match)
    videos = []
    for file in listing.files:
        video_id = pattern.id_of(file.path, file.path.rpartition(".")[0] or file.path)
        if video_id is not None:
            videos.append((video_id, file))
    if not videos:
        raise DataError(
            f"{request.source}: expected files whose relative paths match {request.match!r} (--match), got none among "
            f"{len(listing.files)}, such as {listing.files[0].path!r:.120}"
        )
    videos.sort()

    def entries() -> Iterator[Entry]:
        for video_id, file in videos:
            yield Entry(video_id, file.path, partial(_read, file, request.key))

    yield Source(entries, listed=True, state=listing.state, unmatched=len(listing.files) - len(videos))


def _read(file: SourceFile, key: str | None) -> Frames:
    check_size(file.size)
    data = storage.read_bytes(file.url, DOING)
    if file.path.lower().endswith(_PICKLED):
        from esv_ray.input.sources.pickled_arrays import read_pickled  # which imports torch

        return Frames(read_pickled(data, key))
    return Frames(_npz(data, key) if data.startswith(b"PK") else parse_npy(data))


def _npz(data: bytes, key: str | None) -> npt.NDArray[Any]:
    """Read one array of a .npz file."""
    with parsing("a .npz file"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        name = pick(members, key)
        check_size(archive.getinfo(members[name]).file_size)
        content = archive.read(members[name])
    return parse_npy(content)


def pick(names: dict[str, Any], key: str | None) -> str:
    """Return the name of the array to read: the key, or the only one.

    Raises:
        RecordError: there is no such array, or several and no key.
    """
    shown = ", ".join(sorted(map(str, names)))[:120] or "none"
    if key is None and len(names) != 1:
        raise RecordError("several arrays in a file; give --key" if names else "no array", shown)
    if key is not None and key not in names:
        raise RecordError(f"no array {key!r:.60} (--key)", f"has {shown}")
    return next(iter(names)) if key is None else key
