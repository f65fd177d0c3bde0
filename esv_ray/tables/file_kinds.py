"""What a file is that has the name of a Parquet file and is none, by its first and last bytes."""

from __future__ import annotations

from esv_ray.errors import DataError
from esv_ray.tables.pages import Bytes

_MAGIC = b"PAR1"
_FEWEST_BYTES = 12  # the magic number twice, and the length of the footer
_HEAD_BYTES = 64
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer in place of the file", "fetch the file: git lfs pull"),
    (b"ARROW1", "an Arrow IPC (Feather) file", "write it with pyarrow.parquet.write_table"),
    (b"FEA1", "a Feather file", "write it with pyarrow.parquet.write_table"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "see esv import features"),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"<", "an HTML or XML page", "download the file itself"),
)


def check_is_parquet(at: Bytes, size: int, where: str) -> None:
    """Refuse a file that does not begin and end as Parquet files do.

    Args:
        at: gives its bytes.
        size: of the file.
        where: the file, for the error.

    Raises:
        DataError: says what it is, and how to go on.
    """
    if size < _FEWEST_BYTES:
        got = f"a file of {size} bytes" if size else "an empty file"
        raise DataError(f"{where}: expected a Parquet file, got {got}; write or download it again")
    head, tail = at(0, min(size, _HEAD_BYTES)), at(size - len(_MAGIC), len(_MAGIC))
    if tail == b"PARE":
        raise DataError(
            f"{where}: expected a Parquet file, got one with an encrypted footer; write it without encryption"
        )
    if tail == _MAGIC:
        return
    for magic, what, advice in _KINDS:
        if head.startswith(magic):
            raise DataError(f"{where}: expected a Parquet file, got {what}; {advice}")
    if head.startswith(_MAGIC):
        got = "one that is cut short"
    else:
        text = head.decode("utf-8", errors="replace").splitlines()
        got = f"something else, which begins with {text[0][:40]!r}" if text else "something else"
    raise DataError(f"{where}: expected a Parquet file, got {got}; write or download it again")
