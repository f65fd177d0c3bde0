"""Facet `support`: how many elements of a video support its class (Fig. 4a and 6b of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect, mean_with_interval
from esv_ray.analysis.facets.words import (
    class_in_words,
    counted,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    within,
    without_esvs,
)

_VIDEOS = {True: "videos classified correctly", False: "misclassified ones", None: "videos without a label"}
_GROUPS = {True: "correct", False: "misclassified", None: "unlabelled"}

_QUERY = """
SELECT g.n_elements, g.correct, k.supporting, coalesce(c.videos, 0) AS videos,
  coalesce(c.videos, 0) / g.total AS share, g.total AS _total
FROM (SELECT n_elements, correct, sum(videos)::BIGINT AS total FROM support_counts GROUP BY ALL) AS g
CROSS JOIN LATERAL (SELECT unnest(range(g.n_elements + 1))::INTEGER AS supporting) AS k
LEFT JOIN support_counts AS c ON c.n_elements = g.n_elements AND c.correct IS NOT DISTINCT FROM g.correct
  AND c.supporting = k.supporting
ORDER BY g.n_elements, g.correct DESC NULLS LAST, k.supporting
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, of_length = of_main_length(table, analyzed)
    rows = of_length.to_pylist()
    shown, means = [], []
    for group, name in _GROUPS.items():
        of_group = [row for row in rows if row["correct"] is group]
        videos = sum(row["videos"] for row in of_group)
        if not videos:
            continue
        mean = sum(row["supporting"] * row["videos"] for row in of_group) / videos
        few = sum(row["videos"] for row in of_group if 2 * row["supporting"] < n) / videos
        every = of_group[-1]["share"]
        shown.append((name, str(videos), plain(mean, 1), percent(few), percent(every)))
        means.append(f"{mean:.1f} in {_VIDEOS[group]}")
    return Page(
        [f"Supporting elements (ESV > 0) among {n}, mean per video: {', '.join(means)}."],
        ("videos that are", "videos", "mean", "below half", "all support"),
        shown,
        note=joined([without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return how many elements of a video support the class, or do not; by chance it would be half of them."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    mean, low, high = mean_with_interval([(row["supporting"], row["videos"]) for row in rows.to_pylist()], 0, n, tables)
    raises = 2 * mean > n
    shown, ends = (mean, (low, high)) if raises else (n - mean, _rest(n, low, high))
    does = ("raise" if raises else "lower") + ("s" if n == 1 else "")
    sentence = (
        f"On average {shown:.1f} of {counted(n, 'element')} {does} the {_score(analyzed)} of "
        f"{class_in_words(analyzed)}{within(*ends, compared=tables)}; by chance {n / 2:g}."
    )
    return Finding(FACET.name, sentence, effect(low, high, n / 2, most=n))


def _rest(n: int, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Return the interval of n less the mean."""
    return (None, None) if low is None or high is None else (n - high, n - low)


def _score(analyzed: Analyzed) -> str:
    return "logit" if analyzed.in_logits else "score"


FACET = Facet(
    name="support",
    title="Supporting elements",
    reads=("videos", "attributions"),
    uses=("sequences",),
    counts=(
        Counts(
            "support_counts",
            ("n_elements", "correct", "supporting"),
            """
            SELECT n_elements, correct, len(list_filter(esv, lambda x: x > 0))::INTEGER AS supporting,
              count(*) AS videos
            FROM sequences GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("videos", "_total", "low", "high"),),
    page=page,
    finding=finding,
)
