"""Recognise files named like Parquet files that have other content, by their first and last bytes."""

from __future__ import annotations

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.parquet.pages import Bytes

_MAGIC = b"PAR1"
_FEWEST_BYTES = 12  # the magic number twice, and the length of the footer
_HEAD_BYTES = 64
_ADVICE = {"an HDF5 file": "see esv import features"}


def check_is_parquet(tail: bytes, at: Bytes, size: int, location: str) -> None:
    """Refuse a file that does not end as Parquet files do.

    Args:
        tail: the last bytes of the file.
        at: reads bytes of it, given a position and their number.
        size: bytes of the file.
        location: the file, for the error.

    Raises:
        DataError: the message names the kind of file and the next step.
    """
    if size < _FEWEST_BYTES:
        got = f"a file of {size} bytes" if size else "an empty file"
        raise DataError(f"{location}: expected a Parquet file, got {got}; write or download it again")
    end = tail[-len(_MAGIC) :]
    if end == _MAGIC:
        return
    if end == b"PARE":
        raise DataError(
            f"{location}: expected a Parquet file, got one with an encrypted footer; write it without encryption"
        )
    head = at(0, min(size, _HEAD_BYTES))
    kind = storage.kind_of(head)
    if head.startswith(_MAGIC):
        got = "one that is cut short"
    elif kind is not None:
        advice = _ADVICE.get(kind[0]) or kind[1] or "write it as Parquet"
        raise DataError(f"{location}: expected a Parquet file, got {kind[0]}; {advice}")
    else:
        text = head.decode("utf-8", errors="replace").splitlines()
        got = f"something else, which begins with {text[0][:40]!r}" if text else "something else"
    raise DataError(f"{location}: expected a Parquet file, got {got}; write or download it again")
