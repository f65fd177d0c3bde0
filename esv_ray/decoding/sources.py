"""The bytes of a video, from any location."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from esv_ray import storage
from esv_ray.decoding.media_file import Source
from esv_ray.errors import DataError

DOING = "read the video"


@contextmanager
def open_source(url: str) -> Iterator[Source]:
    """Open the bytes of a video.

    Raises:
        DataError: there is no such file, it is empty, or it is no file.
    """
    size = storage.state(url, DOING).size
    if not size:
        raise DataError(f"{url}: expected a video, got an empty file (0 bytes)")
    fs, _ = storage.open_location(url)
    with storage.reader(url, DOING, size) as file:
        yield Source(url, size, file, not storage.is_local(fs))
