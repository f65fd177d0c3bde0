"""Writing objects: whole, create-only, and safe when the store's answer is lost.

How an object is created only if nothing is there, by store:

- S3 and compatible servers: ``If-None-Match: *`` on the put, or on the completion of a multipart upload. The refusal is
  412, or 409 while another put is in progress (retried).
- Google Cloud Storage (gcsfs): ``ifGenerationMatch=0``; its 412 becomes `FileExistsError`. gcsfs repeats a put whose
  answer was lost, so that its own earlier success may look like another writer's.
- Azure (adlfs): ``overwrite=False``, which is ``If-None-Match: *``; its ``ResourceExistsError`` becomes
  `FileExistsError`, which may also be the client's own earlier success.
- Disks: a hard link to a synced temporary file in the same folder. A network file system may lose the answer to a
  successful link; the temporary file then has two links.
- All others, and disks without hard links: check, then write. Two writers at the same moment may both believe that they
  were first; that is safe because contents are deterministic.

Some servers reject the condition, others ignore it and overwrite. So every store that is not a disk is checked before a
write. Where contents are not deterministic (the plan of a job), `commit_new` also reads the object back.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError
from esv_ray.storage.local_files import Write, make_folder, replace_file, sibling, sync_folder, write_synced
from esv_ray.storage.location import absolute, is_local, open_location
from esv_ray.storage.objects import content, exists, is_there, read_bytes
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.bounds import RequestLimits
from esv_ray.storage.transport.faults import attempt

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class UnconditionalError(Exception):
    """Raised if the store has no create-only write."""


def commit_new(url: str, data: bytes, doing: str, *, check: bool = False) -> bool:
    """Create one object whole, or leave the existing one.

    Nothing is streamed to the final name: an exception during a streamed write would publish a truncated object that
    reads as valid Parquet. The docstring of the module says how this is create-only on each store.

    Args:
        url: its location.
        data: its content.
        doing: what is being done, for the error.
        check: whether to read the object back; for small objects whose contents differ between writers.

    Returns:
        True if this call created the object. False if it existed already (another writer was first; contents are
        deterministic), or if its content differs afterwards (`check`). After a retry, an object with this content
        counts as created by this call, because the answer to an earlier try may have been lost.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    tried = 0

    def publish() -> bool:
        nonlocal tried
        tried += 1
        published = _publish(fs, path, data)
        # A retry may find the object that the first try created, whose answer was lost.
        looks_after = check if published else tried > 1
        return _holds(fs, path, data) if looks_after else published

    return attempt(url, doing, publish)


