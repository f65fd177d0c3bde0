"""Read one video of an output: the row of its file, and the ESVs that its unit committed beside it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, SpecError
from esv_ray.output.files import parquet_errors
from esv_ray.output.layout import ATTRIBUTIONS, VIDEOS
from esv_ray.output.manifest import Manifest, existing_manifest
from esv_ray.output.schemas import SCHEMAS
from esv_ray.parallel import READERS, in_parallel
from esv_ray.show.chosen import chosen_classes, quoted
from esv_ray.show.text import printable
from esv_ray.show.video import AttributedVideo, ClassEsvs

_DOING = "read the output"
_NEEDED = {  # columns; any others may be missing
    VIDEOS: [
        name for name in SCHEMAS[VIDEOS].names if name not in ("iterations", "tolerance_met", "stderr_difference")
    ],
    ATTRIBUTIONS: SCHEMAS[ATTRIBUTIONS].names,
}
_NAMED = 3  # ids or classes in an error
_SUGGESTED_FROM = 100_000  # ids among which a similar one is looked for


@dataclass(frozen=True, eq=False)
class StoredVideo:
    """What the tables hold of a video at one length.

    Attributes:
        row: of the table `videos`.
        esvs: its rows of the table `attributions`, of ESVs, ordered by class and element.
    """

    row: Mapping[str, Any]
    esvs: pa.Table

    @property
    def kept(self) -> list[int]:
        """The classes whose ESVs are kept, ascending."""
        classes: list[int] = self.esvs.column("class").unique().to_pylist()
        return classes


def read_video(
    output: str, video_id: str, *, n_elements: int | None = None, classes: Sequence[str] = ()
) -> AttributedVideo:
    """Read a video of an output.

    Args:
        output: of a job, finished or not.
        video_id: the video.
        n_elements: the length, of an output with several; None: the longest.
        classes: `label`, `predicted`, ids or names of classes; none: label and predicted class, as far as their ESVs
            are kept, else every class that is kept.

    Raises:
        DataError: there is no output, no such video yet, or the video has no ESVs.
        SpecError: no ESVs are kept of a class, or the video was not attributed at that length.
    """
    manifest = existing_manifest(output)
    name, rows = _find(output, video_id)
    return attributed(manifest, _stored(output, name, rows, video_id, n_elements), classes)


def read_stored(output: str, unit: str, video_id: str, n_elements: int | None = None) -> StoredVideo:
    """Read what the tables hold of a video whose unit is known.

    Args:
        output: of a job, finished or not.
        unit: file name of the unit.
        video_id: the video.
        n_elements: the length; None: the longest.

    Raises:
        DataError: the unit cannot be read, or the video has no ESVs.
        SpecError: the video was not attributed at that length.
    """
    rows = read_columns(output, VIDEOS, unit, None, pc.field("video_id") == video_id)
    if not rows.num_rows:
        raise DataError(f"{output}: expected a video {quoted(video_id)} in unit {unit}, found none")
    return _stored(output, unit, rows, video_id, n_elements)


def _stored(output: str, unit: str, rows: pa.Table, video_id: str, n_elements: int | None) -> StoredVideo:
    row = _row(output, rows, video_id, n_elements)
    esvs = _esvs(output, unit, pa.array([video_id]))
    return StoredVideo(row, _of_sequence(esvs, video_id, row["n_elements"]))


def read_videos(output: str, units: Sequence[str], sequences: Sequence[tuple[str, int]]) -> list[AttributedVideo]:
    """Read videos of an output, each at one length: label and predicted class as `read_video` does.

    The ids of each unit are read once, and the other columns only of units with one of the videos, once.

    Args:
        output: of a job, finished or not.
        units: file names of the units that may have them.
        sequences: video_id and number of elements of each.

    Returns:
        The videos in this order.

    Raises:
        DataError: there is no output, or one of the videos has no ESVs at its length.
    """
    manifest = existing_manifest(output)
    ids = pa.array([video_id for video_id, _ in sequences], pa.string())

    def of_unit(name: str) -> dict[tuple[str, int], AttributedVideo]:
        chosen = pc.is_in(read_columns(output, VIDEOS, name, ["video_id"]).column(0), ids)
        if not pc.any(chosen).as_py():
            return {}
        rows = read_columns(output, VIDEOS, name, None, pc.field("video_id").isin(ids)).to_pylist()
        wanted = [row for row in rows if (row["video_id"], row["n_elements"]) in asked and row["status"] == "ok"]
        esvs = _esvs(output, name, ids)
        return {
            (row["video_id"], row["n_elements"]): attributed(
                manifest, StoredVideo(row, _of_sequence(esvs, row["video_id"], row["n_elements"])), ()
            )
            for row in wanted
        }

    asked = set(sequences)
    found: dict[tuple[str, int], AttributedVideo] = {}
    for of_one in in_parallel(of_unit, units, threads=READERS) if asked else ():
        found |= of_one
    missing = [sequence for sequence in sequences if sequence not in found]
    if missing:
        video_id, n = missing[0]
        raise DataError(f"{output}: expected ESVs of video {quoted(video_id)} at {n} elements, found none")
    return [found[sequence] for sequence in sequences]


def _find(output: str, video_id: str) -> tuple[str, pa.Table]:
    """Return the name of the files of a video's unit, and the video's rows.

    Raises:
        DataError: there is no such video.
    """
    names = file_names(output)
    ids = in_parallel(
        lambda name: read_columns(output, VIDEOS, name, ["video_id"], None).column(0), names, threads=READERS
    )
    for name, of_unit in zip(names, ids, strict=True):
        if pc.any(pc.equal(of_unit, video_id)).as_py():
            return name, read_columns(output, VIDEOS, name, None, pc.field("video_id") == video_id)
    known = [each for of_unit in ids for each in of_unit.unique().to_pylist()]
    near = difflib.get_close_matches(video_id, known, n=_NAMED) if len(known) < _SUGGESTED_FROM else []
    hint = f"did you mean {', '.join(map(quoted, near))}?" if near else f"it has, e.g., {quoted(known[0])}"
    raise DataError(f"{output}: expected a video {quoted(video_id)} among {len(known)}, found none; {hint}")


def file_names(output: str) -> list[str]:
    """Return the names of the committed units' files."""
    url = storage.join(output, VIDEOS)
    names = [
        name
        for name in storage.list_names(url, "list the output")
        if name.endswith(".parquet") and not name.startswith(("_", "."))
    ]
    if not names:
        raise DataError(f"{output}: expected committed units, found none yet; run the job first")
    return sorted(names)


