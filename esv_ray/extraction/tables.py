"""The tables of an extraction: features, its videos, and thumbnails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.decoding import VideoSummary
from esv_ray.extraction.backbones.backbone import BackboneInfo
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.videos.columns import further_arrays, schema_of
from esv_ray.input.images import shape_metadata
from esv_ray.input.parquet.footers import PREPROCESSING
from esv_ray.input.sources.table_writer import GROUP_BYTES
from esv_ray.output.expanding import UnitTable
from esv_ray.output.layout import EXTRACTED, FEATURES, THUMBNAILS
from esv_ray.output.results import UnitTables

_PER_BYTE = 8
"""Bytes that a byte of an image takes while it is read: Parquet holds it as an int32, with its levels."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_VIDEOS = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("path", pa.string()),
        pa.field("label", pa.int32()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        _required("status", pa.string()),
        pa.field("reason", pa.string()),
        _required("n_frames", pa.int32()),
        _required("shown", pa.int64()),
        _required("lost", pa.int64()),
        _required("damaged", pa.int64()),
        _required("truncated", pa.bool_()),
        _required("counted_times", pa.bool_()),
        pa.field("seconds", pa.float64()),
        pa.field("rate", pa.float64()),
        _required("height", pa.int32()),
        _required("width", pa.int32()),
        _required("notes", pa.list_(pa.string())),
    ]
)
THUMBNAILS_SCHEMA = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("element", pa.int32()),
        _required("frame_index", pa.int32()),
        _required("jpeg", pa.binary()),
    ]
)


def schemas_of(
    info: BackboneInfo, dtype: str, *, labelled: bool, further: Mapping[str, str]
) -> Mapping[str, pa.Schema]:
    """Return the schemas of the tables by their folders.

    Args:
        info: of the backbone.
        dtype: of features that are vectors.
        labelled: whether any video has a label.
        further: types of further columns of the list (`videos.columns`), which the features get.
    """
    number = pa.from_numpy_dtype(np.dtype(info.dtype(dtype)))
    shape = None if info.shape is None else shape_metadata(info.shape)
    features = pa.schema(
        [
            _required("video_id", pa.string()),
            pa.field("features", pa.list_(pa.list_(number, info.dim)), metadata=shape),
            *[pa.field("label", pa.int64())] * labelled,
            pa.field("frame_index", pa.list_(pa.int32())),
            pa.field("frame_time", pa.list_(pa.float64())),
            pa.field("repeated", pa.list_(pa.bool_())),
            *schema_of(further),
        ]
    )
    return {EXTRACTED: _VIDEOS, FEATURES: features, THUMBNAILS: THUMBNAILS_SCHEMA}


@dataclass(frozen=True, eq=False)
class Extracted:
    """The features of a video.

    Attributes:
        row: of the video in its unit.
        features: (T, D), numbers or bytes of images.
        index: (T,) number of each element's frame in the file.
        time: (T,) seconds of each element's frame.
        repeated: (T,) whether an element nearly equals the one before.
        summary: what the decoder says of the video.
        thumbnails: T JPEG files, or none.
    """

    row: int
    features: npt.NDArray[Any]
    index: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    repeated: npt.NDArray[np.bool_]
    summary: VideoSummary
    thumbnails: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A video without features: its row in the unit, why, and what the decoder says of it."""

    row: int
    reason: str
    summary: VideoSummary = field(default_factory=VideoSummary)


def unit_tables(
    clips: Sequence[Clip],
    outcomes: Sequence[Extracted | Failed],
    schemas: Mapping[str, pa.Schema],
    folders: Sequence[str],
    info: Mapping[str, Any],
    further: Mapping[str, str],
) -> UnitTables:
    """Return the tables of a unit, or of some of its videos.

    Args:
        clips: all videos of the unit.
        outcomes: of the videos that are asked for, in any order.
        schemas: of `schemas_of`.
        folders: of the tables that are asked for.
        info: what the metadata of the features says.
        further: types of further columns of the list.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.row)
    done = [outcome for outcome in ordered if isinstance(outcome, Extracted)]
    tables = {
        EXTRACTED: _videos_table(clips, ordered),
        FEATURES: UnitTable(_features_table(clips, done, schemas[FEATURES], further), _rows(done)),
    }
    if THUMBNAILS in folders:
        tables[THUMBNAILS] = _thumbnails_table(clips, done)
    return {folder: written(folder, table, info) for folder, table in tables.items()}