def _publish(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Create an object; return False if it exists."""
    if not is_local(fs) and is_there(fs, path):
        return False
    try:
        return create_once(fs, path, data)
    except UnconditionalError:
        if is_local(fs) and is_there(fs, path):
            return False
        overwrite(fs, path, data)
        return True


def _holds(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Return whether an object has this content."""
    if is_local(fs):
        return requests.cat_whole(fs, path, len(data)) == data
    if requests.info(fs, path)["size"] != len(data):
        return False
    return not data or requests.cat(fs, path, 0, len(data)) == data


def replace(url: str, data: bytes, doing: str) -> None:
    """Write one object whole, and replace an existing one.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    attempt(url, doing, lambda: overwrite(fs, path, data))


def replace_from(url: str, file: Path, doing: str) -> None:
    """Write one object whole from a file of this machine, in pieces, and replace an existing one.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    attempt(url, doing, lambda: _overwrite_from(fs, path, file))


def commit_from(url: str, file: Path, doing: str) -> bool:
    """Create one object whole from a file of this machine, in pieces, or leave the existing one.

    Args:
        url: its location.
        file: its content.
        doing: what is being done, for the error.

    Returns:
        True if this call created the object, or a retry finds it with this size, because the answer to an earlier try
        may have been lost; False if it existed already.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    size, tried = file.stat().st_size, 0

    def publish() -> bool:
        nonlocal tried
        tried += 1
        published = _publish_from(fs, path, file)
        return published or (tried > 1 and requests.info(fs, path)["size"] == size)

    return attempt(url, doing, publish)


def _publish_from(fs: AbstractFileSystem, path: str, file: Path) -> bool:
    """Create an object from a file; return False if it exists."""
    if is_local(fs):
        limits = RequestLimits(takes=file.stat().st_size)
        try:
            return requests.in_time(lambda: _link_new(Path(path), lambda target: _copy(file, target)), limits)
        except UnconditionalError:
            if is_there(fs, path):
                return False
            _overwrite_from(fs, path, file)
            return True
    if is_there(fs, path):
        return False
    with _writing(fs):
        try:
            requests.put(fs, file, path, mode="create")
        except FileExistsError:
            return False
    return True


def remove(url: str, doing: str) -> None:
    """Remove one object, if it exists.

    Raises:
        DataError: the store refuses.
    """
    fs, path = open_location(url)
    attempt(url, doing, lambda: _remove(fs, path))


def move(url: str, to: str, doing: str) -> None:
    """Copy an object to a location that is free or has the same content, and then remove the original.

    The call may be interrupted at any point and repeated: the object is at one of the locations, or at both. On a disk
    anything can be moved: a folder, a pipe, a broken link.

    Raises:
        DataError: it is at neither location, the second holds other content, or the store refuses.
    """
    if absolute(url) == absolute(to):
        raise ValueError(f"expected two locations, got {url} twice")
    fs, path = open_location(url)
    if is_local(fs) and os.path.lexists(path) and not (Path(path).is_file() and not Path(path).is_symlink()):
        attempt(url, doing, lambda: _rename(Path(path), Path(open_location(to)[1])))
        return

    def read() -> bytes | None:
        try:
            return content(fs, path, url, doing)
        except FileNotFoundError:
            if exists(to):
                return None  # moved by an earlier call, or by another process
            raise

    data = attempt(url, doing, read)
    if data is None:
        return
    if not commit_new(to, data, doing) and read_bytes(to, doing) != data:
        raise DataError(
            f"cannot {doing}: {to}: expected no file there, or one with the content of {url}, got different content; "
            "move it aside"
        )
    remove(url, doing)


def _rename(path: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "something is there already", str(target))
    make_folder(target.parent)
    path.rename(target)
    sync_folder(target.parent)


def create_once(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Try to create an object once; return whether it was created.

    Raises:
        UnconditionalError: the store has no create-only write.
    """
    if is_local(fs):
        limits = RequestLimits(takes=len(data))
        return requests.in_time(lambda: _link_new(Path(path), lambda file: file.write(data)), limits)
    if getattr(fs.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file:  # which checks, then writes
        raise UnconditionalError
    try:
        requests.pipe(fs, path, data, mode="create")
    except FileExistsError:
        return False
    except (NotImplementedError, OSError) as error:
        if isinstance(error, NotImplementedError) or error.errno == errno.ENOSYS:
            raise UnconditionalError from error
        # Some servers refuse a second create without a reason: "invalid argument".
        if error.errno != errno.EINVAL or not is_there(fs, path):
            raise
        return False
    return True


def overwrite(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Try to write an object once, and replace an existing one."""
    if is_local(fs):
        requests.in_time(
            lambda: replace_file(Path(path), lambda file: file.write(data)),
            RequestLimits(takes=len(data)),
        )
    else:
        with _writing(fs):
            requests.pipe(fs, path, data)


def _overwrite_from(fs: AbstractFileSystem, path: str, file: Path) -> None:
    if is_local(fs):
        limits = RequestLimits(takes=file.stat().st_size)
        requests.in_time(lambda: replace_file(Path(path), lambda target: _copy(file, target)), limits)
    else:
        with _writing(fs):
            requests.put(fs, file, path)


@contextmanager
def _writing(fs: AbstractFileSystem) -> Iterator[None]:
    """Name the kind of store if its client cannot write, as that of web addresses.

    Raises:
        UnsupportedOperation: an `OSError`, which `attempt` turns into one line.
    """
    kinds = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    refusal = f"{kinds[0]}:// locations are only read; choose a folder on a disk or a location in an object store"
    if "http" in kinds:  # its client puts files, but removes none
        raise io.UnsupportedOperation(refusal)
    try:
        yield
    except NotImplementedError as error:
        raise io.UnsupportedOperation(refusal) from error


def _copy(file: Path, target: BinaryIO) -> None:
    with file.open("rb") as source:
        shutil.copyfileobj(source, target)


def _remove(fs: AbstractFileSystem, path: str) -> None:
    with suppress(FileNotFoundError):
        if is_local(fs):
            requests.in_time(lambda: Path(path).unlink(), RequestLimits())
        else:
            with _writing(fs):
                requests.rm(fs, path)


def _link_new(path: Path, write: Write) -> bool:
    make_folder(path.parent)
    temporary = sibling(path)
    try:
        write_synced(temporary, write)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system repeats a request whose answer was lost, and then finds its own link.
            if temporary.stat().st_nlink != 2:
                return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise UnconditionalError from error
            raise
        sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)
