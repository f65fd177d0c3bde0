"""Modules that behave badly on purpose, for bundles of kind `python`."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor, nn

POISON = 666.0


class Linear(nn.Module):
    """A plain head of any length; the poison value kills the process, or raises."""

    def __init__(self, *, deadly: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        with torch.no_grad():
            self.inner.weight.copy_(torch.arange(12).view(3, 4) / 6)
            self.inner.bias.zero_()
        self.deadly = deadly

    def forward(self, subsequences: Tensor) -> Tensor:
        if bool((subsequences == POISON).any()):
            if self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("poison")
        return self.inner(subsequences).mean(dim=1)  # type: ignore[no-any-return]


def deadly() -> nn.Module:
    """Kills its process."""
    return Linear(deadly=True)


def raising() -> nn.Module:
    """Raises."""
    return Linear(deadly=False)


def unseeded() -> nn.Module:
    """Other weights at every call."""
    made = Linear(deadly=False)
    nn.init.normal_(made.inner.weight)
    return made