def read_columns(
    output: str, folder: str, name: str, columns: Sequence[str] | None, chosen: pc.Expression | None = None
) -> pa.Table:
    """Read a file of a table of an output.

    Args:
        output: of a job.
        folder: of the table.
        name: of the file.
        columns: their names; None: all.
        chosen: which rows; None: all.

    Raises:
        DataError: it cannot be read, or lacks a column of the table.
    """
    url = storage.join(storage.join(output, folder), name)
    with storage.locating(url, _DOING), storage.reader(url, _DOING) as file, parquet_errors(url):
        parquet = pq.ParquetFile(file)
        missing = [field for field in _NEEDED[folder] if field not in parquet.schema_arrow.names]
        if missing:
            raise DataError(
                f"{url}: expected a column {missing[0]}, got {parquet.schema_arrow.names}; see esv verify {output}"
            )
        table = parquet.read(columns)
    return table if chosen is None else table.filter(chosen)


def _row(output: str, rows: pa.Table, video_id: str, n_elements: int | None) -> dict[str, Any]:
    """Return the row of a video at a length.

    Raises:
        DataError: the video has no ESVs.
        SpecError: it was not attributed at that length.
    """
    lengths = sorted(rows.column("n_elements").to_pylist())
    if n_elements is None:
        valid = [
            row["n_elements"] for row in rows.select(["n_elements", "status"]).to_pylist() if row["status"] == "ok"
        ]
        n_elements = max(valid, default=lengths[-1])
    row: dict[str, Any]
    for row in rows.to_pylist():
        if row["n_elements"] == n_elements:
            if row["status"] != "ok":
                reason = printable(str(row["reason"]))
                raise DataError(f"{output}: video {quoted(video_id)} has no ESVs: {row['status']}, {reason}")
            return row
    raise SpecError(f"elements: video {quoted(video_id)} was attributed with {lengths} elements, got {n_elements}")


def _esvs(output: str, name: str, ids: pa.Array) -> pa.Table:
    """Return the ESVs of some videos of a unit, ordered by class and element."""
    chosen = pc.field("video_id").isin(ids) & (pc.field("method") == "esv")
    return read_columns(output, ATTRIBUTIONS, name, None, chosen).sort_by(
        [("class", "ascending"), ("element", "ascending")]
    )


def _of_sequence(esvs: pa.Table, video_id: str, n_elements: int) -> pa.Table:
    return esvs.filter((pc.field("video_id") == video_id) & (pc.field("n_elements") == n_elements))


def attributed(manifest: Manifest, stored: StoredVideo, classes: Sequence[str | int] = ()) -> AttributedVideo:
    """Return a video with the ESVs of some classes.

    Args:
        manifest: of its output.
        stored: the video.
        classes: as for `read_video`; an `int` is always an id, even if a class has that number as its name.

    Raises:
        DataError: no ESVs are kept of it.
        SpecError: no ESVs are kept of a class.
    """
    row, esvs, kept = stored.row, stored.esvs, stored.kept
    names, prior = manifest.model["classes"], np.array(manifest.model["prior"])
    in_logits = manifest.spec["estimator"]["output"] == "logit"
    shown = chosen_classes(classes, kept, row["label"], row["predicted"], names)
    if not shown:
        raise DataError(f"video {quoted(row['video_id'])}: its output keeps no ESVs of it; see `classes` of the spec")
    parts = []
    for class_id in shown:
        of_class = esvs.filter(pc.equal(esvs.column("class"), class_id))
        esv, stderr = of_class.column("esv").to_numpy(), of_class.column("stderr")
        empty = float(np.log(prior[class_id])) if in_logits else float(prior[class_id])
        parts.append(
            ClassEsvs(
                class_id=class_id,
                name=names[class_id] if names else None,
                # Tables hold probabilities; a logit is the sum of its parts.
                score=empty + float(esv.sum(dtype=np.float64)) if in_logits else row["scores"][class_id],
                prior=empty,
                esv=esv,
                stderr=None if stderr.null_count else stderr.to_numpy(),
            )
        )
    errors = row.get("stderr_difference")  # outputs of earlier versions have none
    first = esvs.filter(pc.equal(esvs.column("class"), kept[0]))
    return AttributedVideo(
        video_id=row["video_id"],
        frame_index=first.column("frame_index").to_numpy(),
        label=row["label"],
        predicted=row["predicted"],
        classes=parts,
        in_logits=in_logits,
        exact=row["exact"],
        evaluations=row["evaluations"],
        difference_stderr=None if errors is None else np.array(errors, np.float32),
    )
