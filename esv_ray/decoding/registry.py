"""The decoders by name."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from esv_ray.decoding.protocol import Decoder
from esv_ray.decoding.pyav import PyAvDecoder
from esv_ray.errors import SpecError

DECODERS: MappingProxyType[str, Callable[[int], Decoder]] = MappingProxyType({"pyav": PyAvDecoder})
"""Implementations by name; each takes the number of threads that decode one video."""


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
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads}")
    return DECODERS[name](threads)
