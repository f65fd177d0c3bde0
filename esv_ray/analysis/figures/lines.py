"""Lines with bands: one per series, told apart by color, dashes and symbols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esv_ray.analysis.figures.keys import linked
from esv_ray.analysis.figures.layout import legend
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, has

DASHES = ([1, 0], [1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4])
_MOST_TICKS = 40
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


@dataclass(frozen=True)
class Axes:
    """Axes of a panel.

    Attributes:
        x, y: titles.
        y_format: of the numbers of the vertical axis.
        x_format: of the horizontal axis.
        domain: of the vertical axis; None: from the values.
        zero: whether it then begins at 0.
        height: of the plot, in pixels.
        steps: whether the line is a staircase.
        x_ticks: ends and numbers of the horizontal axis; none: those of the values.
    """

    x: str
    y: str
    y_format: str = "~g"
    x_format: str = "d"
    domain: tuple[float, float] | None = None
    zero: bool = True
    height: int = 190
    steps: bool = False
    x_ticks: tuple[float, ...] = ()


def lines(
    rows: Sequence[Row],
    axes: Axes,
    look: Look,
    *,
    names: Sequence[str] = (),
    banded: Sequence[str] | None = None,
    small: bool = False,
    told: bool = False,
) -> Any:
    """Return a panel of lines, with a band where rows have `low` and `high`.

    Args:
        rows: with `x`, `y`, `low`, `high`, and `series` if there are several.
        axes: titles and formats.
        look: width and colors.
        names: series in their order, of which there is a legend; none: one line without a legend.
        banded: those with bands; the lines of the others are thin. None: all.
        small: whether it is one of the panels side by side.
        told: whether rows have `told`, what their points say, and are led to videos (`keys.leading`).
    """
    alt = vega()
    strong = set(names if banded is None else banded)
    kept = [row | {"strong": not names or row["series"] in strong} for row in rows if has(row, "x", "y")]
    values = sorted({row["x"] for row in kept})
    ticks = axes.x_ticks or (values if len(values) <= _MOST_TICKS else ())
    span = {"domain": [axes.x_ticks[0], axes.x_ticks[-1]]} if axes.x_ticks else {"padding": 8}
    x = alt.X(
        "x:Q",
        title=axes.x,
        scale=alt.Scale(nice=False, zero=False, **span),
        axis=alt.Axis(
            format=axes.x_format,
            grid=False,
            labelOverlap=True,
            labelSeparation=4,
            **({"values": list(ticks)} if ticks else {}),
        ),
    )
    scale = alt.Scale(domain=axes.domain, clamp=True) if axes.domain else alt.Scale(zero=axes.zero)
    y = alt.Y("y:Q", title=axes.y, scale=scale, axis=alt.Axis(format=axes.y_format, tickCount=5))
    base = alt.Chart(alt.Data(values=tuple(kept))).encode(x=x)
    interpolate = "step-after" if axes.steps else "linear"
    if names:
        base = base.encode(**_series(names, look, small))
    color = {} if names else {"color": look.theme.supporting}
    line = base.mark_line(interpolate=interpolate, **color).encode(strokeWidth=_by_strength(alt.StrokeWidth, 2.0, 1.1))
    points = linked(base.encode(description="told:N"), look) if told else base
    mark = points.mark_point(filled=True, opacity=1, **color).encode(size=_by_strength(alt.Size, 34, 20))
    tooltip = ["x:Q", alt.Tooltip("y:Q", format=".4f"), *(["series:N"] if names else [])]
    low = alt.Y("low:Q", title=axes.y, scale=scale)
    layers = [
        _band([row for row in kept if row["strong"]], x, low, _series(names, look, small) if names else None, look),
        line.encode(y=y),
        mark.encode(y=y, tooltip=tooltip, **_shape(names, look, small)),
    ]
    return alt.layer(*layers).properties(width=look.plot_width(small), height=axes.height)


def _by_strength(channel: Any, strong: float, thin: float) -> Any:
    """Return an encoding of the sizes of lines that stand out, and of the others."""
    return channel("strong:N", scale=vega().Scale(domain=[True, False], range=[strong, thin]), legend=None)


def _band(rows: Sequence[Row], x: Any, low: Any, series: dict[str, Any] | None, look: Look) -> Any:
    """Return the intervals of rows that have one."""
    alt = vega()
    inside = [row for row in rows if has(row, "low", "high")]
    band = alt.Chart(alt.Data(values=tuple(inside))).mark_area(opacity=0.18, line=False)
    color = series["color"] if series else alt.value(look.theme.supporting)
    return band.encode(x=x, y=low, y2="high:Q", color=color)


def _series(names: Sequence[str], look: Look, small: bool) -> dict[str, Any]:
    """Return encodings that tell series apart: by color, and by dashes for those who see none."""
    alt = vega()
    return {
        "color": alt.Color(
            "series:N",
            scale=alt.Scale(domain=list(names), range=_colors(names, look)),
            legend=legend(look, names, small=small),
        ),
        "strokeDash": alt.StrokeDash(
            "series:N",
            scale=alt.Scale(domain=list(names), range=[DASHES[at % 6] for at in range(len(names))]),
            legend=legend(look, names, small=small),
        ),
    }


def _shape(names: Sequence[str], look: Look, small: bool) -> dict[str, Any]:
    if not names:
        return {}
    alt = vega()
    scale = alt.Scale(domain=list(names), range=[SHAPES[at % 6] for at in range(len(names))])
    return {
        "shape": alt.Shape("series:N", scale=scale, legend=legend(look, names, small=small)),
        "strokeDash": alt.value([1, 0]),
    }


def _colors(names: Sequence[str], look: Look) -> list[str]:
    """Return the colors of series: the first two are those of supporting and of distracting elements."""
    orange, blue, *others = look.theme.categories
    colors = [blue, orange, *others]
    return [colors[at % len(colors)] for at in range(len(names))]
