"""SIGTERM and Ctrl-C: the command ends within ten seconds, with exit code 130 and without a traceback.

The first signal raises KeyboardInterrupt in the main thread, so that `with` blocks stop actors and update the progress
file. A thread ends the process if that takes too long: a store may not answer, or the main thread may be in native code
that runs no signal handlers. This module imports nothing slow, since it must work before torch and Ray are imported.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
_PATIENCE_S = 7.5  # from the first signal until the process is ended by force
_LAST_ACTS_S = 1.5
_PROMPT_S = 0.5  # for a reader of standard error
_LAST_LINE, _AND_RESUME = "esv: interrupted", "; run the same command again to resume"
_ENDING = (signal.SIGINT, signal.SIGTERM)


class _State:
    """What this process has done about signals."""

    def __init__(self) -> None:
        self.installed = False
        self.starting = True  # the command's modules are being imported: there is nothing to clean up
        self.received = False
        self.raised = False
        self.swallowed = False
        self.reported = False
        self.resumable = False
        self.last_acts: list[Callable[[int], None]] = []


_state = _State()


def install() -> None:
    """Start to handle SIGTERM and Ctrl-C; call it in the main thread of the command's process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="esv-signals", daemon=True).start()
    for each in _ENDING:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as a shell starts what runs in the background
            signal.signal(each, _interrupt)
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_failed
    _state.installed = True


def started() -> None:
    """Let the first signal raise KeyboardInterrupt from now on, since there may be something to clean up."""
    _state.starting = False


def resumes() -> None:
    """Record that the command goes on where it stopped when it is run again; the last line says so from now on."""
    _state.resumable = True


def is_resumable() -> bool:
    """Return whether the command goes on where it stopped when it is run again."""
    return _state.resumable


def was_interrupted() -> bool:
    """Return whether a signal asked this process to end."""
    return _state.received


def report_interrupted() -> None:
    """Write the last line of an interrupted command, once."""
    if not _state.reported:
        _state.reported = True
        _write_line(_last_line())


def leave(code: int) -> NoReturn:
    """End the command's process at once.

    Nothing is finalized: requests in flight would each leave a traceback, since they belong to another thread's
    context, and exit handlers would join threads that wait for a store.

    Args:
        code: exit code; 1 in place of 0 where standard output cannot be written.
    """
    _state.raised = True  # later signals change nothing
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            code = code or 1
            if not isinstance(error, BrokenPipeError) and stream is sys.stdout:
                _write_line(f"esv: cannot write to standard output: {error}")
    os._exit(code)


def end_by_force(code: int, line: str) -> None:
    """End the command's process from any thread, whatever the main thread does; in other processes do nothing.

    Args:
        code: exit code.
        line: the last one on standard error.
    """
    if not _state.installed:
        return
    acts = [threading.Thread(target=act, args=(code,), daemon=True) for act in reversed(_state.last_acts)]
    for act in acts:
        act.start()
    until = time.monotonic() + _LAST_ACTS_S
    for act in acts:
        act.join(max(0.0, until - time.monotonic()))
    if not _state.reported:
        _state.reported = True
        _write_line(line)
    os._exit(code)


@contextmanager
def last_act(act: Callable[[int], None]) -> Iterator[None]:
    """Register what must be done if the process is ended by force while the block runs.

    Args:
        act: called with the exit code, in a thread of its own, beside others; it has a second or so.
    """
    _state.last_acts.append(act)
    try:
        yield
    finally:
        _state.last_acts.remove(act)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does, in a process whose owner left SIGTERM alone."""
    main = threading.current_thread() is threading.main_thread()  # the owner handles signals
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle a signal of the command: the first one interrupts; later ones do not change the deadline."""
    _state.received = True
    if _state.starting:
        report_interrupted()
        os._exit(INTERRUPTED)
    if _state.raised:
        return
    if _importing(frame):
        # C++ code that imports modules, as torch does numpy, ignores the interrupt and continues with half a module.
        if not _state.last_acts:  # nothing to clean up
            report_interrupted()
            os._exit(INTERRUPTED)
        _state.swallowed = True  # raised a moment later
        return
    _state.raised = True
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch(reader: int) -> None:
    """Wait for the first signal, then for the end of the process; force it at the deadline.

    The interpreter writes the number of a signal to the pipe even while the main thread runs no Python code.
    """
    while not set(os.read(reader, 64)) & set(_ENDING):
        pass
    _state.received = True
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.1)
        if _state.swallowed:  # raise it again: the main thread has continued
            _state.swallowed = _state.raised = False
            # The main thread may wait in a system call.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    end_by_force(INTERRUPTED, _last_line())


def _last_line() -> str:
    return _LAST_LINE + (_AND_RESUME if _state.resumable else "")


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Handle an exception where none can be raised, such as in a finalizer."""
    if not _state.received:
        sys.__unraisablehook__(unraisable)
    elif isinstance(unraisable.exc_value, KeyboardInterrupt):
        _state.swallowed = True


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Report the exception of a thread, unless the process is ending, when modules of running threads are torn down."""
    if not _state.received:
        threading.__excepthook__(args)


def _write_line(line: str) -> None:
    """Write to standard error without buffers and their locks; not at all if a full pipe would block."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], _PROMPT_S)[1]:
            os.write(2, f"{line}\n".encode())
