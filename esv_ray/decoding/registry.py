"""The decoders by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from esv_ray.decoding import pyav
from esv_ray.decoding.protocol import Decoder
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.decoding.in_process import OpenVideo

DECODERS: MappingProxyType[str, OpenVideo] = MappingProxyType({"pyav": pyav.PyAvVideo})
"""Implementations by name. They import their packages when the first video is opened."""


def open_decoder(name: str = "pyav", *, threads: int = 1, isolated: bool = True, patience: float = 60.0) -> Decoder:
    """Open a decoder; one thread at a time may use it.

    Args:
        name: a key of `DECODERS`.
        threads: threads that decode one video.
        isolated: whether videos are decoded in a process of their own, so that a file which crashes its decoder or
            makes it hang costs nothing but its own frames.
        patience: seconds without progress after which an isolated decoder is ended.

    Raises:
        SpecError: there is no such decoder, or its package is not installed.
    """
    if name not in DECODERS:
        raise SpecError(f"decoder: expected one of {', '.join(DECODERS)}, got {name!r}")
    if threads < 1 or not patience > 0:
        raise ValueError(f"expected at least 1 thread and a patience above 0 s, got {threads} and {patience}")
    pyav.check_installed()
    from esv_ray.decoding.in_process import InProcessDecoder

    return InProcessDecoder(DECODERS[name], threads)
