"""Open an output for analysis: its manifest, units, class names and counts, before any ESV is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import duckdb

from esv_ray.analysis.database import add_classes, add_tables, connect, reading
from esv_ray.analysis.moments import lacks_moments
from esv_ray.errors import DataError, SpecError, count_of
from esv_ray.input.files import list_files
from esv_ray.output.committed import committed_units, read_footers_of
from esv_ray.output.layout import VIDEOS
from esv_ray.output.manifest import Manifest, existing_manifest
from esv_ray.output.repeats import find_repeats
from esv_ray.output.unit_files import UnitFooter

ClassName = Literal["label", "predicted"]
CLASS_NAMES: tuple[ClassName, ...] = ("label", "predicted")


@dataclass(frozen=True)
class Census:
    """Counts over the videos table.

    Attributes:
        ok, skipped, failed: number of rows of each status: one per video and length.
        labelled: number of `ok` rows with a label.
        elements: sum of the numbers of elements of `ok` rows.
        videos_of: number of `ok` rows of each number of elements, which ascend.
        classes_of: the classes that are labels of `ok` rows, and those that are predicted.
    """

    ok: int
    skipped: int
    failed: int
    labelled: int
    elements: int
    videos_of: Mapping[int, int]
    classes_of: Mapping[ClassName, frozenset[int]]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of elements of `ok` rows, ascending."""
        return tuple(self.videos_of)


