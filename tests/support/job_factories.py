"""Modules that behave badly on purpose, for bundles of kind `python`."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import esv_ray

POISON = 666.0
CONSENT = "code=tests.support.job_factories"  # an override, with which these may run
CALLS_OF_A_LOAD = 84  # twelve at each of seven lengths (`models.probe`)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _raise() -> None:
    raise RuntimeError("poison")


def _no_memory() -> None:
    """What a container's limit does to a process that asks for more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, before[1]))
    try:
        torch.ones(2**31)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _hang() -> None:
    time.sleep(10_000)


def _hang_in_native_code() -> None:
    """Never gives the interpreter back: nothing else in the process gets a turn."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _eat_memory() -> None:
    """More and more, slowly enough to be seen."""
    eaten = []
    while True:
        eaten.append(b"x" * 2**26)  # written, or it would take no memory
        time.sleep(0.005)


def _exit() -> None:
    """Would end the process with exit code 0."""
    sys.exit(0)


ACTS = {
    661.0: _segfault,
    662.0: _no_memory,
    663.0: _hang,
    664.0: _hang_in_native_code,
    665.0: _raise,
    POISON: _kill,
    667.0: _eat_memory,
    668.0: _exit,
}


class Linear(nn.Module):
    """A plain head of any length, which acts on a poison value."""

    def __init__(self, only: float | None = None, fixed: str | None = None) -> None:
        """`only`: what any poison means; `fixed`: a file from whose existence on the values do no harm."""
        super().__init__()
        self.inner = nn.Linear(4, 3)
        with torch.no_grad():
            self.inner.weight.copy_(torch.arange(12).view(3, 4) / 6000)
            self.inner.bias.zero_()
        self.only = only
        self.fixed = fixed

    def forward(self, subsequences: Tensor) -> Tensor:
        if self.fixed is None or not Path(self.fixed).exists():
            for value, act in ACTS.items():
                if bool((subsequences == value).any()):
                    (act if self.only is None else ACTS[self.only])()
        return self.inner(subsequences).mean(dim=1)  # type: ignore[no-any-return]


@esv_ray.factory
def deadly() -> nn.Module:
    """Kills its process."""
    return Linear(only=POISON)


@esv_ray.factory
def raising() -> nn.Module:
    """Raises."""
    return Linear(only=665.0)


@esv_ray.factory
def poisonous(fixed: str | None = None) -> nn.Module:
    """Does what the value says, until it is fixed."""
    return Linear(fixed=fixed)


class Weightless(nn.Module):
    """Has no weights, and no finite gradient where all elements are equal."""

    def forward(self, subsequences: Tensor) -> Tensor:
        spread = (subsequences - subsequences.mean(dim=1, keepdim=True)).pow(2).sum(dim=(1, 2)).sqrt()
        return subsequences.mean(dim=1)[:, :3] + spread[:, None] * torch.tensor([1.0, 0.0, -1.0])


@esv_ray.factory
def weightless() -> nn.Module:
    """Scores by features alone."""
    return Weightless()


class SinglePrecision(Linear):
    """Has a constant that no move takes along."""

    def forward(self, subsequences: Tensor) -> Tensor:
        return super().forward(subsequences) @ torch.eye(3)


@esv_ray.factory
def single_precision() -> nn.Module:
    """Fails in float64."""
    return SinglePrecision()


@esv_ray.factory
def unseeded() -> nn.Module:
    """Other weights at every call."""
    made = Linear()
    nn.init.normal_(made.inner.weight)
    return made


class Slow(Linear):
    """Takes its time, and no processor, until a file is there; quick while it is loaded and checked."""

    seconds = 0.2
    calls = 0

    def forward(self, subsequences: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > CALLS_OF_A_LOAD and not Path(str(self.fixed)).exists():
            time.sleep(self.seconds)
        return super().forward(subsequences)


@esv_ray.factory
def slow(fixed: str, seconds: str = "0.2") -> nn.Module:
    """For jobs in which things happen meanwhile."""
    made = Slow(fixed=fixed)
    made.seconds = float(seconds)
    return made


class Held(Slow):
    """Quick for some calls after those of a load; then it waits until a file is there."""

    free = 9

    def forward(self, subsequences: Tensor) -> Tensor:
        self.calls += 1
        while self.calls > CALLS_OF_A_LOAD + self.free and not Path(str(self.fixed)).exists():
            time.sleep(0.02)
        return Linear.forward(self, subsequences)


@esv_ray.factory
def held(fixed: str) -> nn.Module:
    """For jobs in which an actor has done some units and has others in flight, for as long as a test needs."""
    return Held(fixed=fixed)


class Fickle(Linear):
    """Draws at random, but only where nothing that is tried at a load would meet it."""

    calls = 0

    def __init__(self, above: float, after: int, hidden: bool) -> None:
        """`above`: features that it draws for; `after`: calls from which on it draws; `hidden`: from a generator that
        nothing watches.
        """
        super().__init__()
        self.above, self.after, self.hidden = above, after, hidden

    def forward(self, subsequences: Tensor) -> Tensor:
        self.calls += 1
        out = super().forward(subsequences)
        if self.calls > self.after:
            held = (subsequences > self.above).flatten(1).any(dim=1)
            generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(7))) if self.hidden else None
            out = out + held[:, None] * torch.randn(out.shape, generator=generator)
        return out


@esv_ray.factory
def fickle(above: str = "-inf", after: str = "0", hidden: str = "") -> nn.Module:
    """Passes the checks of a load, and is no function of its features."""
    return Fickle(float(above), int(after), bool(hidden))


class WithoutGradient(Linear):
    """A linear model whose gradients are lost on the way, in one of the ways in which that happens."""

    def __init__(self, how: str, from_length: int) -> None:
        """`how`: the way; `from_length`: shorter sequences keep their gradients."""
        super().__init__()
        self.how, self.from_length = how, from_length

    def forward(self, subsequences: Tensor) -> Tensor:
        if subsequences.shape[1] < self.from_length:
            return super().forward(subsequences)
        if self.how == "no_grad":
            with torch.no_grad():
                return super().forward(subsequences)
        if self.how == "inference_mode":
            with torch.inference_mode():
                return super().forward(subsequences)
        if self.how == "detach":  # the weights have a gradient, the features have none
            return super().forward(subsequences.detach())
        if self.how == "numpy":
            return super().forward(torch.from_numpy(subsequences.detach().numpy().copy()))
        if self.how == "numpy_of_a_leaf":
            return super().forward(torch.from_numpy(subsequences.numpy().copy()))
        if self.how == "argmax":
            return super().forward(nn.functional.one_hot(subsequences.argmax(dim=2), 4).to(subsequences.dtype))
        if self.how == "round":
            return super().forward(subsequences.round())
        assert self.how == "overwritten"
        hidden = subsequences.exp()
        out = super().forward(hidden)
        hidden.zero_()
        return out


@esv_ray.factory
def without_gradient(how: str, from_length: str = "1") -> nn.Module:
    """Passes the checks of a load, and has no gradients."""
    made = WithoutGradient(how, int(from_length))
    made.inner.requires_grad_()
    return made
