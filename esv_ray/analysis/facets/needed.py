"""Facet `needed`: the fewest elements whose score reaches 90 % of the whole sequence's; of exact jobs."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.words import (
    Row,
    class_name,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    short_name,
)
from esv_ray.errors import count_of

_ENDS = 5
_FEWEST = 5  # videos of a class that is shown

_QUERY = """
WITH all_classes AS (
  SELECT NULL::INTEGER AS class, n_elements, elements, sum(videos)::BIGINT AS videos
  FROM needed_counts GROUP BY n_elements, elements
), counts AS (SELECT * FROM all_classes UNION ALL SELECT class, n_elements, elements, videos FROM needed_counts),
groups AS (SELECT class, n_elements, sum(videos)::BIGINT AS total FROM counts GROUP BY class, n_elements)
SELECT g.class, g.n_elements, k.elements, coalesce(c.videos, 0) AS videos, coalesce(c.videos, 0) / g.total AS share,
  g.total AS _total
FROM groups AS g
CROSS JOIN LATERAL (SELECT unnest(range(1, g.n_elements + 1))::INTEGER AS elements) AS k
LEFT JOIN counts AS c ON c.class IS NOT DISTINCT FROM g.class AND c.n_elements = g.n_elements
  AND c.elements = k.elements
ORDER BY g.class NULLS FIRST, g.n_elements, k.elements
"""


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed: all classes, and those that need least and most."""
    if not table.num_rows:
        return Page(["The job did not evaluate all subsequences: only exact ones in probability know this."])
    n, of_length = of_main_length(table)
    groups: dict[int | None, list[Row]] = {}
    for row in of_length.to_pylist():
        groups.setdefault(row["class"], []).append(row)
    of_classes = sorted((each for each in groups if each is not None), key=lambda each: _mean(groups[each]))
    known = [each for each in of_classes if _videos(groups[each]) >= _FEWEST] or of_classes
    shown = list(dict.fromkeys([None, *known[:_ENDS], *known[-_ENDS:]]))
    enough = _typical(groups[None])
    return Page(
        [
            f"{count_of(enough, 'element')} of {n} {'is' if enough == 1 else 'are'} enough for half of the videos: the "
            "best of all subsequences of that many reaches 90 % of the probability that the whole sequence gives the "
            f"label (the predicted class where there is none). {short_name(known[0], analysed)} needs "
            f"{plain(_mean(groups[known[0]]), 1)} on average."
        ],
        ("class", "videos", "mean needed", "half need", "1 is enough"),
        [
            (
                class_name(each, analysed),
                str(_videos(groups[each])),
                plain(_mean(groups[each]), 1),
                str(_typical(groups[each])),
                percent(groups[each][0]["share"]),
            )
            for each in shown
        ],
        names=1,
        note=joined(
            [
                f"The classes that need least and most, of {len(of_classes)}." if len(shown) <= len(of_classes) else "",
                other_lengths(table, n),
            ]
        ),
    )


def _videos(rows: list[Row]) -> int:
    return sum(row["videos"] for row in rows)


def _mean(rows: list[Row]) -> float:
    return float(sum(row["elements"] * row["videos"] for row in rows) / _videos(rows))


def _typical(rows: list[Row]) -> int:
    """Return the median."""
    below = 0
    for row in rows:
        below += row["videos"]
        if 2 * below >= _videos(rows):
            return int(row["elements"])
    raise AssertionError("half of the videos are below the last row")


FACET = Facet(
    name="needed",
    title="Fewest elements needed",
    reads=("discards",),
    uses=(),
    counts=(
        Counts(
            "needed_counts",
            ("class", "n_elements", "elements"),
            """
            WITH curves AS (
              SELECT video_id, class, n_elements, n_elements - discarded AS elements, best,
                max(score) FILTER (discarded = 0) OVER (PARTITION BY video_id, n_elements) AS whole
              FROM discards WHERE method = 'esv' AND "order" = 'descending'
            ), fewest AS (
              SELECT class, n_elements, min(elements) AS elements FROM curves
              WHERE elements > 0 AND best::DOUBLE >= 0.9 * whole::DOUBLE GROUP BY video_id, class, n_elements
            )
            SELECT class, n_elements, elements, count(*) AS videos FROM fewest GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("videos", "_total", "low", "high"),),
    page=page,
)
