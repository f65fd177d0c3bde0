"""A Ray runtime of this command's own: its private folder, its processes, and whether it is still alive.

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
        SpecError: there is no place for it.
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
    """Keep the next `ray.init` from listening to errors: it prints 20 lines of a killed raylet's log to our output."""
    from ray._private import worker

    worker.listen_error_messages = lambda worker, threads_stopped: None


def _guard(done: threading.Event) -> None:
    """End the command if its main thread hangs in a call of a runtime that is gone."""
    while not done.wait(_LOOK_EVERY_S):
        why = lost_process() if "ray._private.worker" in sys.modules else None
        if why is not None and not done.wait(_STUCK_S):
            end_by_force(1, f"esv: Ray on this machine ended: {why}; run the same command again to go on")
