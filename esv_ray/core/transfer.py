"""Between host and device without a pause of the device, and what its memory errors look like."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from esv_ray.core.attribution import Attribution


def fetched(batches: Iterable[tuple[list[int], Attribution]]) -> Iterator[tuple[list[int], Attribution]]:
    """The same attributions in host memory, less their spread, each copied while the device computes the next."""
    waiting: deque[tuple[list[int], Attribution, torch.cuda.Event | None]] = deque()
    for indices, found in batches:
        waiting.append((indices, *_fetch(found)))
        if waiting[0][2] is None or len(waiting) > 1:
            yield _arrived(*waiting.popleft())
    while waiting:
        yield _arrived(*waiting.popleft())


def _fetch(found: Attribution) -> tuple[Attribution, torch.cuda.Event | None]:
    if found.esv.device.type != "cuda":
        return replace(found, spread=None), None

    def copy(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)

    stderr = None if found.stderr is None else copy(found.stderr)
    esv, scores, gaps = copy(found.esv), copy(found.scores), copy(found.gaps)
    here = replace(found, esv=esv, scores=scores, gaps=gaps, stderr=stderr, spread=None)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return here, event


def _arrived(indices: list[int], found: Attribution, event: torch.cuda.Event | None) -> tuple[list[int], Attribution]:
    if event is not None:
        event.synchronize()
    return indices, found


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, from pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short."""
    # torch has no class of its own for a CPU, pinned memory or a library of a GPU that is out of memory.
    told = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in told)
