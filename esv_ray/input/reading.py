"""Rows of units: opened, checked, read a few at a time, decoded. Each step calls only modules below it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from contextlib import closing
from threading import Lock

import numpy as np
import numpy.typing as npt

from esv_ray.input.features import FeatureRows, decode_rows
from esv_ray.input.files import InputFile, check_unchanged
from esv_ray.input.frames import frame_sizes
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.id_columns import FileIds, read_file_ids
from esv_ray.input.parquet.opening import OpenedFile, open_file
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader, without_features
from esv_ray.input.units import Unit

_NO_LIMIT = 2**62
_FILES_KEPT = 8  # with checked ids
_ROWS_OF_DIM = 16  # rows that are read at a time to find D
_FLOAT32_BYTES = 4


class UnitReader:
    """Reads units and keeps the last file and row group open, since units of a row group follow one another.

    Threads that share a reader take turns: two units at a time would each decode their row group from its first row.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._file: tuple[object, OpenedFile] | None = None
        self._group: tuple[object, RowGroupReader] | None = None
        self._ids: OrderedDict[object, FileIds] = OrderedDict()

    def read(self, unit: Unit, budget: int, itemsize: int) -> tuple[Piece, npt.NDArray[np.int64]]:
        """Read the rows of a unit.

        Args:
            unit: the rows.
            budget: bytes that decoding a row group may take, and that the ids of a file may take.
            itemsize: bytes of a number of the decoded features.

        Returns:
            The rows, and those of them (0 = first) that repeat an id of an earlier row of the file.

        Raises:
            DataError: the file changed since the plan was made, or cannot be read.
        """
        check_unchanged(unit.file)
        with self._lock:
            try:
                ids = self._ids_of(unit.file, budget)
                refusal = ids.refusals.get(unit.row_group)
                if refusal is None:
                    piece = self._reader_of(unit, budget, itemsize).take(unit.start, unit.stop)
                else:
                    piece = without_features(unit.rows, refusal)
            except BaseException:
                self._close()
                raise
        check_unchanged(unit.file)  # it may have been overwritten while it was read
        inside = (ids.repeated >= unit.first_row) & (ids.repeated < unit.first_row + unit.rows)
        return piece, ids.repeated[inside] - unit.first_row

    def close(self) -> None:
        """Close the file that is open."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._group = None
        if self._file is not None:
            self._file[1].close()
            self._file = None

    def _open(self, file: InputFile) -> OpenedFile:
        key = (file, file.footer)  # comparisons of files ignore the checksum of the footer
        if self._file is None or self._file[0] != key:
            self._close()
            self._file = key, open_file(file)
        return self._file[1]

    def _ids_of(self, file: InputFile, budget: int) -> FileIds:
        key = (file, file.footer, budget)
        if key not in self._ids:
            self._group = None  # its column chunks are replaced by those of the ids
            self._ids[key] = read_file_ids(self._open(file), budget)
            if len(self._ids) > _FILES_KEPT:
                self._ids.popitem(last=False)
        self._ids.move_to_end(key)
        return self._ids[key]

    def _reader_of(self, unit: Unit, budget: int, itemsize: int) -> RowGroupReader:
        key = (unit.file, unit.file.footer, unit.row_group, budget, itemsize)
        if self._group is None or self._group[0] != key or self._group[1].position > unit.start:
            self._group = None
            self._group = key, RowGroupReader(self._open(unit.file), unit.row_group, budget, itemsize)
        return self._group[1]


def read_rows(
    unit: Unit,
    reader: UnitReader,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    budget: int | None = None,
    unlabelled: Collection[int] = (),
) -> FeatureRows:
    """Read, decode and check the rows of a unit.

    A row group whose decoding could take more memory than `budget` gives failed rows with ids and labels, and no
    error: the other row groups can be read.

    Args:
        unit: the rows.
        reader: keeps files open from unit to unit.
        feature_dim, n_classes, dtype, unlabelled: as for `decode_rows`.
        budget: bytes; None: no limit. Which rows fail depends on it and on the file, not on the machine.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    piece, repeated = reader.read(unit, _NO_LIMIT if budget is None else budget, np.dtype(dtype).itemsize)
    return decode_rows(
        piece.table,
        feature_dim=feature_dim,
        n_classes=n_classes,
        dtype=dtype,
        repeated=repeated.tolist(),
        refusal=piece.refusal,
        unlabelled=unlabelled,
        named=unit.file.named,
    )


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
