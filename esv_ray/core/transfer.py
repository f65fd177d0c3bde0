"""Copies between host and device that overlap with computation, and detection of out-of-memory errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from esv_ray.core.attribution import Attribution


def fetched(batches: Iterable[tuple[list[int], Attribution]]) -> Iterator[tuple[list[int], Attribution]]:
    """Yield attributions in host memory, without spread and values, each copied while the device computes the next."""
    waiting: deque[tuple[list[int], Attribution, torch.cuda.Event | None]] = deque()
    for indices, result in batches:
        waiting.append((indices, *_start_copy(result)))
        if waiting[0][2] is None or len(waiting) > 1:
            yield _wait(*waiting.popleft())
    while waiting:
        yield _wait(*waiting.popleft())


def _start_copy(result: Attribution) -> tuple[Attribution, torch.cuda.Event | None]:
    """Start a copy to pinned memory; the event marks its end. Results on a CPU need neither."""
    if result.esv.device.type != "cuda":
        return replace(result, spread=None, values=None), None

    def copy(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)

    in_host_memory = replace(
        result,
        esv=copy(result.esv),
        scores=copy(result.scores),
        gaps=copy(result.gaps),
        stderr=None if result.stderr is None else copy(result.stderr),
        difference_stderr=None if result.difference_stderr is None else copy(result.difference_stderr),
        marginals=None if result.marginals is None else copy(result.marginals),
        values=None,
        spread=None,
    )
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return in_host_memory, event


def _wait(indices: list[int], result: Attribution, event: torch.cuda.Event | None) -> tuple[list[int], Attribution]:
    if event is not None:
        event.synchronize()
    return indices, result


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device, from pinned memory, so that the copy is asynchronous."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out."""
    # torch has no exception class for out of memory on a CPU, in pinned memory or in a GPU library.
    texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)
