"""Publishing objects: whole, create-only, and so that a lost answer does no harm.

What "create only if nothing is there" comes down to, by store:

- S3, and servers that speak its language: ``If-None-Match: *`` on the put, or on what completes a put in parts. The
  refusal is 412, and 409 while another's put is under way (tried again).
- Google Cloud Storage (gcsfs): ``ifGenerationMatch=0``, where its 412 becomes `FileExistsError`. gcsfs puts a try that
  lost its answer again by itself, so that its own earlier success may look like another's.
- Azure (adlfs): ``overwrite=False``, which is ``If-None-Match: *``; its ``ResourceExistsError`` becomes
  `FileExistsError`, which again may be the Azure client's own earlier success.
- Disks: a hard link to a synced temporary sibling. Network file systems may lose the answer to a link that was made;
  the temporary's two links tell.
- Everything else, and disks without hard links: look, then write. Two writers in the same moment may both believe to
  have been first; that is safe because contents are deterministic.

Some servers know the condition and refuse it, others ignore it and overwrite. So every store that is no disk is looked
at before, whatever it promises; and where contents are not deterministic (the plan of a job), `commit_new` looks after.
"""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError
from esv_ray.storage.links import check_way
from esv_ray.storage.location import absolute, is_local, join, open_location
from esv_ray.storage.objects import content, exists, is_there, read_bytes
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.bounds import Bound
from esv_ray.storage.transport.faults import attempt

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class _UnconditionalError(Exception):
    """The store has no create-only write."""


def commit_new(url: str, data: bytes, doing: str, *, check: bool = False) -> bool:
    """Publish one object whole, or leave what is there.

    Never streams to the final name: an exception inside a streamed write publishes a truncated object that reads as
    valid Parquet. How it is create-only on each store, and what is done where there is no such thing: see the module.

    Args:
        url: its location.
        data: its content.
        doing: what is being done, for the error.
        check: whether to read back what was published; for small objects whose contents differ between writers.

    Returns:
        True if this call published it, False if it was there already (somebody else won; contents are deterministic),
        or if another content is there afterwards (`check`). Where a try was repeated, what is there counts as published
        by this call if it has this content: the answer to an earlier try may have been lost.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    tried = 0

    def publish() -> bool:
        nonlocal tried
        tried += 1
        published = _publish(fs, path, data)
        # A second try may find what the first one made, whose answer was lost.
        looks_after = check if published else tried > 1
        return _holds(fs, path, data) if looks_after else published

    return attempt(url, doing, publish)


def _publish(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Create an object; False if it was there."""
    if not is_local(fs) and is_there(fs, path):
        return False
    try:
        return _create(fs, path, data)
    except _UnconditionalError:
        if is_local(fs) and is_there(fs, path):
            return False
        _overwrite(fs, path, data)
        return True


