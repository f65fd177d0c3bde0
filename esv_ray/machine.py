"""What this machine, or the container it is in, has: processors, memory, room for threads."""

from __future__ import annotations

import _thread
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SHARE = 0.8  # of what is free: the rest is for what else goes on
_OWN_THREADS = 14
_MOST_BLAS_THREADS = 64  # as numpy builds it
_STACK_BYTES = 2**16
_NOBODY = 65534  # whoever has no number in this container: the machine's root, above all
_CGROUPS = (  # limit, use, and what the use is made of, version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def spare_memory(device: torch.device) -> int:
    """Bytes that a computation may take on a device now: most of what is free."""
    if device.type == "cuda":
        import torch

        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    limits = [limit - used for limit, used in _container_limits()]
    return max(0, int(_SHARE * min([_available(), *limits])))


def host_memory() -> int:
    """Bytes of main memory that one process may take, whatever goes on now: a function of the machine or container."""
    return int(_SHARE * min([_physical(), *(limit for limit, _ in _container_limits())]))


def memory_per_actor(actors: int, per_gpu: int = 0) -> int:
    """Bytes that each of several actors on this machine may take, whatever goes on now: a function of the machine.

    Args:
        actors: that share the main memory.
        per_gpu: of them on one GPU, whose memory it then is; 0: they compute on processors.
    """
    if per_gpu:
        import torch

        return int(_SHARE * torch.cuda.mem_get_info()[1]) // per_gpu
    return host_memory() // max(1, actors)


def gpus() -> int:
    """NVIDIA devices that this process sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lacks_threads() -> str | None:
    """Say that the command cannot start its threads, before numpy, torch and Arrow crash for want of them; else None.

    Measured: a job without Ray takes 9 beside those of OpenBLAS, which numpy starts when it is imported.
    """
    wanted = _OWN_THREADS + _blas_threads()
    found = startable(wanted)
    return None if found == wanted else no_room(wanted, found)


def no_room(wanted: int, found: int) -> str:
    """The line on too few threads, and how to go on."""
    return (
        f"expected room for {wanted} more processes and threads, got {found}; raise the user's limit (ulimit -u) or "
        "the container's (its pids limit)"
    )


def startable(most: int) -> int:
    """How many threads can be started now, up to a number: by trial, since limits of containers can be hidden."""
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
    """Threads that OpenBLAS has, its caller's included: one a processor, unless its variables say fewer."""
    told = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    asked = next((int(text) for text in told if text.isascii() and text.isdecimal() and int(text)), _MOST_BLAS_THREADS)
    return min(cores(), asked, _MOST_BLAS_THREADS)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _physical() // 2


def _container_limits() -> list[tuple[int, int]]:
    """Limit and use of the container, where one is set; files that are cached do not count as used."""
    for limit, used, made_of in _CGROUPS:
        try:
            lines = dict(line.split() for line in Path(made_of).read_text().splitlines())
            cached = sum(int(lines.get(name, 0)) for name in ("inactive_file", "active_file"))
            return [(int(Path(limit).read_text()), max(0, int(Path(used).read_text()) - cached))]
        except (OSError, ValueError):  # no such file; "max": no limit
            continue
    return []


def others_can_rename(folder: Path) -> bool:
    """Whether another user can put something else in the place of what is in a folder, given without links."""
    for each in (folder, *folder.parents):
        status = each.lstat()
        writable, sticky = status.st_mode & 0o022, status.st_mode & 0o1000
        if status.st_uid not in (0, os.getuid(), _NOBODY) or (writable and not sticky):
            return True
    return False
