"""Facet `profiles`: the mean ESV along the sequence, in tenths."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.measures import MEASURES, NAMES, PLACES
from esv_ray.analysis.facets.words import (
    joined,
    of_main_length,
    other_lengths,
    rounded,
    signed,
    span,
    within_percent,
    without_esvs,
)

_FIRST = len(NAMES) + 1  # lists of SQL begin at 1

_QUERY = f"""
WITH places AS (
  SELECT *, unnest(range({PLACES}))::INTEGER AS place FROM measures
), sized AS (
  SELECT *, ((place + 1) * n_elements + 9) // 10 - (place * n_elements + 9) // 10 AS elements FROM places
)
SELECT class, n_elements, place, videos * elements AS count, mean[{_FIRST} + place] AS mean,
  low[{_FIRST} + place] AS low, high[{_FIRST} + place] AS high, videos,
  sqrt(nullif(mean[{_FIRST + PLACES} + place], 0) / videos) AS stderr
FROM sized WHERE elements > 0
ORDER BY class NULLS FIRST, n_elements, place
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.filter(pc.is_null(rows.column("class"))).to_pylist()
    top, least = (pick(of_length, key=lambda row: row["mean"]) for pick in (max, min))
    lowest = f" and smallest at {_tenth(least['place'])} ({signed(least['mean'], 4)})" if len(of_length) > 1 else ""
    return Page(
        [
            f"Over all classes, the mean ESV is largest at {_tenth(top['place'])} of the sequence "
            f"({signed(top['mean'], 4)}){lowest}."
        ],
        ("part", "elements", "mean ESV", "95 %"),
        [
            (
                f"{10 * row['place']}..{10 * row['place'] + 10} %",
                str(row["count"]),
                signed(row["mean"], 4),
                span(row["low"], row["high"]),
            )
            for row in of_length
        ],
        note=joined([without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the tenth with the largest part of the absolute mean ESVs, compared with its part of the elements."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    of_length = rows.filter(pc.is_null(rows.column("class"))).to_pylist()
    elements = [row["count"] // row["videos"] for row in of_length]
    total = sum(abs(row["mean"]) * count for row, count in zip(of_length, elements, strict=True))
    if not total or len(of_length) < 2:
        return None
    found = []
    compared = len(of_length) * tables
    ends = means_of_several(of_length, "mean", compared)
    for row, count, (least, most) in zip(of_length, elements, ends, strict=True):
        share, chance = abs(row["mean"]) * count / total, count / n
        sides = _sizes(least, most)
        low, high = (None, None) if sides is None else (min(1.0, side * count / total) for side in sides)
        sentence = (
            f"The part from {_tenth(row['place'])} of the sequence has {rounded(share)} of the absolute mean ESVs"
            f"{within_percent(low, high, compared=compared)}, with {rounded(chance)} of the elements."
        )
        found.append(Finding(FACET.name, sentence, effect(low, 1.0, chance)))
    return max(found, key=lambda each: each.effect)


def _tenth(place: int) -> str:
    """Return a tenth of the sequence in words."""
    return f"{10 * place} to {10 * place + 10} %"


def _sizes(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Return the interval of an absolute value."""
    if low is None or high is None:
        return None
    return (0.0 if low < 0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))


FACET = Facet(
    name="profiles",
    title="Profile along the sequence",
    reads=("videos", "attributions"),
    uses=("sequences",),
    values=(MEASURES,),
    query=_QUERY,
    page=page,
    finding=finding,
)
