"""Facet `moments`: whether elements with large values are those of marked key moments (`analysis.moments`)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Share, Values
from esv_ray.analysis.facets.finding import Finding, effect, shares_of_several
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import (
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    rounded,
    span,
    within_percent,
    without_esvs,
)
from esv_ray.analysis.figures.wording import method_name

_QUERY = f"""
SELECT n_elements, method, videos, mean[1] AS pointing, mean[2] AS auc, {bounded("low[2]")} AS auc_low,
  {bounded("high[2]")} AS auc_high, mean[3] AS iou, {bounded("low[3]")} AS iou_low, {bounded("high[3]")} AS iou_high,
  mean[4] AS by_chance, round(mean[1] * videos, 9) AS _pointing
FROM moment_means ORDER BY n_elements, method <> 'esv', method
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No sequence has elements both inside and outside of its key moment."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    first = of_length[0]
    return Page(
        [
            f"The element with the largest value by {method_name(first['method'])} is in the marked key moment in "
            f"{percent(first['pointing'])} of {first['videos']} videos; by chance it would be in "
            f"{percent(first['by_chance'])}."
        ],
        ("method", "videos", "pointing", "95 %", "AUC", "95 %", "IoU", "95 %"),
        [
            (
                method_name(row["method"]),
                str(row["videos"]),
                percent(row["pointing"]),
                span(row["pointing_low"], row["pointing_high"], shares=True),
                plain(row["auc"], 2),
                f"{plain(row['auc_low'], 2)}..{plain(row['auc_high'], 2)}",
                plain(row["iou"], 2),
                f"{plain(row['iou_low'], 2)}..{plain(row['iou_high'], 2)}",
            )
            for row in of_length
        ],
        names=1,
        note=joined([without_esvs(analyzed, n), other_lengths(table, n)]),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return how often the element with the largest ESV is in the marked moment, compared with chance."""
    if not table.num_rows:
        return None
    _, rows = of_main_length(table, analyzed)
    row = next((row for row in rows.to_pylist() if row["method"] == "esv"), None)
    if row is None:
        return None
    ((low, high),) = shares_of_several([row], "pointing", "videos", tables)
    sentence = (
        f"The element with the largest ESV is in the marked key moment in {rounded(row['pointing'])} of videos"
        f"{within_percent(low, high, compared=tables)}; by chance in {rounded(row['by_chance'])}."
    )
    return Finding(FACET.name, sentence, effect(low, high, row["by_chance"]))


FACET = Facet(
    name="moments",
    title="Agreement with marked key moments",
    reads=("attributions",),
    uses=("explained", "moments"),
    values=(
        Values(
            "moment_means",
            {"n_elements": pa.int32(), "method": pa.string()},
            """
            WITH marked AS (
              SELECT video_id, n_elements, method, element, esv::DOUBLE AS value,
                (frame_index BETWEEN key_start AND key_end)::INTEGER AS inside
              FROM attributions JOIN explained USING (video_id, n_elements, class) JOIN moments USING (video_id)
            ), placed AS (
              SELECT *, sum(inside) OVER sequence AS keys,
                rank() OVER (sequence ORDER BY value DESC) AS place, count(*) OVER equal AS tied,
                value = max(value) OVER sequence AS largest,
                rank() OVER (sequence ORDER BY value) + (count(*) OVER equal - 1) / 2 AS midrank
              FROM marked WINDOW sequence AS (PARTITION BY video_id, n_elements, method),
                equal AS (PARTITION BY video_id, n_elements, method, value)
            ), counted AS (
              SELECT video_id, n_elements, method, any_value(keys) AS k, avg(inside) FILTER (largest) AS pointing,
                sum(midrank) FILTER (inside = 1) AS ranks,
                sum(inside * greatest(0, least(1, (keys + 1 - place) / tied))) AS hits
              FROM placed GROUP BY ALL
            )
            SELECT video_id, n_elements, method, [
              pointing, (ranks - k * (k + 1) / 2) / (k * (n_elements - k)), hits / (2 * k - hits), k / n_elements
            ] AS values
            FROM counted WHERE k > 0 AND k < n_elements
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("_pointing", "videos", "pointing_low", "pointing_high"),),
    page=page,
    finding=finding,
    marked=True,
)
"""Per sequence with elements both inside and outside of its key moment:

- pointing: whether the element with the largest value is inside (pointing game, Zhang et al. 2016); of several with
  equal values, the share of them that is.
- auc: share of the pairs of an element inside and one outside in which the one inside has the larger value; equal
  values count one half.
- iou: elements inside among the k with the largest values, where k are inside: intersection over union. If elements
  with equal values share the last places, each counts as the share of them that has a place (fuzzy sets).
- by_chance: share of the elements that are inside.
"""
