"""Facet `positions`: where the most supporting and the most distracting elements are (Fig. 4b of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect
from esv_ray.analysis.facets.words import (
    joined,
    more,
    of_main_length,
    other_lengths,
    percent,
    place_name,
    span,
    within_percent,
)

_SHOWN = 16

_QUERY = """
SELECT g.n_elements, k.element, g.videos, coalesce(c.supporting, 0) / g.videos AS most_supporting,
  coalesce(c.distracting, 0) / g.videos AS most_distracting, coalesce(c.supporting, 0) AS _supporting,
  coalesce(c.distracting, 0) AS _distracting
FROM (SELECT n_elements, sum(supporting)::BIGINT AS videos FROM position_counts GROUP BY n_elements) AS g
CROSS JOIN LATERAL (SELECT unnest(range(g.n_elements))::INTEGER AS element) AS k
LEFT JOIN position_counts AS c USING (n_elements, element)
ORDER BY n_elements, element
"""


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, of_length = of_main_length(table)
    rows = of_length.to_pylist()
    first, last = (max(rows, key=lambda row: row[name]) for name in ("most_supporting", "most_distracting"))
    shown = rows if len(rows) <= _SHOWN else sorted(rows, key=lambda row: -row["most_supporting"])
    return Page(
        [
            f"The most supporting of {n} elements is most often element {first['element']} "
            f"({percent(first['most_supporting'], 1)} of videos), the most distracting one element {last['element']} "
            f"({percent(last['most_distracting'], 1)}); by chance each would have {percent(1 / n, 1)}."
        ],
        ("element", "most supporting", "95 %", "most distracting", "95 %"),
        [
            (
                str(row["element"]),
                percent(row["most_supporting"], 1),
                span(row["most_supporting_low"], row["most_supporting_high"], shares=True),
                percent(row["most_distracting"], 1),
                span(row["most_distracting_low"], row["most_distracting_high"], shares=True),
            )
            for row in shown[:_SHOWN]
        ],
        note=joined([more(_SHOWN, n, "elements"), other_lengths(table, n)]),
    )


def finding(table: pa.Table, analysed: Analysed) -> Finding | None:
    """Return the element whose share of most supporting or most distracting ones is most above that by chance."""
    del analysed
    if not table.num_rows:
        return None
    n, rows = of_main_length(table)
    found = [
        Finding(
            FACET.name,
            f"{place_name(row['element'], n).capitalize()} of {n} is the {name.replace('_', ' ')} one in "
            f"{percent(row[name])} of videos{within_percent(row[f'{name}_low'], row[f'{name}_high'])}; by chance "
            f"{percent(1 / n)}.",
            effect(row[f"{name}_low"], 1.0, 1 / n),
        )
        for row in rows.to_pylist()
        for name in ("most_supporting", "most_distracting")
    ]
    return max(found, key=lambda each: each.effect)


FACET = Facet(
    name="positions",
    title="Positions",
    reads=("videos", "attributions"),
    uses=("sequences",),
    counts=(
        Counts(
            "position_counts",
            ("n_elements", "element"),
            """
            SELECT n_elements, element, sum(supporting)::BIGINT AS supporting, sum(distracting)::BIGINT AS distracting
            FROM (
              SELECT n_elements, list_position(esv, list_max(esv)) - 1 AS element, 1 AS supporting, 0 AS distracting
              FROM sequences
              UNION ALL
              SELECT n_elements, list_position(esv, list_min(esv)) - 1, 0, 1 FROM sequences
            ) GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    shares=(
        Share("_supporting", "videos", "most_supporting_low", "most_supporting_high"),
        Share("_distracting", "videos", "most_distracting_low", "most_distracting_high"),
    ),
    page=page,
    finding=finding,
)
