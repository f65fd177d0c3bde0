"""Recognize files named like Parquet files that have other content, by their first and last bytes."""

from __future__ import annotations

from esv_ray import storage
from esv_ray.errors import DataError

MAGIC = b"PAR1"
FEWEST_BYTES = 12
"""Of a Parquet file: the magic number twice, and the length of the footer."""
HEAD_BYTES = 64
"""Bytes at the start of a file by which its kind is recognized."""
_ADVICE = {"an HDF5 file": "see esv import features"}


def too_small(size: int, location: str) -> DataError:
    """Describe a file of so few bytes that it cannot be Parquet."""
    got = f"a file of {size} bytes" if size else "an empty file"
    return DataError(f"{location}: expected a Parquet file, got {got}; write or download it again")


def not_parquet(head: bytes, end: bytes, location: str) -> DataError:
    """Describe a file that does not end as Parquet files do: what it is, and what to do.

    Args:
        head: its first bytes (`HEAD_BYTES`).
        end: its last four bytes.
        location: the file.
    """
    if end == b"PARE":
        return DataError(
            f"{location}: expected a Parquet file, got one with an encrypted footer; write it without encryption"
        )
    kind = storage.kind_of(head)
    if head.startswith(MAGIC):
        got = "one that is cut short"
    elif kind is not None:
        advice = _ADVICE.get(kind[0]) or kind[1] or "write it as Parquet"
        return DataError(f"{location}: expected a Parquet file, got {kind[0]}; {advice}")
    else:
        text = head.decode("utf-8", errors="replace").splitlines()
        got = f"something else, which begins with {text[0][:40]!r}" if text else "something else"
    return DataError(f"{location}: expected a Parquet file, got {got}; write or download it again")
