"""Facet `contrasts`: class-contrastive ESVs of misclassified videos (Fig. 7 of the paper)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Facet, Page
from esv_ray.analysis.facets.words import more, signed
from esv_ray.errors import count_of

_SHOWN = 5


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No misclassified video with ESVs of both classes."])
    misled = int(pc.sum(pc.less(table.column("difference"), 0)).as_py() or 0)
    smallest = pc.select_k_unstable(table, _SHOWN, [("difference", "ascending")])
    return Page(
        [
            f"ESV for the label minus ESV for the predicted class, {count_of(table.num_rows, 'element')} of "
            f"misclassified videos: {100 * misled / table.num_rows:.0f} % are below 0, and mislead the model. "
            "The most misleading ones:"
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
            for row in table.take(smallest).to_pylist()
        ],
        wide=True,
        note=more(_SHOWN, table.num_rows, "rows"),
    )


FACET = Facet(
    name="contrasts",
    title="Misclassified videos",
    reads=("videos", "attributions"),
    uses=("differences",),
    rows="SELECT * FROM differences",
    page=page,
    labelled=True,
)