def written(folder: str, table: UnitTable, info: Mapping[str, Any]) -> UnitTable:
    """Return a table as it is written: features with their metadata, in row groups of a size that can be read."""
    if folder != FEATURES:
        return table
    metadata = {PREPROCESSING: json.dumps(info, sort_keys=True).encode()}
    kind = table.table.schema.field("features").type.value_type
    frame = kind.list_size * kind.value_type.bit_width // 8
    longest = max((len(frames) for frames in table.table.column("frame_index")), default=1)
    if pa.types.is_uint8(kind.value_type):
        frame *= _PER_BYTE
    group_rows = max(1, GROUP_BYTES // max(1, longest * frame))
    return UnitTable(table.table.replace_schema_metadata(metadata), table.rows, group_rows)


def _rows(outcomes: Sequence[Extracted | Failed]) -> npt.NDArray[np.int64]:
    return np.array([outcome.row for outcome in outcomes], dtype=np.int64)


def _videos_table(clips: Sequence[Clip], outcomes: Sequence[Extracted | Failed]) -> UnitTable:
    rows = []
    for outcome in outcomes:
        clip, summary = clips[outcome.row], outcome.summary
        failed = isinstance(outcome, Failed)
        rows.append(
            {
                **{name: getattr(clip, name) for name in ("video_id", "path", "label", "start", "end")},
                "status": "failed" if isinstance(outcome, Failed) else "ok",
                "reason": outcome.reason if isinstance(outcome, Failed) else None,
                "n_frames": 0 if isinstance(outcome, Failed) else len(outcome.index),
                "seconds": summary.duration,
                "notes": list(summary.reasons()) if not failed or summary.shown else list(summary.notes),
                **{
                    name: getattr(summary, name)
                    for name in ("shown", "lost", "damaged", "truncated", "counted_times", "rate", "height", "width")
                },
            }
        )
    return UnitTable(pa.Table.from_pylist(rows, schema=_VIDEOS), _rows(outcomes))


def _features_table(
    clips: Sequence[Clip], done: Sequence[Extracted], schema: pa.Schema, further: Mapping[str, str]
) -> pa.Table:
    if not done:
        return schema.empty_table()
    offsets = pa.array(np.concatenate([[0], np.cumsum([len(each.index) for each in done])]).astype(np.int32))
    kind = schema.field("features").type.value_type
    flat = pa.array(np.concatenate([each.features.reshape(-1) for each in done]), kind.value_type)

    def lists(values: Sequence[npt.NDArray[Any]], name: str) -> pa.Array:
        inner = pa.array(np.concatenate(values), schema.field(name).type.value_type)
        return pa.ListArray.from_arrays(offsets, inner).cast(schema.field(name).type)

    frames = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    columns = {
        "video_id": pa.array([clips[each.row].video_id for each in done], pa.string()),
        "features": pa.ListArray.from_arrays(offsets, frames).cast(schema.field("features").type),
        "label": pa.array([clips[each.row].label for each in done], pa.int64()),
        "frame_index": lists([each.index.astype(np.int32) for each in done], "frame_index"),
        "frame_time": lists([each.time for each in done], "frame_time"),
        "repeated": lists([each.repeated for each in done], "repeated"),
        **further_arrays((clips[each.row] for each in done), further),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _thumbnails_table(clips: Sequence[Clip], done: Sequence[Extracted]) -> UnitTable:
    counts = [len(each.thumbnails) for each in done]
    columns = {
        "video_id": [clips[each.row].video_id for each in done for _ in each.thumbnails],
        "element": [place for each in done for place in range(len(each.thumbnails))],
        "frame_index": [int(index) for each in done for index in each.index],
        "jpeg": [image for each in done for image in each.thumbnails],
    }
    return UnitTable(pa.table(columns, schema=THUMBNAILS_SCHEMA), np.repeat(_rows(done), counts))
