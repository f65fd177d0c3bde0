"""A figure as files: SVG, PNG, and a page for light and dark, wide and narrow screens."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.look import NARROW, Look
from esv_ray.show.chart import picture_of
from esv_ray.show.page import figure_page
from esv_ray.show.text import printable
from esv_ray.show.theme import DARK, LIGHT

if TYPE_CHECKING:
    from esv_ray.analysis.figures.registry import Chart

_MOST_ROWS = 500


def figure_files(
    chart: Chart, table: pa.Table, *, names: Sequence[str] | None = None, unit: str = "probability"
) -> dict[str, bytes]:
    """Return a figure as files by suffix: ``svg``, ``png``, and ``html``, a page that needs no network.

    Args:
        chart: draws the table.
        table: the facet's table.
        names: class names by id, or None.
        unit: of scores and ESVs: `probability` or `logit`.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    wide = chart(table, Look(names, LIGHT, unit=unit))
    light = picture_of(wide, "svg")
    dark = picture_of(chart(table, Look(names, DARK, unit=unit)), "svg")
    narrow = [picture_of(chart(table, Look(names, theme, NARROW, unit)), "svg") for theme in (LIGHT, DARK)]
    title = " ".join(wide.title.text)
    page = figure_page(title, light, dark, _values(table), narrow=(narrow[0], narrow[1]))
    return {"svg": light, "png": picture_of(wide, "png"), "html": page}


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
