"""A Ray runtime that this command started: its private folder, its processes, and whether it is alive.

Ray makes its session folders readable and writable for everybody (mode 0777), below a folder that all users share. A
local runtime has them below a folder that only its user can enter.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esv_ray.errors import IncompleteError
from esv_ray.job.on_ray.session_folder import OWNED, end_processes, new_folder, remove_folder
from esv_ray.signals import end_by_force, last_act

_LOOK_EVERY_S = 1.0
_STUCK_S = 40.0  # Ray itself ends the process 60 s after it lost its GCS, with a traceback


class RuntimeLostError(IncompleteError):
    """The runtime that this process started lost a process that it needs."""


def check_alive() -> None:
    """Check the processes of the runtime, if this process started it.

    Raises:
        RuntimeLostError: one ended. Calls of Ray would now hang, and end this process after a minute.
    """
    why = lost_process()
    if why is not None:
        raise RuntimeLostError(f"Ray on this machine ended: {why}; run again to resume")


def lost_process() -> str | None:
    """Return which process of the runtime ended, and how; None if none did, or if another process started it."""
    from ray._private import worker  # no public interface lists the processes of `ray.init`

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
    """Make a private folder for a runtime; at the end, remove it and end all processes of the runtime.

    Yields:
        The folder to give to Ray. No other user can enter the folder around it.

    Raises:
        SpecError: no folder is suitable.
    """
    folder, lock = new_folder()
    done = threading.Event()

    def end(code: int = 0) -> None:
        end_processes(folder)
        remove_folder(folder)

    before = os.environ.get(OWNED)
    os.environ[OWNED] = str(folder)
    threading.Thread(target=_guard, args=(done,), name="esv-runtime", daemon=True).start()
    try:
        with last_act(end):
            yield folder / "r"
    finally:
        done.set()
        if before is None:
            os.environ.pop(OWNED, None)
        else:
            os.environ[OWNED] = before
        end()
        os.close(lock)


def quieten() -> None:
    """Keep the next `ray.init` from printing 20 lines of a killed raylet's log to this command's output."""
    from ray._private import worker

    worker.listen_error_messages = lambda worker, threads_stopped: None


def _guard(done: threading.Event) -> None:
    """End the command if its main thread hangs in a call of a runtime that was lost."""
    while not done.wait(_LOOK_EVERY_S):
        why = lost_process() if "ray._private.worker" in sys.modules else None
        if why is not None and not done.wait(_STUCK_S):
            end_by_force(1, f"esv: Ray on this machine ended: {why}; run the same command again to resume")
