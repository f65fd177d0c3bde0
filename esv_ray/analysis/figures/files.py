"""A figure as files: SVG, PNG, and a page for light and dark, wide and narrow screens."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.look import NARROW, WIDE, Look
from esv_ray.analysis.figures.recolor import darkened
from esv_ray.show.chart import check_figures, picture_of, png_of
from esv_ray.show.page import figure_page
from esv_ray.show.text import printable
from esv_ray.show.theme import LIGHT

if TYPE_CHECKING:
    from esv_ray.analysis.figures.registry import Chart

_MOST_ROWS = 500


def figure_files(
    chart: Chart, table: pa.Table, *, names: Sequence[str] | None = None, unit: str = "probability", note: str = ""
) -> dict[str, bytes]:
    """Return a figure as files by suffix: ``svg``, ``png``, and ``html``, a page that needs no network.

    Args:
        chart: draws the table.
        table: the facet's table.
        names: class names by id, or None.
        unit: of scores and ESVs: `probability` or `logit`.
        note: what the figure leaves out; "" if nothing.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    check_figures()
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # its checks of every part of a chart take a third of the time; tests make them
        wide, narrow = (chart(table, Look(names, LIGHT, width, unit, note=note)) for width in (WIDE, NARROW))
    # Vega draws each width once: a figure of many panels takes it seconds. Its own PNG is the same, byte by byte.
    drawn = [picture_of(each, "svg") for each in (wide, narrow)]
    dark = [darkened(svg) for svg in drawn]
    title = " ".join(wide.title.text)
    page = figure_page(title, drawn[0], dark[0], _values(table), narrow=(drawn[1], dark[1]))
    return {"svg": drawn[0], "png": png_of(drawn[0]), "html": page}


def _values(table: pa.Table) -> str:
    """Return the first rows of a table as HTML."""
    head = "".join(f"<th>{escape(printable(name))}</th>" for name in table.column_names)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>"
        for row in table.slice(0, _MOST_ROWS).to_pylist()
    )
    note = f" (first {_MOST_ROWS:,} of {table.num_rows:,} rows)" if table.num_rows > _MOST_ROWS else ""
    return (
        f'<details><summary>Values{note}</summary><div class="figure"><table><tr>{head}</tr>{rows}</table></div>'
        "</details>"
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else escape(printable(str(value)))
