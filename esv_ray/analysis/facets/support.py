"""Facet `support`: how many elements of a video support its class (Fig. 4a and 6b of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.words import of_main_length, other_lengths, percent, plain

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


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, of_length = of_main_length(table)
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
        means.append(f"{mean:.1f} {name}")
    return Page(
        [f"Supporting elements (ESV > 0) among {n}, mean per video: {', '.join(means)}."],
        ("videos that are", "videos", "mean", "below half", "all support"),
        shown,
        note=other_lengths(table, n),
    )


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
)
