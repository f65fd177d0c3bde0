"""Verification of one committed unit: its files, their checksums, counts and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.input.units import Unit
from esv_ray.output.files import read_output
from esv_ray.output.layout import ATTRIBUTIONS, VIDEOS, table_url, videos_url
from esv_ray.output.manifest import Manifest
from esv_ray.output.origin import origin_for, origin_of
from esv_ray.output.schemas import SCHEMAS
from esv_ray.output.unit_files import UnitCounts, UnitFooter, footer_of, hash_ids
from esv_ray.output.verify.expected import expected_of
from esv_ray.output.verify.further import further_problems, method_problems
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
    tables: dict[str, pa.Table] = {}
    faults: dict[str, list[str]] = {}
    location, origin = f"{VIDEOS}/{unit.name}", origin_for(unit, manifest.job)
    videos, metadata, _ = read_output(videos_url(output, unit), SCHEMAS[VIDEOS], location)
    footer = footer_of(metadata, location)
    origin.check(footer.origin, location)
    for folder in manifest.folders[1:]:
        beside = f"{folder}/{unit.name}"
        tables[folder], metadata, checksum = read_output(table_url(output, folder, unit), SCHEMAS[folder], beside)
        origin.check(origin_of(metadata, beside), beside)
        if checksum != footer.checksums.get(folder):
            faults[folder] = ["not the file that was committed with its videos (its checksum differs)"]
    faults[VIDEOS] = list(_count_problems(unit, footer, {VIDEOS: videos, **tables}))
    ok_videos = videos.filter(pc.equal(videos.column("status"), "ok"))
    expected = expected_of(manifest.spec, manifest.model)
    of_esv = tables[ATTRIBUTIONS].filter(pc.equal(tables[ATTRIBUTIONS].column("method"), "esv"))
    gap, of_values = value_problems(ok_videos, of_esv, expected)
    of_values += method_problems(tables[ATTRIBUTIONS], of_esv, expected)
    faults[ATTRIBUTIONS] = of_values + faults.get(ATTRIBUTIONS, [])
    for folder, problem in further_problems(ok_videos, tables, expected):
        faults.setdefault(folder, []).append(problem)
    problems = [f"{folder}/{unit.name}: {problem}" for folder in manifest.folders for problem in faults.get(folder, ())]
    return UnitFindings(footer.counts, gap, tuple(problems), videos)


def _count_problems(unit: Unit, footer: UnitFooter, tables: Mapping[str, pa.Table]) -> Iterator[str]:
    counts, videos = footer.counts, tables[VIDEOS]
    if len(footer.failed) != counts.failed or any(row >= unit.rows for row in footer.failed):
        yield f"expected {counts.failed} failed rows by its footer, got {len(footer.failed)}"
    if counts.rows != unit.rows or counts.ok + counts.skipped + counts.failed != counts.rows:
        yield f"expected {unit.rows} input rows by run.json, got {counts.asdict()}"
    found = {folder: table.num_rows for folder, table in tables.items()}
    if found != counts.written:
        texts = [" and ".join(f"{rows} {folder}" for folder, rows in each.items()) for each in (counts.written, found)]
        yield f"expected {texts[0]} by its footer, got {texts[1]}"
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
