"""Figure of the facet `sanity`: what is left of the ESVs when layers of the model are re-initialized, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import by_length, has, read_rows
from esv_ray.analysis.figures.wording import signed
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the rank correlation with the model's own ESVs by the number of layers initialized again.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    keys = ["n_elements", "layers_randomised"]
    rows = read_rows(table, "sanity", keys, ["videos", "spearman"], ["low", "high"])
    lengths, note = by_length([row for row in rows if has(row, "spearman")], "videos", repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["layers_randomised"]))
        points = [{**row, "x": row["layers_randomised"], "y": row["spearman"]} for row in of_length]
        last = of_length[-1]
        findings.append(
            f"{count_of(n, 'element')}: the rank correlation is {signed(last['spearman'])} with "
            f"{last['layers_randomised']} layers initialized again"
        )
        lowest = min(0.0, *(row["spearman"] for row in of_length), *(row["low"] or 0.0 for row in of_length))
        axes = Axes("layers initialized again, from the last one", "rank correlation (Spearman)", domain=(lowest, 1.0))
        panels.append(headed(lines(points, axes, look), look, look.heading(findings[-1])))
    return figure(
        panels,
        look,
        title="Rank correlation of ESVs with those of the trained model",
        notes=["ESVs that depend on what the model learned lose their correlation: the line falls to 0.", note],
        summary=". ".join(findings),
    )
