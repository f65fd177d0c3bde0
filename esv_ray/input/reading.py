"""Rows of units: opened, checked, read a few at a time, decoded. Each step calls only modules below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt

from esv_ray.input.features import FeatureRows, decode_rows
from esv_ray.input.files import unchanged
from esv_ray.input.frames import frame_sizes
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import open_file
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit

_ROWS_OF_DIM = 16  # rows that are read at a time to find D
_FLOAT32_BYTES = 4


def read_rows(unit: Unit, reader: UnitReader) -> FeatureRows:
    """Read, decode and check the rows of a unit.

    A row group whose decoding could take more memory than the reader's budget gives failed rows with ids and labels,
    and no error: the other row groups can be read.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    piece, repeated = read_piece(unit, reader)
    return decode_rows(
        piece.table, reader.contract, repeated=repeated.tolist(), refusal=piece.refusal, named=unit.file.named
    )


def read_piece(unit: Unit, reader: UnitReader) -> tuple[Piece, npt.NDArray[np.int64]]:
    """Read the rows of a unit from a file that is as it was planned, before and after (`UnitReader.read`).

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    with unchanged(unit.file):
        return reader.read(unit)


def feature_dim_of(footers: Sequence[Footer], budget: int) -> int | None:
    """Find the feature size D of a table.

    The type of a file may fix it; otherwise it is the most frequent frame size of the first rows.

    Args:
        footers: of the files.
        budget: bytes that decoding a row group may take; the rows of one that could take more are not read.

    Returns:
        D, or None if no row has frames of one size.

    Raises:
        DataError: a file is unreadable.
    """
    for footer in footers:
        dim = footer.feature_dim if footer.feature_dim is not None else _dim_of_rows(footer, budget)
        if dim is not None:
            return dim
    return None


def _dim_of_rows(footer: Footer, budget: int) -> int | None:
    with closing(open_file(footer.file)) as opened:
        for row_group, group in enumerate(footer.groups):
            reader = RowGroupReader(opened, row_group, budget, _FLOAT32_BYTES)
            for start in range(0, 0 if reader.refusal else group.rows, _ROWS_OF_DIM):
                rows = reader.take(start, min(start + _ROWS_OF_DIM, group.rows)).table
                sizes = frame_sizes(rows.column("features"))
                if sizes:
                    return Counter(sizes).most_common(1)[0][0]
    return None
