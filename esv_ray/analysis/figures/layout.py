"""Assemble panels into a figure: title, how to read it, one panel after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.wording import wrapped
from esv_ray.show.theme import vega_config

if TYPE_CHECKING:
    import altair

_TITLE, _HEADING, _TEXT = 15, 12, 11
EXTENT = 32
"""Least pixels of the labels of a vertical axis, so that panels below each other begin at the same place."""


def figure(panels: Sequence[Any], look: Look, *, title: str, notes: Sequence[str], summary: str) -> altair.ConcatChart:
    """Return panels below each other, with a title; if there are none, a figure that says that there are no data.

    Args:
        panels: charts.
        look: width and colors.
        title: the quantity, with its unit.
        notes: how the figure is read, in sentences; empty ones are left out.
        summary: what the figure shows, for people who do not see it.
    """
    alt = vega()
    shown = list(panels) or [_no_data(look)]
    summary = summary if panels else "The table has no values to draw."
    text = " ".join(note for note in (*notes, look.note) if note)
    chart = alt.concat(
        *shown,
        columns=1,
        # Otherwise the names beside one panel would move all others to the side.
        align="none",
        spacing=22,
        title=alt.TitleParams(
            text=wrapped(title, look.inner, _TITLE, bold=True),
            subtitle=wrapped(text, look.inner, 12) if text else [],
            fontSize=_TITLE,
            subtitlePadding=5,
            offset=18,
        ),
    ).properties(description=f"{title}. {summary}")
    config = vega_config(look.theme) | {"padding": look.padding, "axisLeft": {"minExtent": EXTENT}}
    return _apart(chart).configure(**config, aria=False)


def headed(chart: Any, look: Look, heading: str, note: str = "", *, width: int | None = None) -> Any:
    """Return a panel with a heading, wrapped to the panel's width.

    Args:
        chart: the panel.
        look: width of the figure.
        heading: what the panel shows.
        note: a second line, smaller.
        width: of the panel with its axis; by default the figure's.
    """
    room = look.inner if width is None else width
    title = vega().TitleParams(
        text=wrapped(heading, room, _HEADING, bold=True),
        subtitle=wrapped(note, room, _TEXT) if note else [],
        fontSize=_HEADING,
        subtitleFontSize=_TEXT,
        offset=10,
        anchor="start",
        frame="bounds",
    )
    return chart.properties(title=title)


def grid(panels: Sequence[Any], look: Look) -> list[Any]:
    """Return panels in rows of as many as fit."""
    alt, columns = vega(), look.columns
    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    return [row[0] if len(row) == 1 else _apart(alt.hconcat(*row, spacing=20)) for row in rows]


def legend(
    look: Look, names: Sequence[str], title: str | None = None, *, small: bool = False, alone: bool = False
) -> Any:
    """Return a legend above a panel, in as many columns as fit.

    Args:
        look: width of the figure.
        names: entries.
        title: of the legend.
        small: whether the panel is one of several side by side.
        alone: whether each entry has its own line, so that other legends fit beside it.
    """
    longest = max((len(name) for name in names), default=1)
    return vega().Legend(
        title=title,
        orient="top",
        direction="horizontal",
        columns=1 if alone else max(1, min(len(names), int(look.plot_width(small) // (5.6 * longest + 26)))),
        labelFontSize=11,
        symbolSize=90,
        symbolOpacity=1,
        offset=6,
    )


def _apart(chart: Any) -> Any:
    """Return panels put together, each with its own scales and legends."""
    channels = ("x", "y", "color", "fill", "stroke", "strokeDash", "shape", "xOffset")
    return chart.resolve_scale(**dict.fromkeys(channels, "independent"))


def _no_data(look: Look) -> Any:
    alt = vega()
    rows = alt.Data(values=[{"text": "No data: the table has no values to draw."}])
    mark = alt.Chart(rows).mark_text(align="left", fontSize=12, color=look.theme.faint)
    return mark.encode(text="text:N", x=alt.value(0), y=alt.value(20)).properties(width=look.inner - 20, height=40)
