"""One committed unit looked at closely: its two files, their checksums, counts and values."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.tables.features import names_of
from esv_ray.tables.manifest import Manifest, attributions_url, videos_url
from esv_ray.tables.schemas import ATTRIBUTIONS, VIDEOS
from esv_ray.tables.unit_files import UnitCounts, UnitFooter, check_origin, footer_of, origin_for, origin_of
from esv_ray.tables.units import Unit

MOST_GAP = 1e-4  # efficiency of exact float32 ESVs: observed 3e-7 and less
_LEAST_SCORE = 1e-30  # smaller ones have lost digits in float32
MOST_LOGIT_GAP = 1e-3  # logits are tens: observed 1e-5 and less


@dataclass(frozen=True)
class UnitFindings:
    """What a unit's files are.

    Attributes:
        counts: of its footer.
        worst_gap: largest efficiency gap of an exact row, 0 without any.
        problems: one line each.
        videos: its videos table.
    """

    counts: UnitCounts
    worst_gap: float
    problems: tuple[str, ...]
    videos: pa.Table


def verify_unit(output: str, manifest: Manifest, unit: Unit) -> UnitFindings:
    """Look at a unit.

    Raises:
        StorageError: the storage refuses.
        DataError: a file is missing or broken.
        JobError: it is of another job, or of other rows than the plan says.
    """
    where = f"videos/{unit.name}"
    videos, metadata, _ = _read(videos_url(output, unit), VIDEOS, where)
    beside = f"attributions/{unit.name}"
    rows, of_rows, checksum = _read(attributions_url(output, unit), ATTRIBUTIONS, beside)
    footer, own = footer_of(metadata, where), origin_for(unit, manifest.job)
    check_origin(footer.origin, own, where)
    check_origin(origin_of(of_rows, beside), own, beside)
    problems = [f"{where}: {problem}" for problem in _count_problems(unit, footer, videos, rows)]
    good = videos.filter(pc.equal(videos.column("status"), "ok"))
    gap, found = _value_problems(good, rows, manifest)
    if checksum != footer.attributions:
        found = [*found, "not the file that was committed with its videos (its checksum is another)"]
    problems += [f"attributions/{unit.name}: {problem}" for problem in found]
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
    in_logits = manifest.spec["estimator"]["output"] == "logit"
    most = MOST_LOGIT_GAP if in_logits else MOST_GAP
    shifts: dict[int, list[float]] = {}
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
        [
            ("esv", "sum"),
            ("element", "count_distinct"),
            ("element", "min"),
            ("element", "max"),
            ("element", "count"),
            ("stderr", "count"),
        ]
    )
    exact, scores = good.column("exact").to_pylist(), good.column("scores").to_pylist()
    recorded = good.column("efficiency_gap").to_pylist()
    odd = _score_problems(good, len(prior))
    problems += odd.values()
    worst = 0.0
    attributed = set()
    for group in groups.to_pylist():
        index, n = place.get((group["video_id"], group["n_elements"])), group["n_elements"]
        attributed.add(index)
        name = f"video {group['video_id']!r} at {n} elements, class {group['class']}"
        if index is None:
            problems.append(f"{name}: attributions without an `ok` row in videos")
            continue
        if not 0 <= group["class"] < len(prior):
            problems.append(f"{name}: expected classes 0..{len(prior) - 1}")
            continue
        if exact[index] and group["stderr_count"]:
            problems.append(f"{name}: exact ESVs have no standard errors")
        shape = tuple(group[f"element_{what}"] for what in ("count", "count_distinct", "min", "max"))
        if shape != (n, n, 0, n - 1):
            problems.append(f"{name}: expected one row for each element 0..{n - 1}, got {shape[0]} rows")
        elif index not in odd:
            score, before = scores[index][group["class"]], prior[group["class"]]
            if in_logits:
                if score > _LEAST_SCORE:
                    shifts.setdefault(index, []).append(group["esv_sum"] + np.log(before) - np.log(score))
                continue
            gap = abs(group["esv_sum"] - (score - before))
            worst = max(worst, gap) if exact[index] else worst
            # Sampled ESVs may miss efficiency by what their job recorded, the largest gap of all classes.
            allowed = most + (0.0 if exact[index] else recorded[index] or 0.0)
            if gap > allowed and np.isfinite(group["esv_sum"]):  # what is not finite was told
                problems.append(f"{name}: efficiency gap {gap:.2g}, expected at most {allowed:g}")
    # Probabilities tell logits up to a number that all classes of a video share.
    for index, found in shifts.items():
        gap = max(found) - min(found)
        worst = max(worst, gap) if exact[index] else worst
        allowed = most + (0.0 if exact[index] else 2 * (recorded[index] or 0.0))
        if gap > allowed:
            video_id = good.column("video_id")[index].as_py()
            problems.append(
                f"video {video_id!r} at {good.column('n_elements')[index].as_py()} elements: efficiency gap {gap:.2g} "
                f"between classes, expected at most {allowed:g}"
            )
    if any(choice != "label" for choice in manifest.spec["classes"]):
        lost = [key for key, index in place.items() if index not in attributed]
        problems += [f"video {key[0]!r} at {key[1]} elements: no attributions" for key in lost]
    if good.column("efficiency_gap").null_count:
        problems.append("videos that are ok have no efficiency_gap")
    sure = [gap for gap, is_exact in zip(recorded, exact, strict=True) if is_exact and gap is not None]
    beyond = [gap for gap in sure if not gap <= most]
    if beyond:
        problems.append(f"efficiency_gap of exact rows: expected at most {most:g}, got {max(beyond)}")
    return max([float(worst), *sure]), problems


def _score_problems(good: pa.Table, n_classes: int) -> dict[int, str]:
    """What is wrong with scores and predicted classes, by row of the good videos."""
    found = {}
    rows = (good.column(name).to_pylist() for name in ("video_id", "n_elements", "scores", "predicted"))
    for index, (video_id, n, scores, predicted) in enumerate(zip(*rows, strict=True)):
        values = np.array([np.nan if score is None else score for score in scores or ()], dtype=np.float64)
        name = f"video {video_id!r} at {n} elements"
        if len(values) != n_classes or not np.isfinite(values).all() or abs(values.sum() - 1) > 1e-3:
            found[index] = f"{name}: expected {n_classes} scores that sum to 1"
        elif predicted != int(np.argmax(values)):
            found[index] = f"{name}: expected the class of the largest score as predicted, got {predicted}"
    return found


def _read(url: str, schema: pa.Schema, where: str) -> tuple[pa.Table, pq.FileMetaData, str]:
    """A table, what its footer says, and the checksum of its file."""
    data = storage.read_bytes(url, "read the output")
    try:
        parquet = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        table = parquet.read()
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{where}: not readable as Parquet: {' '.join(str(error).split())[:200]}") from None
    names = names_of(table.schema, where)
    if not table.schema.equals(schema, check_metadata=False):
        raise DataError(f"{where}: expected the columns {schema.names} of the contract's types, got {names}")
    return table, parquet.metadata, hashlib.sha256(data).hexdigest()