def _holds(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Whether an object has this content."""
    if is_local(fs):
        return requests.cat_whole(fs, path, len(data)) == data
    if requests.info(fs, path)["size"] != len(data):
        return False
    return not data or requests.cat(fs, path, 0, len(data)) == data


def replace(url: str, data: bytes, doing: str) -> None:
    """Publish one object whole, in place of what may be there.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    attempt(url, doing, lambda: _overwrite(fs, path, data))


def remove(url: str, doing: str) -> None:
    """Remove one object; that it is gone already is no error.

    Raises:
        DataError: the store refuses.
    """
    fs, path = open_location(url)
    attempt(url, doing, lambda: _remove(fs, path))


def move(url: str, to: str, doing: str) -> None:
    """Publish an object at another place, where nothing or the same content is, and then remove it where it was.

    May be killed at any point, and called again: the object is at one of the places, or at both. On a disk anything can
    be moved: a folder, a pipe, a link that leads nowhere.

    Raises:
        DataError: it is at neither place, another content is at the second, or the store refuses.
    """
    if absolute(url) == absolute(to):
        raise ValueError(f"expected two places, got {url} twice")
    fs, path = open_location(url)
    if is_local(fs) and os.path.lexists(path) and not (Path(path).is_file() and not Path(path).is_symlink()):
        attempt(url, doing, lambda: _rename(Path(path), Path(open_location(to)[1])))
        return

    def read() -> bytes | None:
        try:
            return content(fs, path, url, doing)
        except FileNotFoundError:
            if exists(to):
                return None  # moved by an earlier call, or by somebody else
            raise

    data = attempt(url, doing, read)
    if data is None:
        return
    if not commit_new(to, data, doing) and read_bytes(to, doing) != data:
        raise DataError(
            f"cannot {doing}: {to}: expected nothing there, or the content of {url}, got another; move it aside"
        )
    remove(url, doing)


def _rename(path: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "something is there already", str(target))
    _make_folder(target.parent)
    path.rename(target)
    _sync_folder(target.parent)


def creates_only(folder: str) -> bool:
    """Whether a store keeps the first of two creations, or replaces it by the second; tried on a small hidden object.

    Returns:
        True if the second was refused; False if it was not, or if the client only looks before it writes.

    Raises:
        DataError: nothing can be written there.
    """
    fs, place = open_location(folder)
    if is_local(fs):  # folders are not made for a trial: the nearest that is there has the same rights
        folder = str(next(there for there in (Path(place), *Path(place).parents) if there.exists()))
    url = join(folder, f".esv-probe-{uuid.uuid4().hex}")
    fs, path = open_location(url)
    doing = "write"

    def create(data: bytes) -> bool | None:
        try:
            return _create(fs, path, data)
        except _UnconditionalError:
            return None

    try:
        if attempt(url, doing, lambda: create(b"first")) is None:
            attempt(url, doing, lambda: _overwrite(fs, path, b"first"))
            return False
        # What a second creation left tells more than what was answered to it, of which a part may be lost.
        attempt(url, doing, lambda: create(b"second"))
        return read_bytes(url, doing) == b"first"
    finally:
        with suppress(DataError):  # what was found, or the first error, says more
            remove(url, doing)


def _create(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """One create-only write.

    Raises:
        _UnconditionalError: there is no such thing here.
    """
    if is_local(fs):
        return requests.in_time(lambda: _link_new(Path(path), data), Bound(takes=len(data)))
    if getattr(fs.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file:  # which looks, then writes
        raise _UnconditionalError
    try:
        requests.pipe(fs, path, data, mode="create")
    except FileExistsError:
        return False
    except (NotImplementedError, OSError) as error:
        if isinstance(error, NotImplementedError) or error.errno == errno.ENOSYS:
            raise _UnconditionalError from error
        # Some servers' refusal of a second create lacks its reason and arrives as a bare "invalid argument".
        if error.errno != errno.EINVAL or not is_there(fs, path):
            raise
        return False
    return True


def _overwrite(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    if is_local(fs):
        requests.in_time(lambda: _replace_file(Path(path), data), Bound(takes=len(data)))
    else:
        requests.pipe(fs, path, data)


def _replace_file(target: Path, data: bytes) -> None:
    _make_folder(target.parent)
    temporary = _sibling(target)
    try:
        _write_synced(temporary, data)
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(fs: AbstractFileSystem, path: str) -> None:
    with suppress(FileNotFoundError):
        if is_local(fs):
            requests.in_time(lambda: Path(path).unlink(), Bound())
        else:
            requests.rm(fs, path)


def _link_new(path: Path, data: bytes) -> bool:
    _make_folder(path.parent)
    temporary = _sibling(path)
    try:
        _write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system repeats a request whose answer was lost, and then finds its own link.
            if temporary.stat().st_nlink != 2:
                return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise _UnconditionalError from error
            raise
        _sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a power failure, as what is put into them does."""
    if folder.is_dir():
        return
    check_way(str(folder))
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power failure, where folders can be synced."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):
            raise
    finally:
        os.close(number)
