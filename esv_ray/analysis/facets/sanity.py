"""Facet `sanity`: what is left of the ESVs when layers of the model are re-initialized (Adebayo et al. 2018)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Values
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import of_main_length, other_lengths, span

_QUERY = f"""
SELECT n_elements, layers_randomised, videos, mean[1] AS spearman, {bounded("low[1]", "-1")} AS low,
  {bounded("high[1]", "-1")} AS high
FROM sanity_means ORDER BY n_elements, layers_randomised
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No rank correlation is known: the model has no layers, or all ESVs of each video are equal."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    last = of_length[-1]
    return Page(
        [
            "Mean rank correlation of a video's ESVs with those of the model with re-initialized layers, the one next "
            f"to the logits first. With {last['layers_randomised']} it is {last['spearman']:+.2f}: near 0, ESVs depend "
            "on what the model learned."
        ],
        ("layers", "videos", "spearman", "95 %"),
        [
            (
                str(row["layers_randomised"]),
                str(row["videos"]),
                f"{row['spearman']:+.2f}",
                span(row["low"], row["high"]),
            )
            for row in of_length
        ],
        note=other_lengths(table, n),
    )


FACET = Facet(
    name="sanity",
    title="Sanity: re-initialized layers",
    reads=("sanity",),
    uses=(),
    values=(
        Values(
            "sanity_means",
            {"n_elements": pa.int32(), "layers_randomised": pa.int32()},
            """
            SELECT video_id, n_elements, layers_randomised, [spearman::DOUBLE] AS values
            FROM sanity WHERE spearman IS NOT NULL
            """,
        ),
    ),
    query=_QUERY,
    page=page,
)
