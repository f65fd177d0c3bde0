"""LMDB with one key per frame, as ``{video}_frame_{number:010d}.jpg``, whose value is raw float32."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from esv_ray import storage
from esv_ray.errors import DataError, SpecError, short_text
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.arrays import check_size
from esv_ray.input.sources.files import DOING, on_disk
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest

_MATCH = r"^(?P<video_id>.+)_frame_(?P<frame>\d+)\.(?:jpg|jpeg|png)$"
_DATA = "data.mdb"
_Runs = list[tuple[bytes, int]]  # first key and number of adjacent keys of one video


@contextmanager
def open_lmdb(request: ImportRequest) -> Iterator[Source]:
    """Open an LMDB environment: a folder with data.mdb, or its file; one on an object store is copied to this machine.

    Raises:
        SpecError: lmdb is not installed, or the pattern is malformed.
        DataError: there is no environment, it is truncated, or no key matches.
    """
    try:
        import lmdb
    except ImportError as error:
        raise SpecError("reading LMDB needs lmdb: pip install 'esv-ray[lmdb]'") from error
    pattern = _pattern(request.match)
    url = _data_file(request.source)
    state = storage.state(url, DOING)
    with ExitStack() as stack:
        path = stack.enter_context(on_disk(url))
        try:
            environment = lmdb.open(
                path, subdir=False, readonly=True, lock=False, readahead=False, create=False, max_readers=1
            )
            stack.callback(environment.close)
            _check_length(environment, path, url)
            transaction = stack.enter_context(environment.begin(buffers=False))
            videos, unmatched = _videos(transaction, pattern)
        except lmdb.Error as error:
            raise DataError(f"{url}: expected an LMDB environment: {short_text(error, 200)}") from None
        if not videos:
            raise DataError(
                f"{request.source}: expected keys such as VIDEO_frame_0000000001.jpg, or those that --match picks, got "
                f"none among {unmatched}"
            )

        def entries() -> Iterator[Entry]:
            for video_id, runs in videos.items():
                yield Entry(video_id, video_id, partial(_read, transaction, pattern, runs))

        yield Source(entries, listed=True, state=f"{state.size} {state.version}", unmatched=unmatched)


def _pattern(match: str | None) -> re.Pattern[str]:
    try:
        pattern = re.compile(_MATCH if match is None else match)
    except (re.error, RecursionError, OverflowError) as error:
        raise SpecError(f"--match: expected a regular expression, got {match!r:.80}: {error}") from None
    if not {"video_id", "frame"} <= pattern.groupindex.keys():
        raise SpecError(f"--match: of lmdb it needs the groups video_id and frame, as in {_MATCH}; got {match!r:.80}")
    return pattern


def _data_file(source: str) -> str:
    names = storage.list_names(source, DOING)
    if names and _DATA not in names:
        raise DataError(
            f"{source}: expected an LMDB environment, which is a folder with {_DATA} or that file; got a folder with "
            f"{', '.join(sorted(names)[:5]):.200}"
        )
    return storage.join(source, _DATA) if names else source


def _check_length(environment: Any, path: str, url: str) -> None:
    """Refuse a file that is shorter than it says: reading beyond its end would end the process.

    Raises:
        DataError: it is.
    """
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = Path(path).stat().st_size
    if size < expected:
        raise DataError(f"{url}: expected {expected} bytes, got {size}: the file is cut off; copy it again")


def _videos(transaction: Any, pattern: re.Pattern[str]) -> tuple[dict[str, _Runs], int]:
    """Return the adjacent keys of each video, in the order of the keys, and the number of keys that do not match."""
    videos: dict[str, _Runs] = {}
    unmatched, last = 0, None
    for key in transaction.cursor().iternext(keys=True, values=False):
        match = pattern.search(key.decode(errors="surrogateescape"))
        if match is None:
            unmatched += 1
            continue
        video = match["video_id"] or ""
        runs = videos.setdefault(video, [])
        if video == last:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((key, 1))
        last = video
    return videos, unmatched


def _read(transaction: Any, pattern: re.Pattern[str], runs: _Runs) -> Frames:
    numbers: list[int] = []
    values: list[bytes] = []
    size = 0
    for first, count in runs:
        for match, value in _items(transaction, pattern, first, count):
            size += len(value)
            check_size(size)
            numbers.append(_number(match["frame"]))
            values.append(value)
    sizes = {len(value) for value in values}
    if len(sizes) != 1 or next(iter(sizes)) % 4:
        shown = ", ".join(str(size) for size in sorted(sizes)[:5])
        raise RecordError("values that are not raw float32 of one length", f"of {shown} bytes")
    order = np.argsort(np.array(numbers), kind="stable")
    sorted_numbers = np.array(numbers, np.int64)[order]
    if (np.diff(sorted_numbers) == 0).any():
        raise RecordError("several keys of one frame")
    features = np.stack([np.frombuffer(values[index], "<f4") for index in order])
    return Frames(features, numbers=sorted_numbers)


def _items(
    transaction: Any, pattern: re.Pattern[str], first: bytes, count: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield the keys that match, from one on, and their values.

    Raises:
        RecordError: the file is damaged: it ends before `count` of them.
    """
    import lmdb

    remaining = count
    try:
        cursor = transaction.cursor()
        is_there = cursor.set_range(first)
        while remaining and is_there:
            key, value = cursor.item()
            match = pattern.search(key.decode(errors="surrogateescape"))
            if match is not None:
                remaining -= 1
                yield match, value
            is_there = cursor.next()
    except lmdb.Error as error:
        raise RecordError("damaged", short_text(error, 120)) from None
    if remaining:
        raise RecordError("damaged", f"{remaining} keys are listed but not found")


def _number(text: str | None) -> int:
    if not text or not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise RecordError("frame numbers that are not whole numbers", repr(text)[:60])
    return int(text)
