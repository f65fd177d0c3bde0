"""Facet `confusions`: which classes are taken for which, and how much the most misleading element does (Fig. 7)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, exact_ends
from esv_ray.analysis.facets.words import (
    class_name,
    counted,
    joined,
    more,
    of_main_length,
    other_lengths,
    rounded,
    short_name,
    signed,
    within_percent,
)

_SHOWN = 10
_FEWEST = 5  # misclassified videos of a class that is a finding
_DIFFERENCE = "mean_difference_at_most_misleading_element"

_QUERY = f"""
SELECT label, predicted, n_elements, c.videos, mean[1] AS {_DIFFERENCE}, low[1] AS low, high[1] AS high,
  sqrt(nullif(mean[2], 0) / m.videos) AS stderr
FROM confusion_counts AS c LEFT JOIN confusion_means AS m USING (label, predicted, n_elements)
ORDER BY n_elements, c.videos DESC, label, predicted
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No labeled video is misclassified." if analyzed.census.ok else "No video has ESVs."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    top = of_length[0]
    return Page(
        [
            f"The most frequent confusion: {short_name(top['label'], analyzed)} is classified as "
            f"{short_name(top['predicted'], analyzed)} ({counted(top['videos'], 'video')})."
        ],
        ("label", "predicted", "videos", "difference"),
        [
            (
                class_name(row["label"], analyzed),
                class_name(row["predicted"], analyzed),
                str(row["videos"]),
                signed(row[_DIFFERENCE]),
            )
            for row in of_length[:_SHOWN]
        ],
        names=2,
        note=joined(
            [
                "Difference: ESV for the label minus ESV for the predicted class, of each video's most misleading "
                "element; mean over videos.",
                more(_SHOWN, len(of_length), "pairs of classes"),
                other_lengths(table, n),
            ]
        ),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the class whose videos are most often taken for one other class, compared with an even mix."""
    others = len(analyzed.empty_values) - 1
    if not table.num_rows or others < 2:
        return None
    _, part = of_main_length(table, analyzed)
    rows = part.to_pylist()
    wrong: dict[int, int] = {}
    for row in rows:
        wrong[row["label"]] = wrong.get(row["label"], 0) + row["videos"]
    rows = [row for row in rows if wrong[row["label"]] >= _FEWEST]
    if not rows:
        return None
    compared = tables * others * len({row["label"] for row in rows})  # those that never happen have no row
    lows, highs = exact_ends([row["videos"] for row in rows], [wrong[row["label"]] for row in rows], compared)
    sizes = [effect(low, 1.0, 1 / others) for low in lows.tolist()]
    top = max(range(len(rows)), key=sizes.__getitem__)
    row, all_wrong = rows[top], wrong[rows[top]["label"]]
    sentence = (
        f"{row['videos']:,} of the {counted(all_wrong, 'misclassified video')} of "
        f"{short_name(row['label'], analyzed)} {'is' if row['videos'] == 1 else 'are'} taken for "
        f"{short_name(row['predicted'], analyzed)}"
        f"{within_percent(lows[top], highs[top], compared=compared)}; by chance {rounded(1 / others)}."
    )
    return Finding(FACET.name, sentence, sizes[top])


FACET = Facet(
    name="confusions",
    title="Confusions",
    reads=("videos", "attributions"),
    uses=("wrong", "differences"),
    counts=(
        Counts(
            "confusion_counts",
            ("label", "predicted", "n_elements"),
            "SELECT label, predicted, n_elements, count(*) AS videos FROM wrong GROUP BY ALL",
        ),
    ),
    values=(
        Values(
            "confusion_means",
            {"label": pa.int32(), "predicted": pa.int32(), "n_elements": pa.int32()},
            """
            SELECT video_id, label, predicted, n_elements,
              [min(difference), coalesce(arg_min(stderr * stderr, difference), 0)] AS values
            FROM differences GROUP BY ALL
            """,
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
    labelled=True,
)
