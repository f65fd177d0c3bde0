"""Facet `smoothness`: what changes with a neighboring frame in the place of an element (Fig. 6c of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Values
from esv_ray.analysis.facets.measures import bin_of, percentile
from esv_ray.analysis.facets.words import counted, joined, more, of_main_length, other_lengths, signed

_SHOWN = 12

_QUERY = f"""
WITH bins AS (
  SELECT *, sum(count) OVER (PARTITION BY n_elements, "offset" ORDER BY bin) AS below,
    sum(count) OVER (PARTITION BY n_elements, "offset") AS total
  FROM smoothness_bins
), percentiles AS (
  SELECT n_elements, "offset", sum(count)::BIGINT AS count, sum(added) / sum(count) AS mean,
    {", ".join(f"{percentile(share / 100)} AS p{share}" for share in (5, 25, 50, 75, 95))}
  FROM bins GROUP BY n_elements, "offset"
)
SELECT p.*, v.low[1] AS low, v.high[1] AS high, v.mean[2] AS size, v.videos
FROM percentiles AS p JOIN smoothness_means AS v USING (n_elements, "offset")
ORDER BY p.n_elements, p."offset"
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No element could be moved: the videos have one frame."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    nearest = min(of_length, key=lambda row: (abs(row["offset"]), -row["offset"]))
    return Page(
        [
            "Change of an element's share of the ESVs (of the sum of their absolute values) with a neighboring frame "
            f"in its place. {counted(abs(nearest['offset']), 'frame')} away, half of the changes are between "
            f"{signed(nearest['p25'])} and {signed(nearest['p75'])}; an element's mean share is {1 / n:.3f}."
        ],
        ("offset", "count", "mean size", "p5", "p25", "p50", "p75", "p95"),
        [
            (
                f"{row['offset']:+d}",
                str(row["count"]),
                f"{row['size']:.3f}",
                *(signed(row[name]) for name in ("p5", "p25", "p50", "p75", "p95")),
            )
            for row in of_length[:_SHOWN]
        ],
        note=joined([more(_SHOWN, len(of_length), "offsets"), other_lengths(table, n)]),
    )


FACET = Facet(
    name="smoothness",
    title="Smoothness over time",
    reads=("smoothness",),
    uses=(),
    counts=(
        Counts(
            "smoothness_bins",
            ("n_elements", "offset", "bin"),
            f"""
            SELECT n_elements, "offset", {bin_of("change")} AS bin, count(*) AS count, sum(change::DOUBLE) AS added
            FROM smoothness GROUP BY ALL
            """,
        ),
    ),
    values=(
        Values(
            "smoothness_means",
            {"n_elements": pa.int32(), "offset": pa.int32()},
            """
            SELECT video_id, n_elements, "offset", [avg(change::DOUBLE), avg(abs(change::DOUBLE))] AS values
            FROM smoothness GROUP BY video_id, n_elements, "offset"
            """,
        ),
    ),
    query=_QUERY,
    page=page,
)
