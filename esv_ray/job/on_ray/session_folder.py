"""Folders for Ray's sockets and logs that only this user can access, and that no other user can replace."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from esv_ray.errors import SpecError
from esv_ray.job.on_ray.limits import WITHOUT_RAY
from esv_ray.machine import others_can_rename

PREFIX = "esv-ray-"
OWNED = "ESV_RAY_RUNTIME"
"""Environment variable of all processes of a runtime; it holds the folder."""

_SOCKET_BYTES = 107 if sys.platform == "linux" else 103  # of a path, by the kernel's sockaddr_un
_BELOW = len(f"/{PREFIX}01234567/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
_TRIAL_BYTES = 2**16
_GONE_S = 3.0  # allowed for killed processes to end

_log = logging.getLogger("esv_ray")


def new_folder() -> tuple[Path, int]:
    """Make a folder that only this user can enter, after removing what killed commands left.

    Returns:
        The folder, and a descriptor that holds its lock while it is in use; the kernel releases it with the process.

    Raises:
        SpecError: no place is suitable.
    """
    refused = {}
    for place, chosen, why in _places():
        if why is None:
            try:
                return _new_folder(place)
            except OSError as error:
                why = error.strerror or str(error)
        refused[place] = why
        if chosen:
            _log.warning("RAY_TMPDIR=%s cannot hold Ray's sockets (%s); looking for another folder", place, why)
    tried = ", ".join(f"{place} ({why})" for place, why in refused.items())
    raise SpecError(
        "cannot start Ray on this machine: expected a folder for its sockets with an ASCII path of at most "
        f"{_SOCKET_BYTES - _BELOW} bytes, in which this user can write and other users cannot rename; tried {tried}; "
        f"set RAY_TMPDIR to one, {WITHOUT_RAY}"
    )


def _new_folder(place: Path) -> tuple[Path, int]:
    remove_left(place)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if not (_held(lock) and folder.exists()):
            os.close(lock)  # another command that starts now took it for a leftover
            continue
        try:
            _try_out(folder)
        except OSError:
            remove_folder(folder)
            os.close(lock)
            raise
        return folder, lock


def _try_out(folder: Path) -> None:
    """Make a socket and a file in a folder: some file systems have no sockets, or no space.

    Raises:
        OSError: it cannot be done.
    """
    path = folder / "trial"
    with socket.socket(socket.AF_UNIX) as trial:
        trial.bind(str(path))
    path.unlink()
    path.write_bytes(bytes(_TRIAL_BYTES))
    path.unlink()


def _held(descriptor: int) -> bool:
    """Lock a folder; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems have no locks: no process will take it for a leftover
        return True
    return True


def _places() -> Iterator[tuple[Path, bool, str | None]]:
    """Find where a private folder may be: paths short enough for sockets, which no other user can change.

    Yields:
        A place, whether the user chose it for Ray, and why it is unsuitable or None.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    try:
        usual = tempfile.gettempdir()
    except OSError:  # nothing can be written where it looks
        usual = None
    others = (os.environ.get("TMPDIR"), "/tmp", os.environ.get("XDG_RUNTIME_DIR"), "/var/tmp")  # noqa: S108
    visited = set()
    for name in (chosen, usual, *others):
        place = Path(os.path.realpath(name)) if name else None
        if place is None or place in visited:
            continue
        visited.add(place)
        yield place, name == chosen, _objection(place, trusted=name == chosen)


def _objection(place: Path, *, trusted: bool) -> str | None:
    """Return why a place is unsuitable for a private folder, or None.

    Args:
        place: path without links.
        trusted: whether the user chose the place, and with it who can rename its contents.
    """
    if not str(place).isascii():
        return "letters beyond ASCII, which Ray cannot read"
    if (length := len(os.fsencode(place))) + _BELOW > _SOCKET_BYTES:
        return f"{length} bytes long"
    try:
        if not stat.S_ISDIR(place.stat().st_mode):
            return "not a folder"
        if not trusted and others_can_rename(place):
            return "others can rename what is in it"
    except OSError as error:
        return error.strerror or str(error)
    return None


def remove_left(place: Path) -> None:
    """End the processes and remove the folders that killed commands of this user left in a place."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone
            continue
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when its owner ends
                end_processes(folder)
                remove_folder(folder)
        except OSError:  # in use, or no locks
            continue
        finally:
            os.close(lock)


def end_processes(folder: Path) -> None:
    """Kill the remaining processes of a folder's runtime, such as stopped actors, which outlive their raylet."""
    until = time.monotonic() + _GONE_S
    while (alive := _processes(folder)) and time.monotonic() < until:
        for pid in alive:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes(folder: Path) -> list[int]:
    mark, pids = os.fsencode(f"{OWNED}={folder}"), []
    for entry in Path("/proc").glob("[0-9]*"):  # Linux only; empty elsewhere
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
        except OSError:  # another user's, or gone
            continue
    return pids


def remove_folder(folder: Path) -> None:
    """Remove a folder whose processes have ended, or are about to."""
    until = time.monotonic() + _GONE_S
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
