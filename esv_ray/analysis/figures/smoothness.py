"""Figure of the facet `smoothness`: what a neighbor in place of an element changes (Fig. 6c of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.boxes import PERCENTILES, READING, boxes
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import by_length, has, read_rows
from esv_ray.analysis.figures.wording import signed
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the distribution of changes of normalized ESVs by the neighbor's offset.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "smoothness", ["n_elements", "offset"], ["count", "mean", *PERCENTILES])
    lengths, note = by_length([row for row in rows if has(row, "mean", *PERCENTILES)], "count", repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["offset"]))
        middle = ", ".join(
            f"{signed(row['p25'], 3)} to {signed(row['p75'], 3)} at offset {row['offset']}"
            for row in (of_length[0], of_length[-1])
        )
        findings.append(f"{count_of(n, 'element')}: the middle half of the changes is {middle}")
        x = "offset of the neighbor (frames of the feature table)"
        panel = boxes(of_length, look, key="offset", x=x, y="change of the normalized ESV")
        panels.append(headed(panel, look, look.heading(findings[-1])))
    return figure(
        panels,
        look,
        title="Change of an element's ESV with its neighbor in its place (share of the sum of |ESVs|)",
        notes=[READING, note],
        summary=". ".join(findings),
    )
