"""Attribution tables: what became of a unit's videos, as two Parquet files with the contract's schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError

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
_FOOTER_KEY = b"esv_ray"

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Computed:
    """The ESVs of one video at one length.

    Attributes:
        scores: (C,) class probabilities of the full sequence.
        classes: (K,) int32, the classes whose ESVs are kept, ascending.
        esv: (n, K).
        stderr: (n, K), or None.
        frame_index: (n,) int32.
        exact: whether every subsequence was looked at.
        evaluations: head evaluations spent.
        efficiency_gap: largest over all classes of |sum of ESVs - (scores - prior)|.
    """

    scores: Float32Array
    classes: npt.NDArray[np.int32]
    esv: Float32Array
    stderr: Float32Array | None
    frame_index: npt.NDArray[np.int32]
    exact: bool
    evaluations: int
    efficiency_gap: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one video at one requested length: computed, or why not."""

    video_id: str
    label: int | None
    n_frames: int
    n_elements: int
    status: Literal["ok", "skipped", "failed"]
    reason: str | None = None
    computed: Computed | None = None


@dataclass(frozen=True)
class UnitCounts:
    """How a unit's input rows fared; stands in the footer of its videos file.

    Attributes:
        rows: input rows.
        ok, skipped, failed: input rows: failed if it failed at any length, else skipped if at any, else ok.
        video_rows, attribution_rows: rows written.
    """

    rows: int
    ok: int
    skipped: int
    failed: int
    video_rows: int
    attribution_rows: int

    def __add__(self, other: UnitCounts) -> UnitCounts:
        return UnitCounts(*(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True)))

    def astuple(self) -> tuple[int, ...]:
        """The counts in the order of the attributes."""
        return self.rows, self.ok, self.skipped, self.failed, self.video_rows, self.attribution_rows

    def asdict(self) -> dict[str, int]:
        """The counts by name."""
        return dict(zip(self.__dataclass_fields__, self.astuple(), strict=True))


NO_COUNTS = UnitCounts(0, 0, 0, 0, 0, 0)


def unit_tables(outcomes: Sequence[Sequence[Outcome]], covers: Sequence[int] = ()) -> tuple[bytes, bytes, UnitCounts]:
    """The two files of a unit.

    Args:
        outcomes: for each input row its outcomes by length.
        covers: which rows of the plan they are (`Unit.covers`); stands in the footer of the videos file.

    Returns:
        The attributions file, the videos file, and their counts. The same outcomes give the same bytes.
    """
    flat = [outcome for row in outcomes for outcome in row]
    attributions = _attributions(flat)
    statuses = [{outcome.status for outcome in row} for row in outcomes]
    failed = sum("failed" in status for status in statuses)
    skipped = sum("skipped" in status and "failed" not in status for status in statuses)
    counts = UnitCounts(
        rows=len(outcomes),
        ok=len(outcomes) - failed - skipped,
        skipped=skipped,
        failed=failed,
        video_rows=len(flat),
        attribution_rows=attributions.num_rows,
    )
    footer = {_FOOTER_KEY: json.dumps({"counts": counts.asdict(), "covers": list(covers)}).encode()}
    videos = _videos(flat).replace_schema_metadata(footer)
    return _serialised(attributions), _serialised(videos), counts


def counts_of(metadata: pq.FileMetaData, where: str) -> tuple[UnitCounts, tuple[int, ...]]:
    """The counts in a videos file's footer, and which rows of the plan they are of.

    Raises:
        DataError: the file is not one of ours.
    """
    try:
        footer = json.loads((metadata.metadata or {})[_FOOTER_KEY])
        counts, covers = UnitCounts(**footer["counts"]), tuple(footer["covers"])
        if not all(type(count) is int and count >= 0 for count in (*counts.astuple(), *covers)):
            raise ValueError(footer)
        return counts, covers
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{where}: expected a videos file of esv_ray, its footer has no counts") from None


