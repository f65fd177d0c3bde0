"""The same bits whatever number of threads a process may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Algebra within runs on one thread: numpy's and torch's sums depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # out of reach for threadpoolctl
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