@dataclass(frozen=True)
class Analyzed:
    """An output that is analyzed.

    Attributes:
        output: its location.
        manifest: its run.json.
        units: file names of its committed units, in the order of the plan.
        rows: input rows of these units.
        tables: names of its tables.
        census: counts over its videos.
        explained: the class whose ESVs are analyzed: each video's label or predicted class.
        without: number of `ok` rows of each number of elements without ESVs of that class; only those that have some.
        footers: of the videos files of these units.
        features: location of the feature table that the user gives; None: that of run.json.
    """

    output: str
    manifest: Manifest
    units: tuple[str, ...]
    rows: int
    tables: tuple[str, ...]
    census: Census
    explained: ClassName
    without: Mapping[int, int]
    footers: Sequence[UnitFooter] = field(default=(), repr=False)
    features: str | None = None

    @property
    def in_logits(self) -> bool:
        """Whether ESVs and scores are logits."""
        return bool(self.manifest.spec["estimator"]["output"] == "logit")

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods whose values the job writes; those of earlier versions have ESVs only."""
        return tuple(self.manifest.spec.get("methods", ("esv",)))

    @property
    def names(self) -> Sequence[str] | None:
        """Class names by id, or None."""
        names: Sequence[str] | None = self.manifest.model["classes"]
        return names

    @cached_property
    def lacks_moments(self) -> str | None:
        """Why there are no key moments, in words; None if the feature table has them."""
        return lacks_moments(self.output, self.manifest, self.features)

    @property
    def finished(self) -> bool:
        """Whether all units of the plan are committed."""
        return len(self.units) == len(self.manifest.units)

    @property
    def empty_values(self) -> list[float]:
        """Values of the empty sequence, by class: the class priors, or their logarithms."""
        prior = self.manifest.model["prior"]
        return [math.log(share) if share > 0 else -math.inf for share in prior] if self.in_logits else list(prior)

    @property
    def progress(self) -> str:
        """How much of a job is there, in words."""
        return (
            f"unfinished: {len(self.units)} of {count_of(len(self.manifest.units), 'unit')} committed, "
            f"{self.rows} of {count_of(self.manifest.rows, 'video')}"
        )


def open_output(output: str, explained: ClassName | None = None, features: str | None = None) -> Analyzed:
    """Read what an analysis needs to know of an output: its manifest, a listing, all footers, and columns of videos.

    Args:
        output: its location.
        explained: the class whose ESVs are analyzed; None: the label if the job keeps its ESVs of all labeled videos,
            else the predicted class.
        features: location of the feature table, which may have key moments; None: that of run.json, if it is trusted.

    Raises:
        DataError: there is no output, no unit is committed yet, a table cannot be read, or it holds videos several
            times; the feature table that the user gives does not exist.
        JobError: a file is of another job, or of other rows than the plan says.
        SpecError: the output has no labels, or its job keeps no ESVs of that class.
    """
    manifest = existing_manifest(output)
    if features is not None:
        list_files(features)  # refuses a location without Parquet files
    units = committed_units(output, manifest.units, manifest.folders)
    if not units:
        raise DataError(
            f"{output}: expected committed units, found none of {len(manifest.units)} yet; run the job first"
        )
    footers = read_footers_of(output, units, manifest.job, beside=manifest.folders[1:])
    repeats = find_repeats(output, units, footers)
    if repeats.number:
        raise DataError(f"{output}: {repeats.describe()}")
    names = tuple(unit.name for unit in units)
    kept, n_classes = manifest.spec["classes"], len(manifest.model["prior"])
    with connect() as con, reading(output):
        add_tables(con, output, names, [VIDEOS])
        census = _census(con)
        chosen = _explained(explained, census, kept, n_classes)
        without = _without(con, chosen, kept)
    return Analyzed(
        output=output,
        manifest=manifest,
        units=names,
        rows=sum(unit.rows for unit in units),
        tables=manifest.folders,
        census=census,
        explained=chosen,
        without=without,
        footers=footers,
        features=features,
    )


def add_priors(con: duckdb.DuckDBPyConnection, analyzed: Analyzed) -> None:
    """Add the tables `classes` (id, name) and `priors` (class, prior: the value of the empty sequence).

    The variable `in_logits` says whether scores are logits.
    """
    add_classes(con, analyzed.manifest)
    con.execute(f"SET VARIABLE in_logits = {analyzed.in_logits}")
    con.execute("CREATE OR REPLACE TABLE priors (class INTEGER, prior DOUBLE)")
    con.execute(
        "INSERT INTO priors SELECT unnest(range(len($1)))::INTEGER, unnest($1)::DOUBLE", [analyzed.empty_values]
    )


def _census(con: duckdb.DuckDBPyConnection) -> Census:
    """Count videos, and leave the table `counted` of numbers of rows: each scan opens every file of the output."""
    con.execute(
        "CREATE TEMP TABLE counted AS "
        "SELECT status, n_elements, label, predicted, count(*) AS n FROM videos GROUP BY ALL"
    )
    (counts,) = con.execute(
        """
        SELECT coalesce(sum(n) FILTER (status = 'ok'), 0), coalesce(sum(n) FILTER (status = 'skipped'), 0),
          coalesce(sum(n) FILTER (status = 'failed'), 0),
          coalesce(sum(n) FILTER (status = 'ok' AND label IS NOT NULL), 0),
          coalesce(sum(n * n_elements) FILTER (status = 'ok'), 0)
        FROM counted
        """
    ).fetchall()
    ok, skipped, failed, labelled, elements = map(int, counts)
    videos_of = con.execute(
        "SELECT n_elements, sum(n)::BIGINT FROM counted WHERE status = 'ok' GROUP BY n_elements ORDER BY n_elements"
    ).fetchall()
    classes_of: dict[ClassName, frozenset[int]] = {}
    for name in CLASS_NAMES:
        found = con.execute(
            f"SELECT DISTINCT {name} FROM counted WHERE status = 'ok' AND {name} IS NOT NULL"
        ).fetchall()
        classes_of[name] = frozenset(each for (each,) in found)
    return Census(ok, skipped, failed, labelled, elements, dict(videos_of), classes_of)


def _explained(asked: ClassName | None, census: Census, kept: Sequence[object], n_classes: int) -> ClassName:
    """Return the class to analyze: by default the label if its ESVs are kept of all labeled videos.

    If they are kept of some videos only, such as those that are recognized, these videos are a biased choice.

    Raises:
        SpecError: there are no labels, or no ESVs are kept of that class.
    """
    if asked is None:
        return "label" if census.labelled and _keeps_all_labels(census, kept, n_classes) else "predicted"
    if asked == "label" and census.ok and not census.labelled:
        raise SpecError("class: expected labels in the videos table, found none; use --class predicted")
    if asked == "label" and list(kept) == ["predicted"]:
        raise SpecError(f"class: the output keeps ESVs of {_listed(kept)} only, got label; use --class predicted")
    if asked == "predicted" and list(kept) == ["label"]:
        raise SpecError(f"class: the output keeps ESVs of {_listed(kept)} only, got predicted; use --class label")
    return asked


def _keeps_all_labels(census: Census, kept: Sequence[object], n_classes: int) -> bool:
    ids = {each for each in kept if isinstance(each, int)}
    return "label" in kept or "all" in kept or _most_top(kept) >= n_classes or census.classes_of["label"] <= ids


def _most_top(kept: Sequence[object]) -> int:
    """Return the largest K of `top:K`; 0 if there is none."""
    return max((int(str(each)[4:]) for each in kept if str(each).startswith("top:")), default=0)


def _without(con: duckdb.DuckDBPyConnection, explained: ClassName, kept: Sequence[object]) -> dict[int, int]:
    """Count the videos, by number of elements, of whose label or predicted class the job keeps no ESVs.

    Args:
        con: with the table of `_census`.
        explained: label or predicted class.
        kept: `classes` of the spec.
    """
    table, rows = "counted", "sum(n)::BIGINT"
    if "all" in kept or explained in kept:
        known = f"{explained} IS NOT NULL"
    else:
        ids = ", ".join(str(each) for each in kept if isinstance(each, int))
        ways = [f"{explained} IN ({ids})"] if ids else []
        ways += ["label = predicted"] if {"label", "predicted"} & set(map(str, kept)) else []
        if _most_top(kept):
            table, rows = "videos", "count(*)"
            better = f"len(list_filter(scores, lambda x: x > scores[{explained} + 1]))"
            ways.append(f"{better} < {_most_top(kept)}")
        known = " OR ".join(ways) or "false"
    found = con.execute(
        f"SELECT n_elements, {rows} FROM {table} WHERE status = 'ok' AND NOT coalesce({known}, false) GROUP BY 1"
    ).fetchall()
    return dict(found)


def _listed(kept: Sequence[object]) -> str:
    return ", ".join(map(str, kept))
