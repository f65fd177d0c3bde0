"""Facet `contrasts`: class-contrastive ESVs of misclassified videos (Fig. 7 of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page
from esv_ray.analysis.facets.words import counted, joined, more, percent, signed

_SHOWN = 5


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed, of the most misleading elements."""
    rows = table.to_pylist()
    if not rows:
        return Page(["No misclassified video has ESVs of both its label and its predicted class."])
    elements = rows[0]["elements"]
    return Page(
        [
            f"ESV for the label minus ESV for the predicted class, of {counted(elements, 'element')} of misclassified "
            f"videos: {percent(rows[0]['misleading'] / elements)} are below 0, and mislead the model."
        ],
        ("video", "element", "frame", "ESV label", "ESV predicted", "difference"),
        [
            (
                row["video_id"],
                str(row["element"]),
                str(row["frame_index"]),
                signed(row["esv_label"]),
                signed(row["esv_predicted"]),
                signed(row["difference"]),
            )
            for row in rows
        ],
        names=1,
        note=joined(["Listed: the lowest.", more(len(rows), elements, "rows")]),
    )


FACET = Facet(
    name="contrasts",
    title="Misclassified videos",
    reads=("videos", "attributions"),
    uses=("differences",),
    counts=(
        Counts(
            "contrast_counts",
            (),
            "SELECT count(*) AS elements, count_if(difference < 0) AS misleading FROM differences",
        ),
        Counts(
            "contrast_ends",
            ("video_id", "n_elements", "element", "frame_index", "esv_label", "esv_predicted", "difference"),
            f"""
            SELECT video_id, n_elements, element, frame_index, esv_label, esv_predicted, difference, 1 AS rows
            FROM differences ORDER BY difference, video_id, n_elements, element LIMIT {_SHOWN}
            """,
        ),
    ),
    rows="SELECT * FROM differences",
    query=f"""
    SELECT contrast_ends.*, elements, misleading FROM contrast_ends, contrast_counts
    ORDER BY difference, video_id, n_elements, element LIMIT {_SHOWN}
    """,
    page=page,
    labelled=True,
)
