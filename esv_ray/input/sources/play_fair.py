"""The authors' HDF5 features (willprice/play-fair).

Group SPLIT holds ``features`` (variable-length float32 rows of T * D numbers, attribute ``feature_dim``), ``uids`` and
``labels/action``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.hdf5_files import LinkError, item_at, open_file
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest

_SPLIT = "validation"
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError, RuntimeError)


class _Group(NamedTuple):
    """A group of the file: (N,) rows of T * D numbers, N ids, (N,) labels, and D."""

    features: Any
    uids: list[str]
    labels: npt.NDArray[np.int64]
    dim: int


@contextmanager
def open_play_fair(request: ImportRequest) -> Iterator[Source]:
    """Open the group --split of the authors' file; entries have the order of the file.

    Raises:
        DataError: the file has other content.
        SpecError: h5py is not installed.
    """
    source, split = request.source, _SPLIT if request.split is None else request.split
    state = storage.state(source, "read the features")
    with open_file(source) as hdf:
        try:
            group = _checked(hdf, split, source)
        except _BROKEN as error:
            raise DataError(
                f"{source}, group {split}: expected the authors' features, uids and labels/action, got another "
                f"structure ({short_text(error, 200)})"
            ) from None

        def entries() -> Iterator[Entry]:
            for index, uid in enumerate(group.uids):
                yield Entry(uid, uid, partial(_read, group, index))

        labels = partial(group.labels.tolist)
        yield Source(entries, listed=True, state=f"{state.size} {state.version}", has_labels=True, labels=labels)


def _member(group: Any, name: str, source: str) -> Any:
    """Return a group or data set below a group, or None; no other file is opened.

    Raises:
        DataError: it is behind a link other than a hard one, or its numbers are in another file.
    """
    import h5py

    try:
        item = item_at(group, name)
    except LinkError as error:
        raise DataError(
            f"{source}: expected {name} in the file itself, got a link, {str(error)!r}, which is not followed; copy "
            "what it leads to into the file"
        ) from None
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        raise DataError(
            f"{source}: expected {name} in the file itself, got numbers in another file, which is not opened"
        )
    return item


def _checked(hdf: Any, split: str, source: str) -> _Group:
    group = _member(hdf, split, source)
    if group is None:
        raise DataError(f"{source}: expected a group {split!r} (--split), got {sorted(hdf)}")
    members = {name: _member(group, name, source) for name in ("features", "uids", "labels/action")}
    missing = [name for name, member in members.items() if member is None]
    if missing or "feature_dim" not in members["features"].attrs:
        raise DataError(
            f"{source}, group {split}: expected features (attribute feature_dim), uids and labels/action, "
            f"got {sorted(group)}; missing {missing or ['feature_dim']}"
        )
    features, ids, labels = members["features"], members["uids"], np.asarray(members["labels/action"][:])
    dim = int(features.attrs["feature_dim"])
    if dim < 1 or features.ndim != 1 or ids.ndim != 1 or labels.ndim != 1:
        raise ValueError(f"feature_dim {dim}, features {features.shape}, uids {ids.shape}, labels {labels.shape}")
    uids = [uid.decode() for uid in ids[:]]
    count = len(uids)
    if not np.issubdtype(labels.dtype, np.integer) or len(labels) != count or len(features) != count:
        raise DataError(
            f"{source}: expected {count} whole-number labels and {count} feature rows, one per uid; got "
            f"{len(labels)} labels ({labels.dtype}) and {len(features)} rows"
        )
    if not count:
        raise DataError(f"{source}: expected videos, found none")
    return _Group(features, uids, labels, dim)


def _read(group: _Group, index: int) -> Frames:
    try:
        row = np.asarray(group.features[index])
    except _BROKEN as error:
        raise RecordError("damaged", short_text(error, 120)) from None
    if row.ndim != 1 or len(row) % group.dim:
        raise RecordError(f"expected T * {group.dim} numbers", f"got {row.size}")
    return Frames(row.reshape(-1, group.dim), int(group.labels[index]))
