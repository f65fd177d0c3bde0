"""Files of this machine: written whole, synced, and put in place by a rename."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from esv_ray.storage.links import check_no_broken_link

Write = Callable[[BinaryIO], object]


def replace_file(target: Path, write: Write) -> None:
    """Write a file whole, and replace an existing one.

    A symbolic link stays, and the file that it leads to is replaced. Pipes and devices are written to: a rename would
    put a file in their place.
    """
    if is_special(target):
        _write_through(target, write)
        return
    target = Path(os.path.realpath(target)) if target.is_symlink() else target
    make_folder(target.parent)
    temporary = sibling(target)
    try:
        write_synced(temporary, write)
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Return whether there is something, by way of links or not, that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_through(target: Path, write: Write) -> None:
    try:
        number = os.open(target, os.O_WRONLY | os.O_NONBLOCK)  # a pipe that nobody reads is refused, not waited for
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.EINVAL, "expected a file, or a pipe that is being read", str(target)) from None
        raise
    os.set_blocking(number, True)
    with os.fdopen(number, "wb") as file:
        write(file)


def write_synced(path: Path, write: Write) -> None:
    """Write a new file, and sync it, so that it survives a power failure."""
    with path.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def sibling(path: Path) -> Path:
    """Return a hidden name of its own in the same folder."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and sync them, so that they survive a power failure."""
    if folder.is_dir():
        return
    check_no_broken_link(str(folder))
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    above = new[-1].parent if new else folder
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder, got a file", str(above))
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder, where that is possible, so that a new name in it survives a power failure."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):
            raise
    finally:
        os.close(number)
