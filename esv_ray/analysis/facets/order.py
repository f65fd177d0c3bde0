"""Facet `order`: what the order of the elements is worth: the score minus the mean score of shuffled elements."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.words import (
    class_name,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    short_name,
    signed,
    span,
    within,
)

_ENDS = 5
_FEWEST = 5  # videos of a class that is shown

_QUERY = """
SELECT class, n_elements, videos, mean[1] AS score, mean[2] AS shuffled_score, mean[3] AS difference,
  low[3] AS low, high[3] AS high, mean[4] / nullif(mean[5], 0) AS spearman
FROM order_means ORDER BY class NULLS FIRST, n_elements
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed: all classes, and those that need the order most and least."""
    if not table.num_rows:
        return Page(["No videos."])
    n, rows = of_main_length(table, analyzed)
    everything, *classes = rows.to_pylist()  # ascending, all classes first
    known = [row for row in classes if row["videos"] >= _FEWEST] or classes
    known.sort(key=lambda row: -row["difference"])
    ends = known if len(known) <= 2 * _ENDS else [*known[:_ENDS], *known[-_ENDS:]]
    share = everything["difference"] / everything["score"] if everything["score"] else 0.0
    return Page(
        [
            f"With the elements in random orders, the mean score goes from {plain(everything['score'])} to "
            f"{plain(everything['shuffled_score'])}"
            + (f": {percent(share)} of it is due to the order. " if share > 0 else ". ")
            + f"{short_name(known[0]['class'], analyzed, first=True)} needs the order most "
            f"({signed(known[0]['difference'])})."
        ],
        ("class", "videos", "score", "shuffled", "difference", "95 %", "spearman"),
        [
            (
                class_name(row["class"], analyzed),
                str(row["videos"]),
                plain(row["score"]),
                plain(row["shuffled_score"]),
                signed(row["difference"]),
                span(row["low"], row["high"]),
                "-" if row["spearman"] is None else f"{row['spearman']:+.2f}",
            )
            for row in [everything, *ends]
        ],
        names=1,
        note=joined(
            [
                f"The classes that need the order most and least, of {len(classes)}."
                if len(ends) < len(classes)
                else "",
                other_lengths(table, n),
            ]
        ),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return what the order of the elements is worth, over all classes; by chance, nothing."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    row = rows.to_pylist()[0]  # all classes first
    ((low, high),) = means_of_several([row], "difference", tables)
    does = "lower" if row["difference"] >= 0 else "raise"
    sentence = (
        f"Random orders of the {n} elements {does} the mean score from {plain(row['score'])} to "
        f"{plain(row['shuffled_score'])}; difference {signed(-row['difference'])}{_fall(low, high, tables)}; by "
        "chance 0."
    )
    size = effect(low, high, 0.0, least=row["score"] - 1, most=row["score"])
    return Finding(FACET.name, sentence, size)


def _fall(low: float | None, high: float | None, compared: int) -> str:
    """Return the interval of the change of the score, which is the difference with the other sign."""
    return "" if low is None or high is None else within(-high, -low, 3, compared=compared)


FACET = Facet(
    name="order",
    title="What the order is worth",
    reads=("order",),
    uses=(),
    values=(
        Values(
            "order_means",
            {"class": pa.int32(), "n_elements": pa.int32()},
            """
            SELECT video_id, class, n_elements, [score::DOUBLE, shuffled_score::DOUBLE,
              score::DOUBLE - shuffled_score::DOUBLE, coalesce(spearman::DOUBLE, 0), (spearman IS NOT NULL)::DOUBLE
            ] AS values
            FROM "order"
            """,
            over="class",
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
)
