"""Torch's settings of this process, and single-threaded algebra for the same bits with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def torch_threads(threads: int | None = None) -> Iterator[None]:
    """Set torch's number of CPU threads (None: unchanged), and restore it at the end."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_settings(threads: int | None = None, matmul: str | None = None) -> Iterator[None]:
    """Set torch's number of threads and precision of matrix products, and restore both at the end.

    Args:
        threads: CPU threads; None: unchanged.
        matmul: as for `torch.set_float32_matmul_precision`; None: unchanged.
    """
    before = torch.get_float32_matmul_precision()
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    try:
        with torch_threads(threads):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the algebra inside on one thread: numpy's and torch's sums depend on the number of threads.

    The precision of matrix products is not touched: setting it to what it is changes settings of single backends, and
    reading it raises if a module used torch's newer switches.
    """
    with torch_threads(1), threadpool_limits(1):  # which cannot set torch's
        yield
