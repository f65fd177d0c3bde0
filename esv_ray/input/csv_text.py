"""The text of CSV files, as spreadsheets and pandas write them."""

from __future__ import annotations

import codecs

DELIMITERS = (",", ";", "\t", "|")
"""Signs that may separate cells."""


def decode_csv(data: bytes) -> str | None:
    """Decode UTF-8, or UTF-16 with a byte-order mark, with any line ends; return None for other bytes."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if "\n" in text else text.replace("\r", "\n")  # line ends of old Macs