def choose_classes(choices: Sequence[int | str], scores: Float32Array, label: int | None) -> npt.NDArray[np.int32]:
    """The classes whose ESVs are kept for a video.

    Args:
        choices: `label`, `predicted`, `top:K`, `all` or class ids.
        scores: (C,).
        label: its class, or None.

    Returns:
        (K,) ascending, each once.
    """
    chosen: set[int] = set()
    for choice in choices:
        if choice == "all":
            return np.arange(len(scores), dtype=np.int32)
        if choice == "label":
            chosen |= set() if label is None else {label}
        elif choice == "predicted":
            chosen.add(int(np.argmax(scores)))
        elif isinstance(choice, str):
            best = np.argsort(-scores, kind="stable")[: int(choice.removeprefix("top:"))]
            chosen |= {int(index) for index in best}
        else:
            chosen.add(choice)
    return np.array(sorted(chosen), dtype=np.int32)


def _videos(flat: Sequence[Outcome]) -> pa.Table:
    done = [outcome.computed for outcome in flat]
    columns = {
        "video_id": [outcome.video_id for outcome in flat],
        "label": [outcome.label for outcome in flat],
        "n_frames": [outcome.n_frames for outcome in flat],
        "n_elements": [outcome.n_elements for outcome in flat],
        "predicted": [None if one is None else int(np.argmax(one.scores)) for one in done],
        "exact": [one is not None and one.exact for one in done],
        "evaluations": [0 if one is None else one.evaluations for one in done],
        "efficiency_gap": [None if one is None else one.efficiency_gap for one in done],
        "status": [outcome.status for outcome in flat],
        "reason": [outcome.reason for outcome in flat],
    }
    arrays = {name: pa.array(values, VIDEOS.field(name).type) for name, values in columns.items()}
    lengths = np.array([0 if one is None else len(one.scores) for one in done], dtype=np.int32)
    values = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in done if one is not None)])
    arrays["scores"] = pa.ListArray.from_arrays(
        pa.array(_offsets(lengths)),
        pa.array(values, pa.float32()),
        mask=pa.array([one is None for one in done], pa.bool_()) if done else None,
    )
    return pa.table([arrays[name] for name in VIDEOS.names], schema=VIDEOS)


def _attributions(flat: Sequence[Outcome]) -> pa.Table:
    """One row per (video, n_elements, class, element), classes and elements ascending."""
    kept = [(outcome, outcome.computed) for outcome in flat if outcome.computed is not None]
    rows = [len(one.classes) * outcome.n_elements for outcome, one in kept]
    elements = [np.arange(outcome.n_elements, dtype=np.int32) for outcome, _ in kept]
    repeats = pa.array(np.repeat(np.arange(len(kept), dtype=np.int64), rows))
    exact = [np.full(count, one.stderr is None) for count, (_, one) in zip(rows, kept, strict=True)]
    stderr = [(np.zeros_like(one.esv) if one.stderr is None else one.stderr).T.ravel() for _, one in kept]
    ids = pa.array([outcome.video_id for outcome, _ in kept], pa.string())
    columns = [
        ids.take(repeats),
        pa.array(np.repeat(np.array([outcome.n_elements for outcome, _ in kept], np.int32), rows)),
        pa.array(_joined([np.repeat(one.classes, outcome.n_elements) for outcome, one in kept], np.int32)),
        pa.array(
            _joined(
                [np.tile(own, len(one.classes)) for own, (_, one) in zip(elements, kept, strict=True)],
                np.int32,
            )
        ),
        pa.array(_joined([np.tile(one.frame_index, len(one.classes)) for _, one in kept], np.int32)),
        pa.array(_joined([one.esv.T.ravel() for _, one in kept], np.float32)),
        pa.array(_joined(stderr, np.float32), mask=_joined(exact, np.bool_)),
    ]
    return pa.table(columns, schema=ATTRIBUTIONS)


def _joined(parts: Sequence[npt.NDArray[np.generic]], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _offsets(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _serialised(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
