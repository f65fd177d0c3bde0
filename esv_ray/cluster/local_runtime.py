"""A Ray runtime of this command's own: its private folder, its processes, and whether it is still alive.

Ray makes its session folders readable and writable for everybody (mode 0777), below a folder that all users share. A
local runtime has them below a folder that only its user can enter.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from esv_ray.errors import IncompleteError, JobError
from esv_ray.signals import end_by_force, last_act

PREFIX = "esv-ray-"
_OWNED = "ESV_RAY_RUNTIME"  # in the environment of all processes of a runtime: its folder
_SOCKET_BYTES = 107 if sys.platform == "linux" else 103  # of a path, by the kernel's sockaddr_un
_BELOW = len(f"/{PREFIX}01234567/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
_NOBODY = 65534  # whoever has no number in this container: the machine's root, above all
_TRIES = 3
_GONE_S = 3.0  # until killed processes are gone
_LOOK_EVERY_S = 1.0
_STUCK_S = 40.0  # Ray itself ends the process 60 s after its GCS was lost, in words of its own


class RuntimeLostError(IncompleteError):
    """The runtime that this process started has lost a process that it cannot do without."""


def check_alive() -> None:
    """Check the processes of the own runtime; of another there are none.

    Raises:
        RuntimeLostError: one is gone. Calls of Ray would now hang, and end this process after a minute.
    """
    why = lost_process()
    if why is not None:
        raise RuntimeLostError(f"Ray on this machine ended: {why}; run again to go on")


def lost_process() -> str | None:
    """Which process of the runtime that this process started is gone; None of another runtime."""
    from ray._private import worker  # no public interface tells of the processes of `ray.init`

    node: Any = worker._global_node
    if node is None or not node.is_head():
        return None
    for kind in ("raylet", "gcs_server"):
        for info in list(node.all_processes.get(kind, ())):
            code = info.process.poll()
            if code is not None:
                how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
                return f"its {kind} {how}"
    return None


@contextmanager
def own_runtime() -> Iterator[Path]:
    """Have a private folder for a runtime, and leave nothing of the runtime behind.

    Yields:
        The folder to give to Ray. Nobody else can enter the one around it.

    Raises:
        JobError: there is no place for it.
    """
    folder, lock = _new_folder()
    done = threading.Event()

    def end(code: int = 0) -> None:
        end_processes(folder)
        _remove(folder)

    before = os.environ.get(_OWNED)
    os.environ[_OWNED] = str(folder)
    threading.Thread(target=_guard, args=(done,), name="esv-runtime", daemon=True).start()
    try:
        with last_act(end):
            yield folder / "r"
    finally:
        done.set()
        if before is None:
            os.environ.pop(_OWNED, None)
        else:
            os.environ[_OWNED] = before
        end()
        os.close(lock)


def quieten() -> None:
    """Keep Ray from printing what its raylet says, such as 20 lines of its log when it is killed."""
    from ray._private import worker

    worker.print_to_stdstream = lambda data, ignore_prefix: None


def _guard(done: threading.Event) -> None:
    """End the command if its main thread hangs in a call of a runtime that is gone."""
    while not done.wait(_LOOK_EVERY_S):
        why = lost_process() if "ray._private.worker" in sys.modules else None
        if why is not None and not done.wait(_STUCK_S):
            end_by_force(1, f"esv: Ray on this machine ended: {why}; run the same command again to go on")


def _new_folder() -> tuple[Path, int]:
    """A new folder that only this user can enter, and the descriptor whose lock says that it is in use."""
    tried = []
    for place in _places():
        remove_left(place)
        for _ in range(_TRIES):
            try:
                folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            except OSError as error:
                tried.append(f"{place} ({error.strerror})")
                break
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            if _held(lock) and folder.exists():
                return folder, lock
            os.close(lock)  # another command that starts now took it for left
    found = f"; tried {', '.join(tried)}" if tried else ""
    raise JobError(
        "cannot start Ray on this machine: expected a folder for its sockets of at most "
        f"{_SOCKET_BYTES - _BELOW} characters that other users cannot rename{found}; set RAY_TMPDIR to one"
    )


def _held(descriptor: int) -> bool:
    """Whether this process holds the lock of a folder from here on, or nobody can."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems have no locks: nobody will take it for left
        return True
    return True


def _places() -> Iterator[Path]:
    """Where a private folder may be: paths short enough for sockets, which nobody else can change."""
    chosen = os.environ.get("RAY_TMPDIR")
    others = (tempfile.gettempdir(), "/tmp", os.environ.get("XDG_RUNTIME_DIR"), "/var/tmp")  # noqa: S108
    seen = set()
    for name in (chosen, *others):
        place = Path(os.path.realpath(name)) if name else None
        if place is None or place in seen or len(os.fsencode(place)) + _BELOW > _SOCKET_BYTES:
            continue
        seen.add(place)
        if place.is_dir() and (name == chosen or not others_can_rename(place)):
            yield place


def others_can_rename(folder: Path) -> bool:
    """Whether another user can put something else in the place of what is in a folder, given without links."""
    for each in (folder, *folder.parents):
        status = each.lstat()
        writable, sticky = status.st_mode & 0o022, status.st_mode & 0o1000
        if status.st_uid not in (0, os.getuid(), _NOBODY) or (writable and not sticky):
            return True
    return False


def remove_left(place: Path) -> None:
    """End and remove what killed commands of this user left in a folder."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone
            continue
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when its owner is gone
                end_processes(folder)
                _remove(folder)
        except OSError:  # in use, or no locks
            continue
        finally:
            os.close(lock)


def end_processes(folder: Path) -> None:
    """Kill what is left of the runtime of a folder, such as stopped actors, which outlive their raylet."""
    until = time.monotonic() + _GONE_S
    while (left := _processes(folder)) and time.monotonic() < until:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes(folder: Path) -> list[int]:
    mark, found = f"{_OWNED}={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):  # there is none on other systems than Linux
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:  # another user's, or gone
            continue
    return found


def _remove(folder: Path) -> None:
    until = time.monotonic() + _GONE_S
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
