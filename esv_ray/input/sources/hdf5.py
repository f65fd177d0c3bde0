"""Import features from HDF5: one dataset or one group per video, in one file or several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError, short_text
from esv_ray.input.faults import RecordError
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.files import NamePattern, SourceFile, list_files
from esv_ray.input.sources.hdf5_files import member, open_file, read_dataset, videos_of
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest

_SUFFIXES = (".h5", ".hdf5", ".hdf")


class _Video(NamedTuple):
    video_id: str
    name: str  # of the data set or group, "" for the file itself
    file: SourceFile
    fault: RecordError | None  # why it is not read
    path: str  # for labels by path


class _OneFile:
    """Opens one file at a time, and keeps it open while it is read."""

    def __init__(self) -> None:
        self._url: str | None = None
        self._stack = ExitStack()
        self._hdf: Any = None

    def of(self, url: str) -> Any:
        """Return an open file; errors as for `open_file`."""
        if url != self._url:
            self.close()
            self._hdf = self._stack.enter_context(open_file(url))
            self._url = url
        return self._hdf

    def close(self) -> None:
        self._url = self._hdf = None
        self._stack.close()


@contextmanager
def open_hdf5(request: ImportRequest) -> Iterator[Source]:
    """Open a file, a folder or a glob of HDF5.

    Ids are the names of the data sets, or of the groups with the data set --key; in a folder or a glob they begin with
    the path of their file without suffix.

    Raises:
        SpecError: h5py is not installed, or the pattern is malformed.
        DataError: there are no such files or data sets.
    """
    listing = list_files(request.source, _SUFFIXES)
    pattern = NamePattern(request.match)
    current = _OneFile()
    try:
        names = [video for file in listing.files for video in _videos_of(file, current, request, not listing.is_file)]
        videos = []
        for video in names:
            video_id = video.video_id if video.fault else pattern.id_of(video.video_id, video.video_id)
            if video_id is not None:
                videos.append(video._replace(video_id=video_id))
        if not videos:
            sought = "data sets" if request.key is None else f"groups with a data set {request.key!r} (--key)"
            raise DataError(f"{request.source}: expected {sought}, got none" + " that match --match" * bool(names))

        def entries() -> Iterator[Entry]:
            for video in videos:
                read = partial(_read, video, current, request.key, request.frames_key)
                yield Entry(video.video_id, video.path, read)

        yield Source(entries, listed=True, state=listing.state, unmatched=len(names) - len(videos))
    finally:
        current.close()


def _videos_of(file: SourceFile, current: _OneFile, request: ImportRequest, prefixed: bool) -> list[_Video]:
    """Return the videos of a file; of several files, one that is damaged counts as one video."""
    stem = file.path.rpartition(".")[0] or file.path
    try:
        found = videos_of(current.of(file.url), request.key)
    except DataError as error:
        if not prefixed:
            raise
        return [_Video(stem, "", file, RecordError("damaged", short_text(error, 200)), file.path)]
    if not prefixed:
        return [_Video(name or stem, name, file, fault, name or file.path) for name, fault in found]
    ids = [f"{stem}/{name}" if name else stem for name, _ in found]
    return [
        _Video(video_id, name, file, fault, video_id if name else file.path)
        for video_id, (name, fault) in zip(ids, found, strict=True)
    ]


def _read(video: _Video, current: _OneFile, key: str | None, frames_key: str | None) -> Frames:
    if video.fault is not None:
        raise video.fault
    hdf = current.of(video.file.url)
    with parsing(""):
        item = hdf[video.name] if video.name else hdf
        dataset = item if key is None else member(item, key)
        numbers = None if frames_key is None else member(item if key is not None else item.parent, frames_key)
    if frames_key is not None and numbers is None:
        raise RecordError(f"no frame numbers {frames_key!r:.60} (--frames-key)")
    return Frames(read_dataset(dataset), numbers=None if numbers is None else _numbers(read_dataset(numbers)))


def _numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if values.dtype.kind in "fu" and (values > INT32_MAX).any():  # before a cast, which may wrap
        raise RecordError("frame numbers beyond 32 bits")
    if values.dtype.kind == "f" and (values < -INT32_MAX).any():
        raise RecordError("frame numbers beyond 32 bits")
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise RecordError("frame numbers that are not whole numbers", str(values.dtype))
    return values.astype(np.int64)
