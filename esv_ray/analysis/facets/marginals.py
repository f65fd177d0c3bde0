"""Facet `marginals`: what an element adds to subsequences of each length (Fig. 6a of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.measures import bin_of, percentile
from esv_ray.analysis.facets.words import (
    Row,
    joined,
    more,
    of_main_length,
    other_lengths,
    rounded,
    signed,
    within_percent,
    without_esvs,
)

_SHOWN = 16

_QUERY = f"""
WITH bins AS (
  SELECT *, sum(count) OVER (PARTITION BY n_elements, scale ORDER BY bin) AS below,
    sum(count) OVER (PARTITION BY n_elements, scale) AS total
  FROM marginal_bins WHERE bin IS NOT NULL
), percentiles AS (
  SELECT n_elements, scale, sum(count)::BIGINT AS count, sum(added) / sum(count) AS mean,
    {", ".join(f"{percentile(share / 100)} AS p{share}" for share in (5, 25, 50, 75, 95))}
  FROM bins GROUP BY n_elements, scale
), missing AS (SELECT n_elements, scale FROM marginal_bins WHERE bin IS NULL)
SELECT p.*, CASE WHEN m.scale IS NULL THEN v.low[p.scale] END AS low,
  CASE WHEN m.scale IS NULL THEN v.high[p.scale] END AS high, v.videos
FROM percentiles AS p
LEFT JOIN marginal_means AS v USING (n_elements)
LEFT JOIN missing AS m ON m.n_elements = p.n_elements AND m.scale = p.scale
ORDER BY p.n_elements, p.scale
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No marginals of the class."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    share = abs(of_length[0]["mean"]) / _total(of_length) if _total(of_length) else 0.0
    return Page(
        [
            f"What an element adds when it joins a subsequence, so that it has the length given, of {n} elements. The "
            f"mean over lengths is the ESV; the first length has {100 * share:.0f} % of the sum of the absolute means."
        ],
        ("length", "mean", "p5", "p25", "p50", "p75", "p95"),
        [
            (str(row["scale"]), *(signed(row[name]) for name in ("mean", "p5", "p25", "p50", "p75", "p95")))
            for row in of_length[:_SHOWN]
        ],
        note=joined([more(_SHOWN, n, "lengths"), without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def _total(rows: list[Row]) -> float:
    return float(sum(abs(row["mean"]) for row in rows))


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return how much an element alone has of the sum of the absolute means, compared with one of n lengths."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    first, total = of_length[0], _total(of_length)
    if not total or first["scale"] != 1:
        return None
    ((least, most),) = means_of_several([first], "mean", tables)
    if least is None or most is None:
        return None
    low, high = sorted(min(1.0, abs(end) / total) for end in (least, most))
    low = 0.0 if least < 0 < most else low
    sentence = (
        f"An element alone brings {rounded(abs(first['mean']) / total)} of what elements add over all {n} lengths"
        f"{within_percent(low, high, compared=tables)}; if all lengths did the same, {rounded(1 / n)}."
    )
    return Finding(FACET.name, sentence, effect(low, high, 1 / n))


FACET = Facet(
    name="marginals",
    title="Marginal contributions",
    reads=("marginals",),
    uses=("explained",),
    counts=(
        Counts(
            "marginal_bins",
            ("n_elements", "scale", "bin"),
            f"""
            SELECT n_elements, scale, {bin_of("marginal")} AS bin, count(*) AS count, sum(marginal::DOUBLE) AS added
            FROM marginals JOIN explained USING (video_id, n_elements, class) GROUP BY ALL
            """,
        ),
    ),
    values=(
        Values(
            "marginal_means",
            {"n_elements": pa.int32()},
            """
            SELECT video_id, n_elements, list(mean ORDER BY scale) AS values
            FROM (
              SELECT video_id, n_elements, scale, coalesce(avg(marginal::DOUBLE), 0) AS mean
              FROM marginals JOIN explained USING (video_id, n_elements, class) GROUP BY ALL
            ) GROUP BY ALL HAVING count(*) = n_elements
            """,
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
)
