"""A reader of units that keeps the last file and row group open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError, StorageError
from esv_ray.input.features import Contract
from esv_ray.input.parquet.id_columns import FileIds, read_file_ids
from esv_ray.input.parquet.opening import OpenedFile, open_file, read_ends
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader, without_features
from esv_ray.input.units import RowRange

_NO_LIMIT = 2**62
_FILES_KEPT = 8  # with checked ids
_TOGETHER = 32  # small files that are read at a time
_TOO_LARGE = (
    "with the files before it in its unit it takes more memory than compute.memory_budget = {}: set compute.unit lower"
)


class RowsRead(NamedTuple):
    """Rows that were read.

    Attributes:
        piece: their columns.
        repeated: those of them (0 = first) that repeat an id of an earlier row of the file.
    """

    piece: Piece
    repeated: npt.NDArray[np.int64]


class UnitReader:
    """Reads units and keeps the last file and row group open, since units of a row group follow one another.

    Threads that share a reader take turns: two units at a time would each decode their row group from its first row.

    Attributes:
        contract: what is expected of the rows.
    """

    def __init__(self, contract: Contract, budget: int | None = None) -> None:
        """Make a reader of the units of a table.

        Args:
            contract: what is expected of the rows.
            budget: bytes that decoding a row group may take, and that the ids of a file may take; None: no limit. Which
                rows fail depends on it and on the file, not on the machine.
        """
        self.contract = contract
        self._budget = _NO_LIMIT if budget is None else budget
        self._lock = Lock()
        self._key: object = None  # of the open file
        self._file: OpenedFile | None = None
        self._group: RowGroupReader | None = None
        self._ids: OrderedDict[object, FileIds] = OrderedDict()

    def read(self, rows: RowRange, end: bytes | None = None) -> RowsRead:
        """Read the columns of rows of a row group.

        Args:
            rows: the rows.
            end: last bytes of their file (`read_ends`), if they were read.

        Raises:
            DataError: the file cannot be read, or has another footer than when the plan was made.
        """
        with self._lock, ExitStack() as on_error:
            on_error.callback(self._close)
            read = self._read(rows, end)
            on_error.pop_all()
            return read

    def read_small(self, ranges: Sequence[RowRange]) -> Iterator[RowsRead]:
        """Read the rows of several small files. A file that is broken gives failed rows, and no error.

        So do the files beyond the budget: footers may promise fewer values than the pages hold.

        Raises:
            StorageError: a file cannot be read now.
        """
        held = 0
        for start in range(0, len(ranges), _TOGETHER):
            together = ranges[start : start + _TOGETHER]
            for rows, end in zip(together, read_ends([rows.file for rows in together]), strict=True):
                try:
                    read = (
                        _refused(rows, _TOO_LARGE.format(self._budget)) if held > self._budget else self.read(rows, end)
                    )
                except StorageError:
                    raise
                except DataError as error:  # the videos of the other files are computed all the same
                    read = _refused(rows, f"its file cannot be read: {error}")
                held += read.piece.table.nbytes
                yield read

    def _close(self) -> None:
        self._group = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, rows: RowRange, end: bytes | None) -> RowsRead:
        key = rows.file, rows.file.footer  # the checksum of its footer counts for no comparison of files
        ids = self._ids.get(key)
        refused = ids is not None and rows.row_group in ids.refusals
        if (self._file is None or self._key != key) and not refused:
            self._close()
            self._file = open_file(rows.file, end)
            self._key = key
        if ids is None:
            assert self._file is not None, "nothing is refused before the ids are read"
            self._group = None  # its column chunks are replaced by those of the ids
            self._file.fetch("video_id", self._budget)
            ids = self._ids[key] = read_file_ids(self._file, self._budget)
            if len(self._ids) > _FILES_KEPT:
                self._ids.popitem(last=False)
        self._ids.move_to_end(key)
        inside = (ids.repeated >= rows.first_row) & (ids.repeated < rows.first_row + rows.rows)
        repeated = ids.repeated[inside] - rows.first_row
        refusal = ids.refusals.get(rows.row_group)
        if refusal is not None:
            return RowsRead(without_features(rows.rows, refusal), repeated)
        group = self._group
        if group is None or group.number != rows.row_group or group.position > rows.start:
            group = self._group = None  # frees the last one before this one is fetched
            itemsize = np.dtype(self.contract.dtype).itemsize
            assert self._file is not None, "only rows of refused row groups open no file"
            group = self._group = RowGroupReader(self._file, rows.row_group, self._budget, itemsize)
        return RowsRead(group.take(rows.start, rows.stop), repeated)


def _refused(rows: RowRange, why: str) -> RowsRead:
    return RowsRead(without_features(rows.rows, why), np.zeros(0, np.int64))
