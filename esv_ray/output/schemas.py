"""The tables that a job writes (`docs/reference/output.md`), by the names of their folders."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.output.layout import (
    ATTRIBUTIONS,
    DISCARDS,
    INTERACTIONS,
    MARGINALS,
    ORDER,
    REPLACEMENTS,
    SANITY,
    SMOOTHNESS,
    VIDEOS,
)


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_SEQUENCE = [_required("video_id", pa.string()), _required("n_elements", pa.int32())]

SCHEMAS = {
    VIDEOS: pa.schema(
        [
            _required("video_id", pa.string()),
            pa.field("label", pa.int32()),
            _required("n_frames", pa.int32()),
            _required("n_elements", pa.int32()),
            pa.field("predicted", pa.int32()),
            pa.field("scores", pa.list_(pa.float32())),
            _required("exact", pa.bool_()),
            _required("evaluations", pa.int64()),
            pa.field("efficiency_gap", pa.float32()),
            _required("status", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("iterations", pa.int32()),
            pa.field("tolerance_met", pa.bool_()),
            pa.field("stderr_difference", pa.list_(pa.float32())),
        ]
    ),
    ATTRIBUTIONS: pa.schema(
        [
            _required("video_id", pa.string()),
            _required("method", pa.string()),
            _required("n_elements", pa.int32()),
            _required("class", pa.int32()),
            _required("element", pa.int32()),
            _required("frame_index", pa.int32()),
            _required("esv", pa.float32()),
            pa.field("stderr", pa.float32()),
            pa.field("delta", pa.float32()),
        ]
    ),
    MARGINALS: pa.schema(
        [
            *_SEQUENCE,
            _required("class", pa.int32()),
            _required("element", pa.int32()),
            _required("scale", pa.int32()),
            pa.field("marginal", pa.float32()),
        ]
    ),
    INTERACTIONS: pa.schema(
        [
            *_SEQUENCE,
            _required("class", pa.int32()),
            _required("element_i", pa.int32()),
            _required("element_j", pa.int32()),
            _required("interaction", pa.float32()),
        ]
    ),
    DISCARDS: pa.schema(
        [
            *_SEQUENCE,
            _required("method", pa.string()),
            _required("order", pa.string()),
            _required("discarded", pa.int32()),
            _required("class", pa.int32()),
            _required("score", pa.float32()),
            _required("predicted", pa.int32()),
            pa.field("best", pa.float32()),
        ]
    ),
    REPLACEMENTS: pa.schema(
        [
            *_SEQUENCE,
            _required("method", pa.string()),
            _required("order", pa.string()),
            _required("replaced_by", pa.string()),
            _required("discarded", pa.int32()),
            _required("class", pa.int32()),
            _required("score", pa.float32()),
            _required("predicted", pa.int32()),
        ]
    ),
    SMOOTHNESS: pa.schema(
        [
            *_SEQUENCE,
            _required("class", pa.int32()),
            _required("element", pa.int32()),
            _required("offset", pa.int32()),
            _required("change", pa.float32()),
        ]
    ),
    ORDER: pa.schema(
        [
            *_SEQUENCE,
            _required("class", pa.int32()),
            _required("score", pa.float32()),
            _required("shuffled_score", pa.float32()),
            pa.field("spearman", pa.float32()),
        ]
    ),
    SANITY: pa.schema(
        [
            *_SEQUENCE,
            _required("class", pa.int32()),
            _required("layers_randomised", pa.int32()),
            pa.field("spearman", pa.float32()),
        ]
    ),
}
