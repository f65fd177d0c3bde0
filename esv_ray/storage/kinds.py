"""Kinds of files, recognized by their first bytes, for errors about a file of the wrong kind."""

from __future__ import annotations

import re

# First bytes, the kind of file, and what to do where that does not depend on the expected kind.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer in place of the file", "fetch the file: git lfs pull"),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    (b"BZh", "a bzip2 file", "unpack it"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ""),
    (b"\x93NUMPY", "a NumPy array (.npy)", ""),
    (b"PAR1", "a Parquet file", ""),
    (b"ARROW1", "an Arrow IPC (Feather) file", ""),
    (b"FEA1", "a Feather file", ""),
    (b"ORC", "an ORC file", ""),
    (b"Obj\x01", "an Avro file", ""),
    (b"GGUF", "a GGUF file", ""),
    (b"%PDF", "a PDF file", "download it again"),
)
_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype|html|head|\?xml)", re.IGNORECASE | re.DOTALL)
_HEAD_BYTES = 4096


def kind_of(data: bytes) -> tuple[str, str] | None:
    """Return the kind of a file and what to do ("" if that depends on the expected kind), or None if it is unknown.

    Args:
        data: its first bytes, at least 40.
    """
    for magic, kind, advice in _MAGIC:
        if data.startswith(magic):
            return kind, advice
    if _HTML.match(data[:_HEAD_BYTES]):
        return "an HTML page, probably a login or confirmation page instead of the download", "download the file itself"
    return None
