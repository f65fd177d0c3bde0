"""The decoders by name."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from esv_ray.decoding.protocol import Decoder
from esv_ray.decoding.pyav import check_installed
from esv_ray.errors import SpecError

DECODERS: MappingProxyType[str, str] = MappingProxyType({"pyav": "esv_ray.decoding.pyav:PyAvVideo"})
"""Implementations by name: ``module:name`` of an `in_process.OpenVideo`, which is imported where videos are decoded."""


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
    if name == "pyav":
        check_installed()
    # Not at the top: a decoding process imports this package, but no client of a store.
    from esv_ray.decoding.in_process import InProcessDecoder
    from esv_ray.decoding.isolated import IsolatedDecoder

    if isolated:
        return IsolatedDecoder(DECODERS[name], threads, patience)
    module, _, attribute = DECODERS[name].partition(":")
    return InProcessDecoder(getattr(import_module(module), attribute), threads)
