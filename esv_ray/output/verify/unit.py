"""Verification of one committed unit: its two files, their checksums, counts and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.input.units import Unit
from esv_ray.output.files import read_output
from esv_ray.output.layout import attributions_url, videos_url
from esv_ray.output.manifest import Manifest
from esv_ray.output.origin import origin_for, origin_of
from esv_ray.output.schemas import ATTRIBUTIONS, VIDEOS
from esv_ray.output.unit_files import UnitCounts, UnitFooter, footer_of, hash_ids
from esv_ray.output.verify.expected import expected_of
from esv_ray.output.verify.values import value_problems


@dataclass(frozen=True)
class UnitFindings:
    """The result of verifying a unit.

    Attributes:
        counts: counts of its footer.
        worst_gap: largest efficiency gap of an exact row, 0 without exact rows.
        problems: one line each.
        videos: its videos table.
    """

    counts: UnitCounts
    worst_gap: float
    problems: tuple[str, ...]
    videos: pa.Table


def verify_unit(output: str, manifest: Manifest, unit: Unit) -> UnitFindings:
    """Verify a unit.

    Raises:
        StorageError: the storage refuses.
        DataError: a file is missing or broken.
        JobError: a file is of another job, or of other rows than the plan says.
    """
    location = f"videos/{unit.name}"
    videos, metadata, _ = read_output(videos_url(output, unit), VIDEOS, location)
    beside = f"attributions/{unit.name}"
    rows, of_rows, checksum = read_output(attributions_url(output, unit), ATTRIBUTIONS, beside)
    footer, expected_origin = footer_of(metadata, location), origin_for(unit, manifest.job)
    expected_origin.check(footer.origin, location)
    expected_origin.check(origin_of(of_rows, beside), beside)
    problems = [f"{location}: {problem}" for problem in _count_problems(unit, footer, videos, rows)]
    ok_videos = videos.filter(pc.equal(videos.column("status"), "ok"))
    gap, value_faults = value_problems(ok_videos, rows, expected_of(manifest.spec, manifest.model))
    if checksum != footer.attributions:
        value_faults = [*value_faults, "not the file that was committed with its videos (its checksum differs)"]
    problems += [f"attributions/{unit.name}: {problem}" for problem in value_faults]
    return UnitFindings(footer.counts, gap, tuple(problems), videos)


def _count_problems(unit: Unit, footer: UnitFooter, videos: pa.Table, rows: pa.Table) -> Iterator[str]:
    counts = footer.counts
    if len(footer.failed) != counts.failed or any(row >= unit.rows for row in footer.failed):
        yield f"expected {counts.failed} failed rows by its footer, got {len(footer.failed)}"
    if counts.rows != unit.rows or counts.ok + counts.skipped + counts.failed != counts.rows:
        yield f"expected {unit.rows} input rows by the plan, got {counts.asdict()}"
    if (videos.num_rows, rows.num_rows) != (counts.video_rows, counts.attribution_rows):
        yield (
            f"expected {counts.video_rows} videos and {counts.attribution_rows} attributions by its footer, got "
            f"{videos.num_rows} and {rows.num_rows}"
        )
    if hash_ids(pc.unique(videos.column("video_id")).drop_null().to_pylist()) != footer.ids:
        yield "expected ids with the hashes in its footer, got other ids"
    unknown = set(pc.unique(videos.column("status")).to_pylist()) - {"ok", "skipped", "failed"}
    if unknown:
        yield f"expected status ok, skipped or failed, got {sorted(unknown)}"
    unexplained = videos.filter(
        pc.and_(pc.not_equal(videos.column("status"), "ok"), pc.is_null(videos.column("reason")))
    )
    if unexplained.num_rows:
        yield f"{unexplained.num_rows} videos that are not ok have no reason"
