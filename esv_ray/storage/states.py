"""The state of an object: its size and its version, which change with its content."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError
from esv_ray.parallel import READERS, in_parallel
from esv_ray.storage.location import is_local, open_location
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.answers import InvalidResponseError
from esv_ray.storage.transport.bounds import RequestLimits
from esv_ray.storage.transport.faults import attempt

# Keys of stores for the version of a content, best first. A listing of S3 has no version ids, and an ETag in it belongs
# to the content. S3 gives times of changes in whole seconds for a single object, and finer ones in listings.
_CONTENT = ("ETag", "etag", "generation", "md5Hash", "Content-MD5")
_CHANGED = ("LastModified", "last_modified", "Last-Modified", "mtime", "modify", "modified", "created")
# File systems whose client invents inodes, and the times of their changes, when it is mounted.
_MADE_UP = ("fuse", "9p", "cifs", "smb", "vboxsf", "drvfs")


class State(NamedTuple):
    """The state of an object as its store reports it.

    Attributes:
        size: bytes.
        version: ETag or generation; else the time of the last change. For a file on a disk (with links followed): the
            times of the last changes of its content and of its inode, and the number of the inode.
    """

    size: int
    version: str


def state(url: str, doing: str) -> State:
    """Ask for the state of one object.

    Raises:
        DataError: it does not exist, is not a regular file, or the store gives no size or version.
    """
    fs, path = open_location(url)
    if is_local(fs):
        return attempt(url, doing, lambda: requests.in_time(lambda: state_of(fs, path, url), RequestLimits()))
    return attempt(url, doing, lambda: state_of(fs, path, url))


def states_of(urls: Sequence[str], doing: str) -> list[State]:
    """Ask for the states of some objects; errors as for `state`. Files of a disk are asked in one bounded step."""
    if len(urls) == 1:
        return [state(urls[0], doing)]
    places = [(*open_location(url), url) for url in urls]
    if places and all(is_local(fs) for fs, _, _ in places):
        together = RequestLimits(entries=len(places))
        return attempt(
            urls[0], doing, lambda: requests.in_time(lambda: [_located(*place, doing) for place in places], together)
        )
    return in_parallel(lambda url: state(url, doing), urls, threads=READERS)


def _located(fs: AbstractFileSystem, path: str, url: str, doing: str) -> State:
    return attempt(url, doing, lambda: state_of(fs, path, url))  # the error names this file


def state_of(fs: AbstractFileSystem, path: str, url: str, entry: Mapping[str, Any] | None = None) -> State:
    """Return the state of an object from its entry in a listing, or ask for it.

    Raises:
        DataError: it is not a regular file.
    """
    if is_local(fs):
        return _of_file(path, url)
    listed = None if entry is None else _of_entry(entry)
    if listed is not None:
        return listed
    entry = requests.info(fs, path)
    if entry["type"] != "file":
        raise DataError(f"{url}: expected an object, got a folder; check the location")
    looked_up = _of_entry(entry)
    if looked_up is None:
        raise InvalidResponseError("the store gives no size or no version (an ETag, or a time of the last change)")
    return looked_up


def _of_file(path: str, url: str) -> State:
    try:
        status = Path(path).stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP) or not os.path.lexists(path):
            raise
        raise DataError(f"{url}: expected a file, got a broken link; repair or remove it") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{url}: expected an ordinary file, got {_kind(status.st_mode)}; move it away")
    if _made_up(status.st_dev):
        return State(status.st_size, str(status.st_mtime_ns))
    return State(status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


@lru_cache
def _made_up(device: int) -> bool:
    """Return whether a file system, given its device, has other inodes after the next mount."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    kinds = [mount.partition(" - ")[2].split(" ")[0] for mount in mounts if mount.split(" ")[2] == number]
    return any(kind.startswith(_MADE_UP) for kind in kinds)


def _of_entry(entry: Mapping[str, Any]) -> State | None:
    size = entry.get("size")
    if size is not None and isinstance(entry.get("CRC"), int):  # in an archive; 0 is a checksum, too
        return State(int(size), f"{entry['CRC']:08x}")
    version = next((str(entry[key]).strip('"') for key in _CONTENT if entry.get(key)), None)
    if version is None:
        version = next((_time(key, entry[key]) for key in _CHANGED if entry.get(key)), None)
    return None if size is None or version is None else State(int(size), version)


def _time(key: str, value: object) -> str:
    if not isinstance(value, datetime):
        return str(value)
    seconds = value.timestamp()
    return str(int(seconds) if key in ("LastModified", "last_modified") else seconds)
