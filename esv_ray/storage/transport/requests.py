"""Requests to stores, each within its `RequestLimits`.

Clients with an event loop (S3, Google, Azure, the web) run a request in it, and a request that takes too long is
canceled. Other clients, disks included, run it in another thread, which is abandoned if it hangs: it ends with the
process at the latest. Both can be interrupted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import short_text
from esv_ray.storage.location import in_memory, is_local
from esv_ray.storage.transport.answers import InvalidResponseError, RefusedError, is_absence, is_store_error
from esv_ray.storage.transport.bounds import RequestLimits, current

T = TypeVar("T")
Entry = Mapping[str, Any]

MOST_ENTRIES = 2_000_000
"""Most entries of a listing by default: twice the units, and so the files, that a plan may have."""

_PIECE_BYTES = 2**24
_GRACE_S = 2.0  # for a disk to finish after an interrupt, so that it removes its temporary file
_MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


def info(fs: AbstractFileSystem, path: str) -> Entry:
    """Ask for the entry of an object or a folder."""
    entry: Entry = _ask(fs, "info", (path,), RequestLimits())
    return entry


def cat(fs: AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
    """Read bytes start..stop of an object, fewer if it ends before."""
    options = {"start": start, "end": stop}
    data: bytes = _ask(fs, "cat_file", (path,), RequestLimits(gives=stop - start), options)
    return data


def cat_whole(fs: AbstractFileSystem, path: str, most: int) -> bytes:
    """Read all bytes of an object of unknown size; more than `most` if there are more."""
    if not is_local(fs):
        data: bytes = _ask(fs, "cat_file", (path,), RequestLimits(gives=most))
        return data
    limits = RequestLimits(gives=most)
    limits.count()
    return in_time(lambda: _content(Path(path), most, limits), limits)


def ls(fs: AbstractFileSystem, path: str, most: int) -> list[Entry]:
    """List the entries directly in a folder; on a disk with links followed.

    Raises:
        InvalidResponseError: there are more than `most`.
    """
    limits = RequestLimits(entries=most)
    if is_local(fs):
        return in_time(lambda: [_local_entry(entry) for entry in _scan(path, most, limits)], limits)
    return _few(_ask(fs, "ls", (path,), limits, {"detail": True}), most)


def ls_names(fs: AbstractFileSystem, path: str, most: int) -> list[str]:
    """List the paths directly in a folder.

    Raises:
        InvalidResponseError: there are more than `most`.
    """
    limits = RequestLimits(entries=most)
    if is_local(fs):
        return in_time(lambda: [entry.path for entry in _scan(path, most, limits)], limits)
    return _few(_ask(fs, "ls", (path,), limits, {"detail": False}), most)


def find(fs: AbstractFileSystem, path: str, most: int) -> dict[str, Entry]:
    """List all objects below a folder, by path; for clients that list them page by page.

    Raises:
        InvalidResponseError: there are more than `most`.
    """
    entries: dict[str, Entry] = _ask(fs, "find", (path,), RequestLimits(entries=most), {"detail": True})
    _few(list(entries), most)
    return entries


def pipe(fs: AbstractFileSystem, path: str, data: bytes, mode: str = "overwrite") -> None:
    """Write an object whole."""
    # Not every client knows the argument `mode`.
    options = {} if mode == "overwrite" else {"mode": mode}
    _ask(fs, "pipe_file", (path, data), RequestLimits(takes=len(data)), options)


def put(fs: AbstractFileSystem, file: Path, path: str, mode: str = "overwrite") -> None:
    """Write an object whole from a file of this machine, which is not read into memory at once."""
    options = {} if mode == "overwrite" else {"mode": mode}
    _ask(fs, "put_file", (str(file), path), RequestLimits(takes=file.stat().st_size), options)


def rm(fs: AbstractFileSystem, path: str) -> None:
    """Remove an object."""
    _ask(fs, "rm_file", (path,), RequestLimits())


def in_time(work: Callable[[], T], limits: RequestLimits) -> T:
    """Run work that may hang in the kernel, in a thread that is abandoned if it does.

    Raises:
        TimeoutError: it took longer than its limit.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:  # raised in the waiting thread
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        threading.Thread(target=_run_tasks, args=(tasks,), name="esv-storage", daemon=True).start()
    tasks.put(run)
    try:
        return _waited(future, limits)
    except KeyboardInterrupt:
        wait([future], timeout=_GRACE_S)
        raise


_idle: list[SimpleQueue[Callable[[], None]]] = []  # queues of idle threads: to start a thread takes 160 us
os.register_at_fork(after_in_child=_idle.clear)


def _run_tasks(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()
        _idle.append(tasks)  # also a thread that was abandoned, once it returns


def _ask(
    fs: AbstractFileSystem,
    name: str,
    arguments: tuple[Any, ...],
    limits: RequestLimits,
    options: Mapping[str, object] | None = None,
) -> Any:
    options = options or {}
    token = current.set(limits)  # a client's task, and a thread, start with a copy of this context
    try:
        if getattr(fs, "async_impl", False):
            call = getattr(fs, f"_{name}")
            return _waited(asyncio.run_coroutine_threadsafe(call(*arguments, **options), fs.loop), limits)
        call = getattr(fs, name)
        if in_memory(fs):
            return call(*arguments, **options)
        return in_time(lambda: call(*arguments, **options), limits)
    except Exception as error:
        if limits.refused is not None:  # whatever the client made of it
            raise limits.refused from error
        if isinstance(error, FileNotFoundError) and not (is_local(fs) or is_absence(error, arguments[0])):
            raise RefusedError(short_text(error.__cause__ or error)) from error
        if isinstance(error, _MALFORMED) and not (in_memory(fs) or is_store_error(error)):
            raise InvalidResponseError(
                f"its client cannot read the answer ({type(error).__name__}: {error})"
            ) from error
        raise
    finally:
        current.reset(token)


def _waited(future: Future[T], limits: RequestLimits) -> T:
    try:
        while not future.done():
            if limits.remaining_s() <= 0:
                raise limits.timeout_error()
            wait([future], timeout=limits.remaining_s())
    except BaseException:  # no time is left, or the user interrupts: abandon the request
        future.cancel()
        raise
    return future.result()


def _few(entries: list[T], most: int) -> list[T]:
    if len(entries) > most:
        raise InvalidResponseError(f"expected a listing of at most {most} entries, got {len(entries)}")
    return entries


def _scan(path: str, most: int, limits: RequestLimits) -> list[os.DirEntry[str]]:
    scanned: list[os.DirEntry[str]] = []
    limits.count()
    with os.scandir(path) as entries:
        for entry in entries:
            scanned.append(entry)
            limits.arrived(entry.name.encode(errors="surrogateescape"))
            if len(scanned) > most:
                raise InvalidResponseError(f"expected a listing of at most {most} entries, got more")
    return scanned


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    try:
        if entry.is_symlink():
            entry.stat()
        kind = "directory" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        kind = "other"  # a broken link
    return {"name": entry.path, "type": kind, "islink": entry.is_symlink()}


def _content(path: Path, most: int, limits: RequestLimits) -> bytes:
    """Read all bytes of a file, or of a pipe, which has no size; one more than `most` if there are more."""
    pieces: list[bytes] = []
    remaining = most + 1
    with path.open("rb", buffering=0) as file:
        while remaining and (piece := file.read(min(remaining, _PIECE_BYTES))):
            pieces.append(piece)
            remaining -= len(piece)
            limits.arrived(piece)
    return b"".join(pieces)
