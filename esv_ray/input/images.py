"""Elements that are images: uint8 numbers, whose shape is in the metadata of the column `features`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.errors import DataError

if TYPE_CHECKING:
    from esv_ray.input.parquet.footers import Footer

SHAPE = b"shape"
"""Key of the metadata of the column `features`: ``H,W,3`` of images, ``k,H,W,3`` of clips of k frames."""

_MOST_NUMBERS = 2**24  # of an element
_DIMS, _CHANNELS = (3, 4), 3


def shape_metadata(shape: Sequence[int]) -> dict[bytes, bytes]:
    """Return the metadata of a column of elements of a shape."""
    return {SHAPE: ",".join(map(str, shape)).encode()}


def shape_of(column: pa.Field, number: pa.DataType, dim: int | None, location: str) -> tuple[int, ...] | None:
    """Return the shape of the elements of a column of images, None of vectors.

    Args:
        column: `features`, as the file has it.
        number: type of its numbers.
        dim: numbers of an element, where the type says it, or None.
        location: the file, for the error.

    Raises:
        DataError: the elements are uint8 without a shape, or with another number of numbers.
    """
    if not pa.types.is_uint8(number):
        return None
    text = (column.metadata or {}).get(SHAPE, b"").decode(errors="replace")
    sides = [int(side) if side.isascii() and side.isdigit() and len(side) < 9 else 0 for side in text.split(",")]
    if len(sides) not in _DIMS or sides[-1] != _CHANNELS or not 0 < prod(sides) <= _MOST_NUMBERS:
        got = f"{text!r:.60}" if text else "none"
        raise DataError(
            f"{location}: column 'features' of uint8: expected images, and in the column's metadata their shape: "
            f"H,W,3, or k,H,W,3 of clips, got {got}; store vectors as float32, or write images with esv extract "
            "--backbone pixels"
        )
    if dim is not None and dim != prod(sides):
        raise DataError(
            f"{location}: column 'features': expected elements of {prod(sides)} numbers, as its shape {text} says, got "
            f"{dim}; write the file again"
        )
    return tuple(sides)


def shown_elements(shape: Sequence[int] | None, dim: int | None) -> str:
    """Return elements in words: images of a shape, or vectors of D numbers."""
    if shape is None:
        return "feature vectors" + (f" of {dim} numbers" if dim else "")
    images = f"images of {shape[-3]} x {shape[-2]} pixels"
    return images if len(shape) == min(_DIMS) else f"clips of {shape[0]} {images}"


def check_vectors(footers: Sequence[Footer], url: str, what: str) -> None:
    """Refuse a table of images where feature vectors are needed.

    Args:
        footers: of its files.
        url: the table.
        what: who needs them, for the error.

    Raises:
        DataError: the elements are images.
    """
    images = next((footer.shape for footer in footers if footer.shape is not None), None)
    if images is not None:
        raise DataError(
            f"{url}: {what} takes feature vectors, got {shown_elements(images, None)}; extract them with another "
            "--backbone"
        )


def check_elements(footers: Sequence[Footer], shape: Sequence[int] | None, url: str, model: str) -> None:
    """Refuse a table whose elements are not those that a model takes: vectors in the place of images, or other images.

    The number of numbers of vectors is not compared.

    Args:
        footers: of its files.
        shape: of the images that the model takes; None: vectors.
        url: the table.
        model: location of the bundle.

    Raises:
        DataError: says what the model takes and how to make it.
    """
    for footer in footers:
        if footer.shape == (None if shape is None else tuple(shape)):
            continue
        expected, got = shown_elements(shape, None), shown_elements(footer.shape, footer.feature_dim)
        advice = "extract features with the backbone of the model"
        if shape is not None:
            size = f"{shape[-3]}x{shape[-2]}" if shape[-3] != shape[-2] else str(shape[-2])
            clips = f" --clip {shape[0]} --stride {shape[0]}" if len(shape) > 3 else ""
            advice = f"make the table with esv extract --backbone pixels --size {size}{clips}"
        raise DataError(f"{url}: the model {model} takes {expected}, got {got}; {advice}, or check `model`")
