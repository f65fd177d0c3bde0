"""Facet `positions`: where the most supporting and the most distracting elements are (Fig. 4b of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect, shares_of_several
from esv_ray.analysis.facets.words import (
    Row,
    capitalized,
    counted,
    joined,
    more,
    of_main_length,
    other_lengths,
    percent,
    rounded,
    span,
    within_percent,
    without_esvs,
)
from esv_ray.analysis.figures.wording import place_name

_SHOWN = 16
_KINDS = ("most_supporting", "most_distracting")

_QUERY = """
SELECT n_elements, element, videos, round(supporting, 9) / videos AS most_supporting,
  round(distracting, 9) / videos AS most_distracting, round(supporting, 9) AS _supporting,
  round(distracting, 9) AS _distracting, tied AS videos_tied, best_videos AS most_supporting_videos,
  worst_videos AS most_distracting_videos
FROM position_counts ORDER BY n_elements, element
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, of_length = of_main_length(table, analyzed)
    rows = of_length.to_pylist()
    if n == 1:
        return Page(["Sequences of one element have one position."], note=other_lengths(table, n))
    first, last = (max(rows, key=lambda row: row[name]) for name in ("most_supporting", "most_distracting"))
    shown = rows if len(rows) <= _SHOWN else sorted(rows, key=lambda row: -row["most_supporting"])
    return Page(
        [
            f"The most supporting of {n} elements is most often {place_name(first['element'], n)} "
            f"({percent(first['most_supporting'], 1)} of videos), the most distracting one "
            f"{place_name(last['element'], n)} ({percent(last['most_distracting'], 1)}); by chance each would have "
            f"{rounded(1 / n)}.{'' if _found(rows, n).clear else ' No element is clear of chance.'}",
            *_tied(first),
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
        note=joined([more(_SHOWN, n, "elements"), without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def _tied(row: Row) -> list[str]:
    """Return what is said of videos with several largest or smallest ESVs."""
    count = row["videos_tied"]
    if not count:
        return []
    return [
        f"In {count:,} of {counted(row['videos'], 'video')} several elements have the largest or the smallest ESV: "
        "each of k equal ones counts 1/k."
    ]


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the element whose share of most supporting or most distracting ones is most above that by chance."""
    if not table.num_rows:
        return None
    n, of_length = of_main_length(table, analyzed)
    return _found(of_length.to_pylist(), n, tables) if n > 1 else None


def _found(rows: list[Row], n: int, tables: int = 1) -> Finding:
    compared = len(_KINDS) * len(rows) * tables
    found = [
        Finding(
            FACET.name,
            f"{capitalized(place_name(row['element'], n))} is the {name.replace('_', ' ')} one in "
            f"{rounded(row[name])} of {counted(row['videos'], 'video')}{within_percent(*ends, compared=compared)}; by "
            f"chance {rounded(1 / n)}.",
            effect(ends[0], 1.0, 1 / n),
        )
        for name in _KINDS
        for row, ends in zip(rows, shares_of_several(rows, name, "videos", compared), strict=True)
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
            WITH ends AS (SELECT n_elements, esv, list_max(esv) AS top, list_min(esv) AS last FROM sequences),
            counted AS (
              SELECT *, len(list_filter(esv, lambda x: x = top)) AS tops,
                len(list_filter(esv, lambda x: x = last)) AS lasts
              FROM ends
            ), placed AS (
              SELECT unnest(range(n_elements))::INTEGER AS element, unnest(esv) AS x, * FROM counted
            )
            SELECT n_elements, element, count(*) AS videos, sum((x = top)::INTEGER / tops) AS supporting,
              sum((x = last)::INTEGER / lasts) AS distracting, count_if(tops > 1 OR lasts > 1)::BIGINT AS tied,
              count_if(x = top)::BIGINT AS best_videos, count_if(x = last)::BIGINT AS worst_videos
            FROM placed GROUP BY ALL
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
