"""Single-threaded algebra, for the same bits with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the algebra inside on one thread: numpy's and torch's sums depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threadpoolctl cannot set it
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
