"""Ranked rows, one below the other, each with a text of any length: classes, pairs of classes, methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esv_ray.analysis.figures.keys import linked
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, has
from esv_ray.analysis.figures.wording import balanced
from esv_ray.show.chart import HALO
from esv_ray.show.text import printable

_LINE, _BAR, _GAP = 13, 12, 6
_AXIS = 26  # of the vertical axis's title
INTERVAL = ("95 % interval from", "to")
"""Names of the ends of an interval."""
_MOST_TICKS = 6  # of whole numbers: of more, ticks are some of them
_MOST_NAMES = 0.42  # of the width, where names stand beside the bars


@dataclass(frozen=True)
class Ranking:
    """Rows with their places in pixels.

    Attributes:
        rows: each with `middle`, `top`, `bottom` (of the bar), `inner_top`, `inner_bottom` (of a thin bar inside it),
            and `told`, what its marks say.
        names: where each line of the texts stands.
        width, height: of the plot, which holds the texts.
        extent: pixels to the left of the plot, as those of a panel above it.
        left: where the bars begin, to the right of the texts.
        title: of the vertical axis.
        look: colors.
    """

    rows: list[Row]
    names: list[Row]
    width: int
    height: int
    look: Look
    extent: int
    left: int
    title: str

    def y(self, field: str) -> Any:
        """Return the encoding of a vertical place."""
        alt = vega()
        scale = alt.Scale(domain=[0, self.height], range=[0, self.height], nice=False, zero=False)
        axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False, titlePadding=4, minExtent=self.extent)
        return alt.Y(f"{field}:Q", title=self.title, scale=scale, axis=axis)

    def x(
        self,
        field: str,
        title: str,
        *,
        whole: bool = False,
        share: bool = False,
        domain: Sequence[float] | None = None,
    ) -> Any:
        """Return the encoding of a value.

        Args:
            field: of the rows.
            title: of the axis above the rows.
            whole: whether values are whole numbers.
            share: whether values are shares, which are written in percent.
            domain: of the axis; by default zero and all values.
        """
        alt = vega()
        ends = {"domain": list(domain), "nice": False} if domain else {"zero": True}
        scale = alt.Scale(range=[self.left, self.width], **ends)
        most = max(domain[1] if domain else 0, *(row.get(field) or 0 for row in self.rows), 0)
        few = {"values": list(range(int(most) + 1))} if whole and most <= _MOST_TICKS else {}
        axis = alt.Axis(orient="top", format="d" if whole else "~%" if share else "~g", tickCount=5, **few)
        return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)

    def base(self, *names: str, leads: bool = False) -> Any:
        """Return a chart, without marks, of the rows that have some values.

        Args:
            names: of these values.
            leads: whether marks lead to the videos of their rows (`keys.leading`).
        """
        rows = tuple(row for row in self.rows if has(row, *names))
        chart = vega().Chart(vega().Data(values=rows)).encode(description="told:N")
        return linked(chart, self.look) if leads else chart

    def remarks(self, field: str, header: str) -> Any:
        """Return texts at the right of the plot, below a header."""
        alt = vega()
        place, color = alt.value(self.width + 8), self.look.theme.faint
        texts = self.base().mark_text(align="left", baseline="middle", fontSize=10, color=color)
        head = alt.Chart(alt.Data(values=[{"text": header}])).mark_text(align="left", fontSize=10, color=color)
        return alt.layer(
            texts.encode(x=place, y=self.y("middle"), text=f"{field}:N"),
            head.encode(x=place, y=alt.value(-9), text="text:N"),
        )

    def panel(self, layers: Sequence[Any]) -> Any:
        """Return layers of marks with the texts."""
        alt = vega()
        place = alt.value(0 if self.look.narrow else self.left - 8)
        texts = alt.Chart(alt.Data(values=tuple(self.names))).encode(x=place, y=self.y("line"), text="text:N")
        theme, align = self.look.theme, "left" if self.look.narrow else "right"
        mark = texts.mark_text(align=align, baseline="middle", fontSize=11, color=theme.ink)
        if self.look.narrow:  # they stand on the lines of the axis, which must not cross the letters
            mark = mark.properties(name=HALO).mark_text(
                align=align, baseline="middle", fontSize=11, fill=theme.ink, stroke=theme.background, strokeWidth=3
            )
        return alt.layer(*layers, mark).properties(width=self.width, height=self.height)


def ranking(
    rows: Sequence[Row],
    texts: Sequence[Sequence[str]],
    look: Look,
    *,
    title: str,
    told: Mapping[str, tuple[str, str]],
    right: int = 0,
    extent: int = 0,
) -> Ranking:
    """Return the places of rows and of their texts: beside the bars, or above them in a narrow figure.

    Args:
        rows: in their order from the top.
        texts: of each row, in parts, each of which begins a line.
        look: width.
        title: what the rows are.
        told: by column, the name of a value and its format: what a mark says of its row, after the row's text.
        right: pixels to the right of the plot that something else takes.
        extent: pixels to the left of the plot, as those of a panel above it.
    """
    room = look.inner - _AXIS - extent if look.narrow else int(_MOST_NAMES * look.inner)
    longest = 0.0
    placed, names, at = [], [], float(_GAP)
    for row, parts in zip(rows, texts, strict=True):
        lines = [line for part in parts for line in balanced(part, room)]
        longest = max(longest, *(0.56 * 11 * len(line) for line in lines))
        text = len(lines) * _LINE
        if look.narrow:
            first, middle, height = at, at + text + _BAR / 2, text + _BAR + _GAP + 4
        else:
            height = max(text, _BAR) + _GAP
            middle = at + height / 2
            first = middle - text / 2
        names += [{"text": line, "line": first + (place + 0.5) * _LINE} for place, line in enumerate(lines)]
        placed.append(
            row
            | {
                "told": "; ".join([printable(" ".join(parts)), *_told(row, told)]),
                "middle": middle,
                "top": middle - _BAR / 2,
                "bottom": middle + _BAR / 2,
                "inner_top": middle - _BAR / 6,
                "inner_bottom": middle + _BAR / 6,
            }
        )
        at += height
    left = 0 if look.narrow else round(min(longest, room)) + 8
    width = max(left + 80, look.inner - right - _AXIS - extent)
    return Ranking(placed, names, width, max(1, round(at)), look, extent, left, title)


def _told(row: Row, names: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the values of a row in words; those that it has not are left out."""
    for column, (name, form) in names.items():
        if row.get(column) is not None:
            yield f"{name}: {format(row[column], form)}"
