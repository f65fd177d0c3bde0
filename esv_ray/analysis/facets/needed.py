"""Facet `needed`: the fewest elements whose score reaches 90 % of the whole sequence's (exact jobs only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect, mean_with_interval
from esv_ray.analysis.facets.words import (
    Row,
    class_name,
    counted,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    short_name,
    within,
)

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
CROSS JOIN LATERAL (SELECT unnest(range(g.n_elements + 1))::INTEGER AS elements) AS k
LEFT JOIN counts AS c ON c.class IS NOT DISTINCT FROM g.class AND c.n_elements = g.n_elements
  AND c.elements = k.elements
ORDER BY g.class NULLS FIRST, g.n_elements, k.elements
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed: all classes, and those that need least and most."""
    if not table.num_rows:
        why = "The job did not evaluate all subsequences: only exact ones in probability know this."
        return Page([why if analyzed.census.ok else "No video has ESVs."])
    n, of_length = of_main_length(table, analyzed)
    groups = _groups(of_length)
    of_classes = sorted((each for each in groups if each is not None), key=lambda each: _mean(groups[each]))
    known = _known(of_classes, groups)
    shown = list(dict.fromkeys([None, *known[:_ENDS], *known[-_ENDS:]]))
    enough = _typical(groups[None])
    return Page(
        [
            f"{counted(enough, 'element')} of {n} {'is' if enough == 1 else 'are'} enough for half of the videos: the "
            "best of all subsequences of that many reaches 90 % of the probability that the whole sequence gives the "
            f"label (the predicted class where there is none). {short_name(known[0], analyzed, first=True)} "
            f"needs fewest, {plain(_mean(groups[known[0]]), 1)} on average.",
            f"In {percent(groups[None][0]['share'])} of the videos none is needed: the class prior, the score without "
            "elements, already reaches 90 %.",
        ],
        ("class", "videos", "mean needed", "half need", "none needed", "1 is enough"),
        [
            (
                class_name(each, analyzed),
                str(_videos(groups[each])),
                plain(_mean(groups[each]), 1),
                str(_typical(groups[each])),
                percent(groups[each][0]["share"]),
                percent(groups[each][0]["share"] + groups[each][1]["share"]),
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


def _groups(table: pa.Table) -> dict[int | None, list[Row]]:
    """Return the rows by class; None: all classes."""
    groups: dict[int | None, list[Row]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["class"], []).append(row)
    return groups


def _known(classes: Sequence[int], groups: Mapping[int | None, list[Row]]) -> Sequence[int]:
    """Return the classes with enough videos; all if none has."""
    return [each for each in classes if _videos(groups[each]) >= _FEWEST] or classes


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


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return how many elements the videos need. If all contributed alike, they would need 90 % of them, rounded up."""
    if not table.num_rows:
        return None
    n, of_length = of_main_length(table, analyzed)
    groups = _groups(of_length)
    mean, low, high = mean_with_interval([(row["elements"], row["videos"]) for row in groups[None]], 0, n, tables)
    alike = (9 * n + 9) // 10
    classes = [each for each in groups if each is not None]
    alone = groups[None][0]
    none = ""
    if not alone["elements"] and alone["videos"]:
        none = f" In {percent(alone['share'])} of the videos the class prior alone reaches it."
    sentence = (
        f"{plain(mean, 1)} of {counted(n, 'element')} {'is' if n == 1 else 'are'} enough on average to reach "
        f"90 % of the score"
        f"{within(low, high, compared=tables)}.{none}"
        + (f" If all contributed alike, {alike} would be needed." if n > 1 else "")
    )
    known = _known(classes, groups)
    compared = len(known) * tables
    found = _neediest(known, groups, n, mean, compared)
    if found is not None:
        most, least, largest = found
        sentence += (
            f" {short_name(most, analyzed, first=True)} needs most: {plain(_mean(groups[most]), 1)}"
            f"{within(least, largest, compared=compared)}."
        )
    return Finding(FACET.name, sentence, effect(low, high, alike, least=0, most=n))


def _neediest(
    classes: Sequence[int], groups: Mapping[int | None, list[Row]], n: int, mean: float, compared: int
) -> tuple[int, float, float] | None:
    """Return the class that needs most, with its interval among all classes; None if it holds the mean of all."""
    if len(classes) < 2:
        return None
    most = max(classes, key=lambda each: _mean(groups[each]))
    counts = [(row["elements"], row["videos"]) for row in groups[most]]
    _, low, high = mean_with_interval(counts, 0, n, compared)
    return None if low is None or high is None or low <= mean else (most, low, high)


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
              SELECT video_id, class, n_elements, n_elements - discarded AS elements,
                CASE WHEN discarded = n_elements THEN score ELSE best END AS best,
                max(score) FILTER (discarded = 0) OVER (PARTITION BY video_id, n_elements) AS whole
              FROM discards WHERE method = 'esv' AND "order" = 'descending'
            ), fewest AS (
              SELECT class, n_elements, min(elements) AS elements FROM curves
              WHERE best::DOUBLE >= 0.9 * whole::DOUBLE GROUP BY video_id, class, n_elements
            )
            SELECT class, n_elements, elements, count(*) AS videos FROM fewest GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("videos", "_total", "low", "high"),),
    page=page,
    finding=finding,
)
