"""Bars by element or by number of elements, in two groups side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esv_ray.analysis.figures.keys import linked
from esv_ray.analysis.figures.layout import legend
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row
from esv_ray.show.theme import blended

_HEIGHT = 170
_MOST_BARS = 40


@dataclass(frozen=True)
class Group:
    """Bars of one color: their name in the legend, and their color."""

    name: str
    color: str


def bins(count: int, look: Look) -> int:
    """Return how many numbers stand together in one bin, so that bars are wide enough to see."""
    most = _MOST_BARS // 2 if look.narrow else _MOST_BARS
    return -(-count // most)


def bin_name(number: int, size: int, last: int) -> str:
    """Return the name of the bin of a number."""
    first = number // size * size
    end = min(first + size - 1, last)
    return str(first) if first == end else f"{first}-{end}"


def interval_of(rows: Sequence[Row], size: int) -> Row:
    """Return the interval of a bar: that of its row, if it is one row."""
    alone = rows[0] if size == 1 and len(rows) == 1 else {}
    return {name: alone.get(name) for name in ("low", "high")}


def grouped_bars(
    rows: Sequence[Row], groups: Sequence[Group], look: Look, *, x: str, y: str, chance: float | None = None
) -> Any:
    """Return bars of shares.

    Args:
        rows: with `place` (sort order), `bin` (name), `group`, `share` (0..1), `videos` (their number, or None), and
            `low`, `high` if it has an interval.
        groups: in their order.
        look: width and colors.
        x, y: titles of the axes.
        chance: a share to compare with, drawn as a dashed line.
    """
    alt = vega()
    names, colors = [group.name for group in groups], [group.color for group in groups]
    # The second group is lighter, for those who see gray alone.
    fills = [blended(color, look.theme.background, 0.45) if place == 1 else color for place, color in enumerate(colors)]
    order = list(dict.fromkeys(row["bin"] for row in sorted(rows, key=lambda row: int(row["place"]))))
    shown = tuple(row | {"told": _told(row, x, y)} for row in rows if row["share"] > 0)
    base = linked(alt.Chart(alt.Data(values=shown)), look)
    bars = base.mark_bar(strokeWidth=1).encode(
        x=alt.X(
            "bin:O",
            title=x,
            axis=alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=4, ticks=False),
            scale=alt.Scale(domain=order, paddingInner=0.2, paddingOuter=0.1),
        ),
        xOffset=alt.XOffset("group:N", sort=names, scale=alt.Scale(domain=names, paddingInner=0.05)),
        y=alt.Y("share:Q", title=y, axis=alt.Axis(format="~%", tickCount=5)),
        color=alt.Color("group:N", scale=alt.Scale(domain=names, range=fills), legend=legend(look, names)),
        stroke=alt.Stroke("group:N", scale=alt.Scale(domain=names, range=colors), legend=None),
        description="told:N",
        tooltip=["bin:O", "group:N", alt.Tooltip("share:Q", format=".1%")],
    )
    layers = [bars]
    inside = [row for row in rows if row.get("low") is not None and row.get("high") is not None]
    if inside:
        line = alt.Chart(alt.Data(values=tuple(inside))).mark_rule(color=look.theme.ink)
        offset = alt.XOffset("group:N", sort=names, scale=alt.Scale(domain=names, paddingInner=0.05))
        layers.append(line.encode(x="bin:O", xOffset=offset, y="low:Q", y2="high:Q"))
    if chance is not None:
        rule = alt.Chart(alt.Data(values=[{"chance": chance}]))
        layers.append(rule.mark_rule(color=look.theme.ink, strokeDash=[4, 3]).encode(y="chance:Q"))
    return alt.layer(*layers).properties(width=look.plot_width(), height=_HEIGHT)


def _told(row: Row, x: str, y: str) -> str:
    """Return what a bar says."""
    videos = "" if row["videos"] is None else f"; videos: {row['videos']:,}"
    return f"{row['group']}; {x}: {row['bin']}; {y}: {row['share']:.2%}{videos}"
