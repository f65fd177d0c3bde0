"""Reusable buffers, and the size of the chunks that work is cut into."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

# Bytes of the hidden layer and scores of a chunk, a CPU thread. Paper's dimensions, one thread, ms per video with 1, 2,
# 4 MiB: n = 16: 133, 106, 107; two threads with 2, 4, 8 MiB: n = 16: 89, 70, 71; n = 8: 0.64, 0.58, 0.52.
_CPU_WORKING_SET = 2 * 2**20
_MAX_CPU_WORKING_SET = 16 * 2**20
# On a GPU launches cost more than traffic: enough rows that a chunk takes as long as its launches (not measured).
_CUDA_WORKING_SET = 128 * 2**20
_CUDA_IMAGES = 2 * 2**30  # of networks of images: 11 sequences of 8 images of 224 x 224; not measured


def default_working_set(device: torch.device, threads: int | None = None, *, images: bool = False) -> int:
    """Return the bytes of a chunk's intermediate results on a device.

    Args:
        device: the device.
        threads: CPU threads; None: torch's setting.
        images: whether the elements are images, which the model's network takes.
    """
    if device.type == "cuda":
        return _CUDA_IMAGES if images else _CUDA_WORKING_SET
    return min(_MAX_CPU_WORKING_SET, _CPU_WORKING_SET * (threads or torch.get_num_threads()))


@lru_cache(maxsize=64)
def counting(count: int, device: torch.device, step: int = 1) -> Tensor:
    """Return 0, step, .. (count - 1) step as int32, cached."""
    return torch.arange(0, count * step, step, dtype=torch.int32, device=device)


def gather_sum(table: Tensor, rows: Tensor) -> Tensor:
    """Return sums of rows (R, P) int32 of a table (K, W): (R, W)."""
    count, together = rows.shape
    # Of torch.nn.functional, embedding_bag makes the offsets again at each call.
    return torch.embedding_bag(table, rows.reshape(-1), counting(count, rows.device, together))[0]


class Workspace:
    """Buffers that are reused for every chunk and batch; each grows to the largest size requested.

    Fresh memory costs a page fault for every 4 kB: 12 of 126 ms of exact n = 16.

    Attributes:
        working_set: bytes of a chunk's intermediate results.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, working_set: int | None = None) -> None:
        """Create an empty workspace; without a working set it is chosen by the device."""
        self.working_set = working_set or default_working_set(device)
        self._buffers: dict[str, Tensor] = {}
        self._device, self._dtype = device, dtype

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialized tensor in the buffer of a name; it is valid until the name is taken again."""
        size = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            self._buffers.pop(name, None)  # freed before the larger one is allocated
            buffer = self._buffers[name] = torch.empty(size, dtype=self._dtype, device=self._device)
        return buffer[:size].view(shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self._dtype.itemsize

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Return a new uninitialized tensor in the dtype of the work; elements that are images have another one."""
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Return new zeros, as `empty`."""
        return self.empty(shape).zero_()

    def like(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device and in the dtype of the work."""
        return tensor.to(self._device, self._dtype)

    def clear(self) -> None:
        """Free all buffers."""
        self._buffers.clear()
