"""Facet `interactions`: mean Shapley interaction index of pairs of elements."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.words import (
    capitalized,
    class_name,
    joined,
    of_main_length,
    other_lengths,
    short_name,
    signed,
    span,
    within,
    without_esvs,
)
from esv_ray.analysis.figures.wording import place_name

_SHOWN = 5
_LARGEST = 2.0  # of an interaction in probability: the difference of two changes of at most 1

_QUERY = """
WITH firsts AS (
  SELECT n_elements, unnest(range(n_elements))::INTEGER AS i FROM (SELECT DISTINCT n_elements FROM interaction_means)
), pairs AS (SELECT n_elements, i, unnest(range(i + 1, n_elements))::INTEGER AS j FROM firsts),
numbered AS (SELECT *, row_number() OVER (PARTITION BY n_elements ORDER BY i, j) AS place FROM pairs)
SELECT class, n_elements, i AS element_i, j AS element_j, videos, mean[place] AS mean, low[place] AS low,
  high[place] AS high
FROM interaction_means JOIN numbered USING (n_elements)
ORDER BY class NULLS FIRST, n_elements, element_i, element_j
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No interactions of the class."])
    n, of_length = of_main_length(table, analyzed)
    of_all = of_length.filter(pc.is_null(of_length.column("class"))).to_pylist()
    near = [row for row in of_all if row["element_j"] - row["element_i"] == 1]
    far = [row for row in of_all if row["element_j"] - row["element_i"] > 1]
    sized = of_length.append_column("size", pc.abs(of_length.column("mean")))
    order = [("size", "descending"), ("class", "ascending"), ("element_i", "ascending"), ("element_j", "ascending")]
    strongest = sized.take(pc.select_k_unstable(sized, _SHOWN, order)).to_pylist()
    top = strongest[0]
    return Page(
        [
            f"Above 0, two elements say more together than apart; below, they say the same. Mean of neighbors "
            f"{_mean(near)}, of others {_mean(far)}. The strongest: "
            f"{place_name(top['element_i'], n)} and {place_name(top['element_j'], n)} of "
            f"{short_name(top['class'], analyzed)}, {signed(top['mean'])}."
        ],
        ("class", "i", "j", "videos", "interaction", "95 %"),
        [
            (
                class_name(row["class"], analyzed),
                str(row["element_i"]),
                str(row["element_j"]),
                str(row["videos"]),
                signed(row["mean"], 4),
                span(row["low"], row["high"]),
            )
            for row in strongest
        ],
        names=1,
        note=joined([without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def _mean(rows: list[dict[str, float]]) -> str:
    return signed(sum(row["mean"] for row in rows) / len(rows) if rows else None, 4)


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the pair, over all classes, whose interaction is farthest from 0; logits have no largest value."""
    if not table.num_rows or analyzed.in_logits:
        return None
    n, of_length = of_main_length(table, analyzed)
    rows = of_length.filter(pc.is_null(of_length.column("class"))).to_pylist()
    found, compared = [], len(rows) * tables
    for row, (low, high) in zip(rows, means_of_several(rows, "mean", compared), strict=True):
        sentence = (
            f"{capitalized(place_name(row['element_i'], n))} and {place_name(row['element_j'], n)} say "
            f"{'more' if row['mean'] > 0 else 'less'} together "
            f"than apart: mean interaction {signed(row['mean'], 4)}{within(low, high, 4, compared=compared)}; by "
            "chance 0."
        )
        found.append(Finding(FACET.name, sentence, effect(low, high, 0.0, least=-_LARGEST, most=_LARGEST)))
    return max(found, key=lambda each: each.effect, default=None)


FACET = Facet(
    name="interactions",
    title="Interactions",
    reads=("interactions",),
    uses=("explained",),
    values=(
        Values(
            "interaction_means",
            {"class": pa.int32(), "n_elements": pa.int32()},
            """
            SELECT video_id, class, n_elements, list(interaction::DOUBLE ORDER BY element_i, element_j) AS values
            FROM interactions JOIN explained USING (video_id, n_elements, class)
            GROUP BY ALL HAVING count(*) = n_elements * (n_elements - 1) // 2
            """,
            over="class",
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
)
