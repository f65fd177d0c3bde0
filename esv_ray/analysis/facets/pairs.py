"""Facet `pairs`: of two elements, which has the larger ESV (Fig. 5 of the paper)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect
from esv_ray.analysis.facets.words import (
    Row,
    class_name,
    joined,
    of_main_length,
    other_lengths,
    percent,
    place_name,
    span,
    within_percent,
    without_esvs,
)
from esv_ray.analysis.statistics import LEVEL, wilson
from esv_ray.analysis.student import level_of_each

PER_CLASS = 32
"""Most elements of a sequence whose pairs are counted per class."""
MOST_ELEMENTS = 128
"""Most elements of a sequence whose pairs are counted: the table has n (n - 1) rows for a length of n."""
_SHOWN = 5

_QUERY = """
WITH directed AS (
  SELECT class, n_elements, i, j, videos, greater FROM pair_counts
  UNION ALL SELECT class, n_elements, j, i, videos, less FROM pair_counts
), all_classes AS (
  SELECT NULL::INTEGER AS class, n_elements, i, j, sum(videos)::BIGINT AS videos, sum(greater)::BIGINT AS greater
  FROM directed GROUP BY n_elements, i, j
)
SELECT class, n_elements, i AS element_i, j AS element_j, videos, greater / videos AS share, greater AS _greater
FROM (SELECT * FROM all_classes UNION ALL SELECT * FROM directed WHERE class IS NOT NULL)
ORDER BY class NULLS FIRST, n_elements, element_i, element_j
"""


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    longer = [n for n in analysed.census.lengths if n > MOST_ELEMENTS]
    left_out = f"Sequences of more than {MOST_ELEMENTS} elements are left out." if longer else ""
    if not table.num_rows:
        return Page(["No ESVs of the class for sequences of 2 elements or more."], note=left_out)
    n, of_length = of_main_length(table, analysed)
    once = _once(of_length)
    top = _surest_of_all(once)
    surest = _surest(_at_level(once, level_of_each(LEVEL, once.num_rows)), _SHOWN)
    clear = sum(row["low"] > 0.5 or row["high"] < 0.5 for row in surest)
    ranked = (
        f"Listed: of {once.num_rows:,} pairs of elements and classes, those with intervals farthest from one half"
        f"{'' if clear else ' (none is clear of it)'}. Intervals hold at 95 % for all of "
        "these pairs together (Bonferroni)."
    )
    return Page(
        [
            f"Over all classes, element {top['element_i']} has a larger ESV than element {top['element_j']} in "
            f"{percent(top['share'], 1)} of videos; no other pair of the {n} elements is farther from one half."
        ],
        ("class", "i", "j", "videos", "ESV i > j", "95 %, all"),
        [
            (
                class_name(row["class"], analysed),
                str(row["element_i"]),
                str(row["element_j"]),
                str(row["videos"]),
                percent(row["share"]),
                span(row["low"], row["high"], shares=True),
            )
            for row in surest
        ],
        names=1,
        note=joined([ranked, left_out, without_esvs(analysed, n), other_lengths(table, n)]),
    )


def _once(table: pa.Table) -> pa.Table:
    """Return each pair once: i before j."""
    return table.filter(pc.less(table.column("element_i"), table.column("element_j")))


def _surest_of_all(table: pa.Table) -> Row:
    (top,) = _surest(table.filter(pc.is_null(table.column("class"))), 1)
    return top


def _at_level(table: pa.Table, level: float) -> pa.Table:
    """Return rows with intervals of another level."""
    shares, videos = (table.column(name).to_numpy() for name in ("share", "videos"))
    for name, ends in zip(("low", "high"), wilson(np.rint(shares * videos), videos, level), strict=True):
        table = table.set_column(table.column_names.index(name), name, pa.array(ends))
    return table


def _surest(table: pa.Table, most: int) -> list[Row]:
    """Return the rows whose intervals are farthest from one half."""
    above, below = pc.subtract(table.column("low"), 0.5), pc.subtract(0.5, table.column("high"))
    table = table.append_column("distance", pc.max_element_wise(above, below))
    order = [("distance", "descending"), ("class", "ascending"), ("element_i", "ascending"), ("element_j", "ascending")]
    rows: list[Row] = table.take(pc.select_k_unstable(table, most, order)).to_pylist()
    return rows


def finding(table: pa.Table, analysed: Analysed) -> Finding | None:
    """Return the pair, over all classes, whose interval is farthest from one half."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analysed)
    once = _once(rows)
    of_all = once.filter(pc.is_null(once.column("class")))
    compared = of_all.num_rows
    top = _surest_of_all(_at_level(of_all, level_of_each(LEVEL, compared)))
    first, second, share, ends = top["element_i"], top["element_j"], top["share"], (top["low"], top["high"])
    if share < 0.5:  # equal ESVs, if there are any, count for neither
        word = "no larger ESV than"
        share, ends = 1 - share, (1 - ends[1], 1 - ends[0])
    else:
        word = "a larger ESV than"
    sentence = (
        f"{place_name(first, n).capitalize()} of {n} has {word} {place_name(second, n)} in {percent(share)} of "
        f"videos{within_percent(*ends, compared=compared)}; by chance 50 %."
    )
    return Finding(FACET.name, sentence, effect(top["low"], top["high"], 0.5))


FACET = Facet(
    name="pairs",
    title="Pairs of elements",
    reads=("videos", "attributions"),
    uses=("sequences",),
    counts=(
        Counts(
            "pair_counts",
            ("class", "n_elements", "i", "j"),
            f"""
            WITH lengths AS (SELECT DISTINCT n_elements FROM sequences WHERE n_elements <= {MOST_ELEMENTS}),
            firsts AS (SELECT n_elements, unnest(range(n_elements))::INTEGER AS i FROM lengths),
            places AS (SELECT n_elements, i, unnest(range(i + 1, n_elements))::INTEGER AS j FROM firsts)
            SELECT CASE WHEN n_elements <= {PER_CLASS} THEN class END AS class, n_elements, i, j, count(*) AS videos,
              count_if(esv[i + 1] > esv[j + 1]) AS greater, count_if(esv[i + 1] < esv[j + 1]) AS less
            FROM sequences JOIN places USING (n_elements) GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("_greater", "videos", "low", "high"),),
    page=page,
    finding=finding,
)
