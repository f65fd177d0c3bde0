"""The authors' HDF5 features (willprice/play-fair) as a feature table.

Group SPLIT holds ``features`` (variable-length float32 rows of T * D numbers, attribute ``feature_dim``), ``uids`` and
``labels/action``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, SpecError, short_text

_FILE_BYTES = 256 * 2**20
_GROUP_BYTES = 16 * 2**20
_COPY_BYTES = 16 * 2**20


def import_play_fair_features(source: str, *, split: str, out: str) -> int:
    """Write a feature table from the authors' HDF5.

    Args:
        source: location of the HDF5 file.
        split: the group, e.g. "validation".
        out: folder of the table; Parquet files of about 256 MB, row groups of about 16 MB.

    Returns:
        Number of videos written.

    Raises:
        SpecError: h5py is not installed.
        DataError: the file has other content, or the folder already contains a table.
    """
    try:
        import h5py
    except ImportError as error:
        raise SpecError("reading HDF5 needs h5py: pip install 'esv-ray[hdf5]'") from error
    storage.check_vacant(out)
    doing = "read the features"
    with storage.locating(source, doing), _on_disk(source, doing) as file:
        try:
            opened = h5py.File(file, "r")
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise DataError(f"{source}: expected an HDF5 file: {short_text(error, 200)}") from None
        with opened as hdf:
            try:
                return _write(_group(hdf, split, source), source, out)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException) as error:
                written = [
                    name for name in storage.list_names(out, "look into the output") if name.endswith(".parquet")
                ]
                raise DataError(
                    (f"{out} holds a part of the table, remove it: " if written else "")
                    + f"{source}, group {split}: expected the authors' features, uids and labels/action, got another "
                    f"structure ({short_text(error, 200)})"
                ) from None


@contextmanager
def _on_disk(source: str, doing: str) -> Iterator[BinaryIO]:
    """Open the file; a file on an object store is copied to this machine first.

    HDF5 makes many small reads. And h5py holds its global lock while it reads. The thread of a store's client waits for
    that lock if it frees an object of h5py, which is a deadlock.
    """
    with storage.reader(source, doing) as file:
        if storage.is_local(storage.open_location(source)[0]):
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy, _COPY_BYTES)
            copy.seek(0)
            yield copy


def _group(hdf: Any, split: str, source: str) -> Any:
    if split not in hdf:
        raise DataError(f"{source}: expected a group {split!r} (--split), got {sorted(hdf)}")
    group = hdf[split]
    missing = [name for name in ("features", "uids", "labels/action") if name not in group]
    if missing or "feature_dim" not in group["features"].attrs:
        raise DataError(
            f"{source}, group {split}: expected features (attribute feature_dim), uids and labels/action, "
            f"got {sorted(group)}; missing {missing or ['feature_dim']}"
        )
    return group


def _write(group: Any, source: str, out: str) -> int:
    dim = int(group["features"].attrs["feature_dim"])
    if dim < 1 or group["features"].ndim != 1 or group["uids"].ndim != 1:
        raise ValueError(f"feature_dim {dim}, features {group['features'].shape}, uids {group['uids'].shape}")
    uids = [uid.decode() for uid in group["uids"][:]]
    labels = np.asarray(group["labels/action"][:])
    if labels.ndim != 1:
        raise ValueError(f"labels {labels.shape}")
    count = len(uids)
    if not np.issubdtype(labels.dtype, np.integer) or len(labels) != count or len(group["features"]) != count:
        raise DataError(
            f"{source}: expected {count} whole-number labels and {count} feature rows, one per uid; got "
            f"{len(labels)} labels ({labels.dtype}) and {len(group['features'])} rows"
        )
    if not count:
        raise DataError(f"{source}: expected videos, found none")
    # Check all before anything is written: a part of a table looks like a whole one.
    for uid, row in zip(uids, group["features"], strict=True):
        if len(row) % dim:
            raise DataError(f"{source}, video {uid}: expected T * {dim} numbers, got {len(row)}")
    tables: list[pa.Table] = []
    held = files = start = 0
    while start < count:
        rows: list[Any] = []
        stop = start
        while stop < count and sum(row.nbytes for row in rows) < _GROUP_BYTES:
            rows.append(np.asarray(group["features"][stop], dtype=np.float32))
            stop += 1
        tables.append(_table(uids[start:stop], rows, labels[start:stop], dim))
        held += tables[-1].nbytes
        start = stop
        if held >= _FILE_BYTES or start == count:
            _commit(tables, storage.join(out, f"part-{files:05d}.parquet"))
            tables, held, files = [], 0, files + 1
    return count


def _table(uids: list[str], rows: list[Any], labels: Any, dim: int) -> pa.Table:
    lengths = np.array([len(row) // dim for row in rows], dtype=np.int32)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(rows), pa.float32()), dim)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    schema = pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("features", pa.list_(pa.list_(pa.float32(), dim))),
            pa.field("label", pa.int64()),
        ]
    )
    columns = [pa.array(uids, pa.string()), pa.ListArray.from_arrays(pa.array(offsets), frames), pa.array(labels)]
    return pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _commit(tables: list[pa.Table], url: str) -> None:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, tables[0].schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    storage.commit_new(url, bytes(sink.getvalue()), "write the feature table")
