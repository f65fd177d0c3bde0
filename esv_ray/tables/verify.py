"""esv verify: whether an output is whole and consistent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.tables.manifest import Manifest, attributions_url, committed_names, read_manifest, read_success, videos_url
from esv_ray.tables.results import ATTRIBUTIONS, NO_COUNTS, VIDEOS, UnitCounts, counts_of
from esv_ray.tables.units import Unit

MOST_GAP = 1e-4  # efficiency of exact float32 ESVs: observed 3e-7 and less


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        problems: one line each; none for a good output.
        counts: of all committed units.
        units, committed: of the plan, and of them there.
        worst_gap: largest efficiency gap of an exact row.
    """

    problems: tuple[str, ...]
    counts: UnitCounts
    units: int
    committed: int
    worst_gap: float


def verify_output(output: str) -> Verification:
    """Check counts, ids, schemas, efficiency and _SUCCESS of a job's output.

    Raises:
        DataError: there is no output, or the storage refuses.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise DataError(f"{output}: expected a job's output, found no run.json; check the location")
    done = committed_names(output)
    problems: list[str] = []
    total, worst = NO_COUNTS, 0.0
    seen: dict[tuple[str, int], str] = {}
    planned = {unit.name for unit in manifest.units}
    problems += [f"videos/{name}: not in the plan" for name in sorted(done - planned) if name.endswith(".parquet")]
    units = [unit for unit in manifest.units if unit.name in done]
    missing = len(manifest.units) - len(units)
    for unit in units:
        try:
            counts, gap, found = _verify_unit(output, manifest, unit, seen)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += found
        total += counts
        worst = max(worst, gap)
    success = read_success(output)
    if missing:
        problems.append(f"{missing} of {len(manifest.units)} units are not committed; run the job again to go on")
        if success is not None:
            problems.append("_SUCCESS is there although units are missing")
    elif success is None:
        problems.append("_SUCCESS is missing although every unit is committed; run the job again")
    elif success != {"units": len(manifest.units), **total.asdict()}:
        problems.append(f"_SUCCESS says {dict(success)}, the tables say {total.asdict()}")
    return Verification(tuple(problems), total, len(manifest.units), len(units), worst)


def _verify_unit(
    output: str, manifest: Manifest, unit: Unit, seen: dict[tuple[str, int], str]
) -> tuple[UnitCounts, float, list[str]]:
    where = f"videos/{unit.name}"
    videos, metadata = _read(videos_url(output, unit), VIDEOS, where)
    rows, _ = _read(attributions_url(output, unit), ATTRIBUTIONS, f"attributions/{unit.name}")
    counts = counts_of(metadata, where)
    problems = [f"{where}: {problem}" for problem in _count_problems(unit, counts, videos, rows)]
    status = videos.column("status").to_pylist()
    keys = list(zip(videos.column("video_id").to_pylist(), videos.column("n_elements").to_pylist(), strict=True))
    for key, state in zip(keys, status, strict=True):
        if state == "failed":
            continue  # a repeated or missing id is a failed row of its own
        if key in seen:
            problems.append(f"{where}: video {key[0]!r} at {key[1]} elements stands in {seen[key]} too")
        seen[key] = where
    good = videos.filter(pc.equal(videos.column("status"), "ok"))
    gaps, found = _value_problems(good, rows, manifest)
    return counts, gaps, [*problems, *(f"attributions/{unit.name}: {problem}" for problem in found)]


def _count_problems(unit: Unit, counts: UnitCounts, videos: pa.Table, rows: pa.Table) -> Iterator[str]:
    if counts.rows != unit.rows or counts.ok + counts.skipped + counts.failed != counts.rows:
        yield f"expected {unit.rows} input rows by the plan, got {counts.asdict()}"
    if (videos.num_rows, rows.num_rows) != (counts.video_rows, counts.attribution_rows):
        yield (
            f"expected {counts.video_rows} videos and {counts.attribution_rows} attributions by its footer, got "
            f"{videos.num_rows} and {rows.num_rows}"
        )
    unknown = set(pc.unique(videos.column("status")).to_pylist()) - {"ok", "skipped", "failed"}
    if unknown:
        yield f"expected status ok, skipped or failed, got {sorted(unknown)}"
    unexplained = videos.filter(
        pc.and_(pc.not_equal(videos.column("status"), "ok"), pc.is_null(videos.column("reason")))
    )
    if unexplained.num_rows:
        yield f"{unexplained.num_rows} videos that are not ok have no reason"


def _value_problems(good: pa.Table, rows: pa.Table, manifest: Manifest) -> tuple[float, list[str]]:
    """The worst efficiency gap of the exact rows of a unit, and what is wrong with its attributions."""
    problems = []
    prior = manifest.model["prior"]
    if not np.isfinite(rows.column("esv").to_numpy()).all():
        problems.append("ESVs are not finite")
    errors = rows.column("stderr").drop_null().to_numpy()
    if not np.isfinite(errors).all() or (errors < 0).any():
        problems.append("standard errors are not finite and >= 0")
    place = {
        key: index
        for index, key in enumerate(
            zip(good.column("video_id").to_pylist(), good.column("n_elements").to_pylist(), strict=True)
        )
    }
    groups = rows.group_by(["video_id", "n_elements", "class"], use_threads=False).aggregate(
        [("esv", "sum"), ("element", "count_distinct"), ("element", "min"), ("element", "max"), ("element", "count")]
    )
    exact, scores = good.column("exact").to_pylist(), good.column("scores").to_pylist()
    worst = 0.0
    attributed = set()
    for group in groups.to_pylist():
        index, n = place.get((group["video_id"], group["n_elements"])), group["n_elements"]
        attributed.add(index)
        name = f"video {group['video_id']!r} at {n} elements, class {group['class']}"
        if index is None:
            problems.append(f"{name}: attributions without an `ok` row in videos")
            continue
        shape = tuple(group[f"element_{what}"] for what in ("count", "count_distinct", "min", "max"))
        if shape != (n, n, 0, n - 1):
            problems.append(f"{name}: expected one row for each element 0..{n - 1}, got {shape[0]} rows")
        elif exact[index]:
            gap = abs(group["esv_sum"] - (scores[index][group["class"]] - prior[group["class"]]))
            worst = max(worst, gap)
            if gap > MOST_GAP:
                problems.append(f"{name}: efficiency gap {gap:.2g}, expected at most {MOST_GAP:g}")
    if any(choice != "label" for choice in manifest.spec["classes"]):
        lost = [key for key, index in place.items() if index not in attributed]
        problems += [f"video {key[0]!r} at {key[1]} elements: no attributions" for key in lost]
    recorded = [gap for gap, sure in zip(good.column("efficiency_gap").to_pylist(), exact, strict=True) if sure]
    if any(gap is None or not gap <= MOST_GAP for gap in recorded):
        problems.append(f"efficiency_gap of exact rows: expected at most {MOST_GAP:g}, got {max(recorded)}")
    return max([float(worst), *(gap for gap in recorded if gap is not None)]), problems


def _read(url: str, schema: pa.Schema, where: str) -> tuple[pa.Table, pq.FileMetaData]:
    fs, path = storage.open_location(url)
    with storage.locating(url, "read the output"), fs.open(path, "rb") as file:
        try:
            parquet = pq.ParquetFile(file)
            table = parquet.read()
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise DataError(f"{where}: not readable as Parquet: {' '.join(str(error).split())[:200]}") from None
        if not table.schema.equals(schema, check_metadata=False):
            raise DataError(
                f"{where}: expected the columns {schema.names} of the contract's types, got {table.schema.names}"
            )
        return table, parquet.metadata
