"""Buffers on a device, and what became of them when the device ran out of memory."""

from __future__ import annotations

import torch

from esv_ray.core.plan import clear_plans
from esv_ray.core.workspace import Workspace


class DeviceMemory:
    """Buffers on the model's device, and the batch sizes that fit there; shared by the stages of an engine.

    Attributes:
        workspace: buffers of the attributions.
        max_batch: n -> the batch size left after the device ran out of memory.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, working_set: int) -> None:
        self.device = device
        self.workspace = Workspace(device, dtype, working_set)
        self.max_batch: dict[int, int] = {}

    def shrink(self, n: int, batch: int) -> None:
        """Make batches of n elements, or chunks of one video, half as large, and free what is kept only for speed."""
        if batch > 1:
            self.max_batch[n] = batch // 2
        else:
            self.workspace.working_set //= 2
        self.free()

    def free(self) -> None:
        """Free all memory that is kept only for speed."""
        self.workspace.clear()
        clear_plans()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
