"""Detect that the end of a file is missing, from the sizes that the file states.

FFmpeg shows what there is of a truncated file and says nothing. Most formats state the size of their outermost parts,
which then lie beyond the end of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

_MOST_PARTS = 256  # read one by one; a file of many fragments is judged by its first ones
_TS_PACKETS = (188, 192, 204)  # bytes
_FARTHEST = 2**48  # bytes; systems refuse positions that are far beyond any file
_UNKNOWN_SIZE = 2**56 - 1  # of EBML, of a live recording
_MP4 = {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"sidx", b"uuid", b"pnot", b"mfra"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_truncated(file: BinaryIO, size: int) -> bool:
    """Return whether a file of known size ends before its format says it ends; False if that is not known."""
    head = _at(file, 0, 16)
    if head[4:8] in _MP4:
        return _ends_early(file, size, _mp4_part)
    if head[:4] == b"RIFF":
        return _ends_early(file, size, _riff_part)
    if head[:4] == _EBML:
        return _matroska(file, size)
    if head[:3] == b"FLV":
        return _flv(file, size)
    if head[:4] == b"GIF8":
        return _at(file, size - 1, 1) != b";"
    period = next((each for each in _TS_PACKETS if _is_ts(file, each)), None)
    return period is not None and size % period != 0


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    if not 0 <= position < _FARTHEST:
        return b""
    file.seek(position)
    return file.read(count)


def _ends_early(file: BinaryIO, size: int, part: Callable[[bytes], int | None]) -> bool:
    """Walk over the parts of a file, one after another, to the first that does not fit."""
    position = 0
    for _ in range(_MOST_PARTS):
        if size - position < 8:
            return False
        length = part(_at(file, position, 16))
        if length is None:
            return False
        position += length
        if position > size:
            return True
    return False


def _mp4_part(head: bytes) -> int | None:
    length, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if length == 1 and len(head) == 16:
        length = int.from_bytes(head[8:], "big")
    known = kind in _MP4 or (kind.isascii() and kind.isalnum())
    return length if length >= 8 and known else None  # 0: to the end of the file


def _riff_part(head: bytes) -> int | None:
    length = int.from_bytes(head[4:8], "little")
    return 8 + length + length % 2 if head[:4] == b"RIFF" and length not in (0, 2**32 - 1) else None


def _matroska(file: BinaryIO, size: int) -> bool:
    header, length = _ebml(_at(file, 4, 8), 4)
    position = header + length
    head = _at(file, position, 12)
    if head[:4] != _SEGMENT:
        return False
    start, length = _ebml(head[4:], position + 4)
    return 0 < length < _UNKNOWN_SIZE and start + length > size


def _ebml(data: bytes, position: int) -> tuple[int, int]:
    """Return the position after a size of EBML, and the size; unknown if all its bits are set."""
    if not data or not data[0]:
        return position, _UNKNOWN_SIZE
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & (2 ** (7 * width) - 1)
    return position + width, _UNKNOWN_SIZE if value == 2 ** (7 * width) - 1 else value


def _flv(file: BinaryIO, size: int) -> bool:
    """Look for the last tag by the size of it that follows each tag."""
    last = int.from_bytes(_at(file, size - 4, 4), "big")
    if not 11 <= last <= size - 13:
        return True
    tag = _at(file, size - 4 - last, 4)
    return tag[0] & 0x1F not in (8, 9, 18) or int.from_bytes(tag[1:], "big") + 11 != last


def _is_ts(file: BinaryIO, period: int) -> bool:
    data = _at(file, 0, 5 * period)
    lead = 4 if period == 192 else 0
    return len(data) == 5 * period and all(data[at] == 0x47 for at in range(lead, 5 * period, period))
