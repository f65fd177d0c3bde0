"""Resources of this machine or container: processors, memory, the number of threads that can be started."""

from __future__ import annotations

import _thread
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SHARE = 0.8  # of the free memory; the rest is for other processes
_OWN_THREADS = 14
_MOST_BLAS_THREADS = 64  # of numpy's build
_STACK_BYTES = 2**16
_NOBODY = 65534  # users without a number in this container, above all the machine's root
_CGROUPS = (  # files of the limit, the use, and its parts, in cgroups of version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def spare_memory(device: torch.device) -> int:
    """Return the bytes that a computation may take on a device now: most of its free memory."""
    if device.type == "cuda":
        import torch

        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    limits = [limit - used for limit, used in _container_limits()]
    return max(0, int(_SHARE * min([_available(), *limits])))


def host_memory() -> int:
    """Return the bytes of main memory that one process may take; depends on the machine or container only."""
    return int(_SHARE * min([_physical(), *(limit for limit, _ in _container_limits())]))


def memory_per_actor(actors: int, per_gpu: int = 0) -> int:
    """Return the bytes that each of several actors on this machine may take; depends on the machine only.

    Args:
        actors: number of actors that share the main memory.
        per_gpu: number of actors that share the memory of one GPU; 0: they compute on processors.
    """
    if per_gpu:
        import torch

        return int(_SHARE * torch.cuda.mem_get_info()[1]) // per_gpu
    return host_memory() // max(1, actors)


def gpus() -> int:
    """Return the number of NVIDIA devices that this process sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lacks_threads() -> str | None:
    """Return an error line if the command cannot start its threads, else None; numpy, torch and Arrow would crash.

    Measured: a job without Ray starts 9 threads beside those of OpenBLAS, which starts when numpy is imported.
    """
    needed = _OWN_THREADS + _blas_threads()
    started = startable(needed)
    return None if started == needed else too_few_threads(needed, started)


def too_few_threads(needed: int, started: int) -> str:
    """Return the error line about too few threads."""
    return (
        f"expected to start {needed} more processes and threads, got {started}; raise the user's limit (ulimit -u) or "
        "the container's (its pids limit)"
    )


def startable(most: int) -> int:
    """Return how many threads can be started now, up to a number; by trial, since a container's limit can be hidden."""
    done = threading.Event()
    ended = threading.Semaphore(0)

    def wait() -> None:
        done.wait()
        ended.release()

    before = threading.stack_size(_STACK_BYTES)
    started = 0
    try:
        while started < most:
            _thread.start_new_thread(wait, ())
            started += 1
    except RuntimeError:  # can't start new thread
        pass
    finally:
        threading.stack_size(before)
        done.set()
        for _ in range(started):
            ended.acquire()
    return started


def _blas_threads() -> int:
    """Return the number of threads of OpenBLAS, its caller included: one per processor, or what its variables say."""
    settings = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    requested = next(
        (int(text) for text in settings if text.isascii() and text.isdecimal() and int(text)), _MOST_BLAS_THREADS
    )
    return min(cores(), requested, _MOST_BLAS_THREADS)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available() -> int:
    try:
        with Path("/proc/meminfo").open() as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _physical() // 2


def _container_limits() -> list[tuple[int, int]]:
    """Return limit and use of the container's memory, if a limit is set; cached files do not count as used."""
    for limit, used, made_of in _CGROUPS:
        try:
            most = int(Path(limit).read_text())
            if most >= _physical():  # how version 1 says that there is none; reading the parts takes 0.1 ms
                return []
            lines = dict(line.split() for line in Path(made_of).read_text().splitlines())
            cached = sum(int(lines.get(name, 0)) for name in ("inactive_file", "active_file"))
            return [(most, max(0, int(Path(used).read_text()) - cached))]
        except (OSError, ValueError):  # no file; "max": no limit
            continue
    return []


def others_can_rename(folder: Path) -> bool:
    """Return whether another user can replace files in a folder; its path has no links."""
    for each in (folder, *folder.parents):
        status = each.lstat()
        writable, sticky = status.st_mode & 0o022, status.st_mode & 0o1000
        if status.st_uid not in (0, os.getuid(), _NOBODY) or (writable and not sticky):
            return True
    return False
