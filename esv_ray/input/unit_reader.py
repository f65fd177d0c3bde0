"""A reader of units that keeps the last file and row group open."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from threading import Lock

import numpy as np
import numpy.typing as npt

from esv_ray.input.features import Contract
from esv_ray.input.parquet.id_columns import FileIds, read_file_ids
from esv_ray.input.parquet.opening import OpenedFile, open_file
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader, without_features
from esv_ray.input.units import Unit

_NO_LIMIT = 2**62
_FILES_KEPT = 8  # with checked ids


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

    def read(self, unit: Unit) -> tuple[Piece, npt.NDArray[np.int64]]:
        """Read the columns of a unit's rows.

        Returns:
            The rows, and those of them (0 = first) that repeat an id of an earlier row of the file.

        Raises:
            DataError: the file cannot be read, or has another footer than when the plan was made.
        """
        with self._lock, ExitStack() as on_error:
            on_error.callback(self._close)
            rows = self._read(unit)
            on_error.pop_all()
            return rows

    def _close(self) -> None:
        self._group = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, unit: Unit) -> tuple[Piece, npt.NDArray[np.int64]]:
        key = unit.file, unit.file.footer  # the checksum of its footer counts for no comparison of files
        ids = self._ids.get(key)
        refused = ids is not None and unit.row_group in ids.refusals
        if (self._file is None or self._key != key) and not refused:
            self._close()
            self._file = open_file(unit.file)
            self._key = key
        if ids is None:
            assert self._file is not None, "nothing is refused before the ids are read"
            self._group = None  # its column chunks are replaced by those of the ids
            self._file.fetch("video_id", self._budget)
            ids = self._ids[key] = read_file_ids(self._file, self._budget)
            if len(self._ids) > _FILES_KEPT:
                self._ids.popitem(last=False)
        self._ids.move_to_end(key)
        inside = (ids.repeated >= unit.first_row) & (ids.repeated < unit.first_row + unit.rows)
        repeated = ids.repeated[inside] - unit.first_row
        refusal = ids.refusals.get(unit.row_group)
        if refusal is not None:
            return without_features(unit.rows, refusal), repeated
        group = self._group
        if group is None or group.number != unit.row_group or group.position > unit.start:
            group = self._group = None  # frees the last one before this one is fetched
            itemsize = np.dtype(self.contract.dtype).itemsize
            assert self._file is not None, "only units of refused row groups open no file"
            group = self._group = RowGroupReader(self._file, unit.row_group, self._budget, itemsize)
        return group.take(unit.start, unit.stop), repeated
