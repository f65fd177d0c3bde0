"""The tables that a job writes (`docs/reference/output.md`)."""

from __future__ import annotations

import pyarrow as pa

VIDEOS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("n_elements", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32()),
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("exact", pa.bool_(), nullable=False),
        pa.field("evaluations", pa.int64(), nullable=False),
        pa.field("efficiency_gap", pa.float32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("iterations", pa.int32()),
        pa.field("tolerance_met", pa.bool_()),
        pa.field("stderr_difference", pa.list_(pa.float32())),
    ]
)
ATTRIBUTIONS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("n_elements", pa.int32(), nullable=False),
        pa.field("class", pa.int32(), nullable=False),
        pa.field("element", pa.int32(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("esv", pa.float32(), nullable=False),
        pa.field("stderr", pa.float32()),
    ]
)
