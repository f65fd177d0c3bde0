"""Facet `pairs`: of two elements, which has the larger ESV (Fig. 5 of the paper)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect, exact_ends
from esv_ray.analysis.facets.words import (
    Row,
    capitalized,
    class_name,
    counted,
    joined,
    of_main_length,
    other_lengths,
    percent,
    rounded,
    span,
    within_percent,
    without_esvs,
)
from esv_ray.analysis.figures.wording import place_name

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


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    longer = [n for n in analyzed.census.lengths if n > MOST_ELEMENTS]
    left_out = f"Sequences of more than {MOST_ELEMENTS} elements are left out." if longer else ""
    if not table.num_rows:
        return Page(["No ESVs of the class for sequences of 2 elements or more."], note=left_out)
    n, of_length = of_main_length(table, analyzed)
    once = _once(of_length)
    top = _clearest_of_all(once)
    clearest = _clearest(once, _SHOWN)
    listed = (
        f"Listed, of {once.num_rows:,} pairs of elements and classes: those with the clearest order"
        f"{'' if any(map(_is_clear, clearest)) else ' (none is clear of chance)'}. Intervals hold at 95 % for all of "
        "these pairs together (Bonferroni)."
    )
    return Page(
        [_sentence(top, n, once.num_rows)],
        ("class", "i", "j", "videos", "ESV i > j", "95 %, all"),
        [
            (
                class_name(row["class"], analyzed),
                str(row["element_i"]),
                str(row["element_j"]),
                str(row["videos"]),
                percent(row["share"]),
                span(row["low"], row["high"], shares=True),
            )
            for row in clearest
        ],
        names=1,
        note=joined([listed, left_out, without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def _once(table: pa.Table, tables: int = 1) -> pa.Table:
    """Return each pair once, in the order that more videos have, with intervals that hold for all pairs together.

    Equal ESVs count for neither order.
    """
    keys = [("class", "ascending"), ("n_elements", "ascending")]
    forth = table.sort_by([*keys, ("element_i", "ascending"), ("element_j", "ascending")])
    back = table.sort_by([*keys, ("element_j", "ascending"), ("element_i", "ascending")])
    share, opposite = (each.column("share").to_numpy() for each in (forth, back))
    before = pc.less(forth.column("element_i"), forth.column("element_j")).to_numpy()
    once = forth.filter(pa.array((share > opposite) | ((share == opposite) & before)))
    shares, videos = (once.column(name).to_numpy() for name in ("share", "videos"))
    for name, ends in zip(
        ("low", "high"), exact_ends(np.rint(shares * videos), videos, once.num_rows * tables), strict=True
    ):
        once = once.set_column(once.column_names.index(name), name, pa.array(ends, mask=np.isnan(ends)))
    return once


def _clearest(table: pa.Table, most: int) -> list[Row]:
    """Return the rows whose intervals begin at the largest shares."""
    order = [("low", "descending"), ("class", "ascending"), ("element_i", "ascending"), ("element_j", "ascending")]
    rows: list[Row] = table.take(pc.select_k_unstable(table, most, order)).to_pylist()
    return rows


def _clearest_of_all(once: pa.Table) -> Row:
    """Return the row over all classes whose interval begins at the largest share."""
    (top,) = _clearest(once.filter(pc.is_null(once.column("class"))), 1)
    return top


def _is_clear(row: Row) -> bool:
    return row["low"] is not None and row["low"] > 0.5


def _sentence(row: Row, n: int, compared: int) -> str:
    """Return in how many videos the clearest pair has this order, and whether this is clear of chance."""
    sentence = (
        f"{capitalized(place_name(row['element_i'], n))} has a larger ESV than "
        f"{place_name(row['element_j'], n)} in {rounded(row['share'])} of {counted(row['videos'], 'video')}"
        f"{within_percent(row['low'], row['high'], compared=compared)}; by chance 50 %"
    )
    return f"{sentence}." if _is_clear(row) else f"{sentence}: no pair of elements is clear of chance."


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the pair, over all classes, with the clearest order."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    once = _once(rows, tables)
    top = _clearest_of_all(once)
    return Finding(FACET.name, _sentence(top, n, once.num_rows * tables), effect(top["low"], 1.0, 0.5))


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
