"""Writing feature tables: row groups of at most 64 MB, files of about 256 MB, each committed whole.

The footer of each file records the position in the source after it, so that an interrupted import continues there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text

GROUP_BYTES = 64 * 2**20
"""Most bytes of decoded features in a row group; a longer video has a row group of its own."""
FILE_BYTES = 256 * 2**20
"""Bytes of decoded features after which a file is closed."""
_STATE = b"esv_import"


def part_name(number: int) -> str:
    """Return the name of a file of the table."""
    return f"part-{number:05d}.parquet"


class TableWriter:
    """Writes the rows of a feature table in order; holds one file, at most 256 MB and one video, in memory."""

    def __init__(self, out: str, *, labelled: bool, files: int = 0) -> None:
        """Start a table, or continue one.

        Args:
            out: folder of the table.
            labelled: whether it has the column `label`.
            files: number of files that are committed already.
        """
        self._out, self._labelled, self.files = out, labelled, files
        self._schema: pa.Schema | None = None
        self._sink: io.BytesIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[tuple[str, npt.NDArray[np.floating], int | None, npt.NDArray[np.int64] | None]] = []
        self._group_bytes = self._file_bytes = 0

    def add(
        self,
        video_id: str,
        features: npt.NDArray[np.floating],
        label: int | None,
        numbers: npt.NDArray[np.int64] | None,
    ) -> None:
        """Add a row: (T, D) features of the same D and type as the first, and the (T,) numbers of their frames."""
        if self._rows and self._group_bytes + features.nbytes > GROUP_BYTES:
            self._end_group()
        if self._schema is None:
            self._schema = _schema(features, labelled=self._labelled, numbered=numbers is not None)
        self._rows.append((video_id, features, label, numbers))
        self._group_bytes += features.nbytes
        self._file_bytes += features.nbytes

    @property
    def is_full(self) -> bool:
        """Return whether the file has its size."""
        return self._file_bytes >= FILE_BYTES

    @property
    def is_empty(self) -> bool:
        """Return whether the file has no rows."""
        return not self._file_bytes

    def commit(self, state: Mapping[str, Any]) -> None:
        """Close the file and commit it, with the state of the import after it."""
        if self._rows:
            self._end_group()
        if self._writer is None or self._sink is None:
            return
        self._writer.add_key_value_metadata({_STATE: json.dumps(state, sort_keys=True)})
        self._writer.close()
        url = storage.join(self._out, part_name(self.files))
        storage.commit_new(url, self._sink.getvalue(), "write the feature table")
        self._writer = self._sink = None
        self._file_bytes = 0
        self.files += 1

    def _end_group(self) -> None:
        assert self._schema is not None
        if self._writer is None:
            self._sink = io.BytesIO()  # its getvalue makes no copy
            # Almost every number is different: a dictionary would only take time.
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd", use_dictionary=False)
        table = _table(self._rows, self._schema)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._rows, self._group_bytes = [], 0


def _schema(features: npt.NDArray[np.floating], *, labelled: bool, numbered: bool) -> pa.Schema:
    number = pa.from_numpy_dtype(features.dtype)
    fields = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("features", pa.list_(pa.list_(number, features.shape[1]))),
    ]
    fields += [pa.field("label", pa.int64())] * labelled
    return pa.schema(fields + [pa.field("frame_index", pa.list_(pa.int32()))] * numbered)


def _table(
    rows: list[tuple[str, npt.NDArray[np.floating], int | None, npt.NDArray[np.int64] | None]], schema: pa.Schema
) -> pa.Table:
    ids, features, labels, numbers = zip(*rows, strict=True)
    offsets = pa.array(np.concatenate([[0], np.cumsum([len(each) for each in features])]).astype(np.int32))
    kind = schema.field("features").type.value_type
    flat = pa.array(np.concatenate([each.reshape(-1) for each in features]), kind.value_type)
    frames = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    columns = {
        "video_id": pa.array(ids, pa.string()),
        "features": pa.ListArray.from_arrays(offsets, frames).cast(schema.field("features").type),
        "label": pa.array(labels, pa.int64()),
    }
    if "frame_index" in schema.names:
        values = pa.array(np.concatenate(numbers).astype(np.int32))
        columns["frame_index"] = pa.ListArray.from_arrays(offsets, values).cast(schema.field("frame_index").type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def read_state(url: str) -> tuple[dict[str, Any], int, str]:
    """Read from a file of the table how far the import had come, D, and the type of the features.

    Raises:
        DataError: it is no file of an import.
    """
    try:
        with storage.locating(url, "continue the import"), storage.reader(url, "continue the import") as file:
            footer = pq.read_metadata(file)
        kind = footer.schema.to_arrow_schema().field("features").type.value_type
        state = json.loads((footer.metadata or {})[_STATE])
        return dict(state), int(kind.list_size), str(np.dtype(kind.value_type.to_pandas_dtype()))
    except (pa.ArrowException, KeyError, ValueError, AttributeError, TypeError, NotImplementedError) as error:
        raise DataError(
            f"{url}: expected a file that esv import features wrote ({short_text(error, 100)}); remove the folder and "
            "import again"
        ) from None
