"""Torch's settings of this process, and single-threaded algebra for the same bits with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def torch_settings(threads: int | None = None, matmul: str | None = None) -> Iterator[None]:
    """Set torch's number of threads and precision of matrix products, and restore both at the end.

    Args:
        threads: CPU threads; None: unchanged.
        matmul: as for `torch.set_float32_matmul_precision`; None: unchanged.
    """
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(before[0] if threads is None else threads)
    torch.set_float32_matmul_precision(before[1] if matmul is None else matmul)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the algebra inside on one thread: numpy's and torch's sums depend on the number of threads."""
    with torch_settings(threads=1), threadpool_limits(1):  # which cannot set torch's
        yield
