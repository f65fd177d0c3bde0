"""Figure of the facet `marginals`: what an element adds to subsequences of each scale (Fig. 6a of the paper)."""

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
    """Return the distribution of marginal contributions by scale.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "marginals", ["n_elements", "scale"], ["count", "mean", *PERCENTILES])
    lengths, note = by_length([row for row in rows if has(row, "mean", *PERCENTILES)], "count", repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["scale"]))
        first, last = of_length[0], of_length[-1]
        findings.append(
            f"{count_of(n, 'element')}: the mean contribution is {signed(first['mean'], 3)} at scale "
            f"{first['scale']} and {signed(last['mean'], 3)} at scale {last['scale']}"
        )
        x = "scale (length of the subsequence with the element)"
        panel = boxes(of_length, look, key="scale", x=x, y=f"change of {look.unit}")
        panels.append(headed(panel, look, look.heading(findings[-1])))
    return figure(
        panels,
        look,
        title=f"Marginal contribution of an element by scale ({look.unit})",
        notes=[READING, note],
        summary=". ".join(findings),
    )
