"""Matrices: a cell per pair, its color a value, with the number in it where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from esv_ray.analysis.figures.keys import linked
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, has

_CELL = 30  # pixels that a number needs
_MOST_CELLS = 32  # along a side


@dataclass(frozen=True)
class Cells:
    """What the cells of a matrix are.

    Attributes:
        x, y: titles of the axes.
        value: title of the legend.
        format: of the numbers.
        domain: least value, middle and greatest value.
        keys: rows and columns in their order; None: the numbers that there are.
    """

    x: str
    y: str
    value: str
    format: str
    domain: tuple[float, float, float]
    keys: Sequence[str] | None = None

    def in_blocks(self, size: int) -> Cells:
        """Return the same for cells that are means over blocks."""
        if size == 1:
            return self
        note = f" (means over blocks of {size})"
        return replace(self, x=self.x + note, y=self.y + note)


def blocks(rows: Sequence[Row], n: int) -> tuple[list[Row], int]:
    """Return the cells of a large matrix as means over blocks, and the elements per block.

    Args:
        rows: with `i`, `j`, `value`, `sure`.
        n: elements.
    """
    size = -(-n // _MOST_CELLS)
    if size == 1:
        return list(rows), 1
    inside: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        inside.setdefault((row["i"] // size * size, row["j"] // size * size), []).append(row)
    return [
        {"i": i, "j": j, "value": sum(row["value"] for row in cell) / len(cell), "sure": None}
        for (i, j), cell in inside.items()
    ], size


def matrix(rows: Sequence[Row], cells: Cells, look: Look, *, side: int) -> Any:
    """Return a matrix.

    Args:
        rows: with `i` (rows), `j` (columns), `value`, and `sure`: False if the interval of the value holds the middle,
            which is marked by a dot; `videos` if the cell is a share of some videos: how many.
        cells: titles, formats and order.
        look: colors.
        side: of the plot, in pixels.
    """
    alt = vega()
    kept = [row | {"told": _told(row, cells)} for row in rows if has(row, "value")]
    keys = list(cells.keys or sorted({row[at] for row in kept for at in "ij"}))
    step = side / max(1, len(keys))
    low, middle, high = cells.domain
    scale = alt.Scale(
        domain=[low, (low + middle) / 2, middle, (middle + high) / 2, high],
        range=list(look.theme.diverging),
        interpolate="lab",
        clamp=True,
    )
    bar = alt.Legend(
        title=cells.value, orient="bottom", direction="horizontal", gradientLength=min(side, 200), format=cells.format,
        gradientThickness=10, titleFontSize=11, labelFontSize=11, values=[low, middle, high],
    )  # fmt: skip
    axis = alt.Axis(labelAngle=0, ticks=False, domain=False, labelOverlap=True, labelSeparation=4)
    words = alt.Axis(labelAngle=-40, ticks=False, domain=False)
    base = alt.Chart(alt.Data(values=tuple(kept))).encode(
        x=alt.X(
            "j:O", title=cells.x, sort=keys, axis=words if cells.keys else axis, scale=alt.Scale(domain=keys, padding=0)
        ),
        y=alt.Y("i:O", title=cells.y, sort=keys, axis=axis, scale=alt.Scale(domain=keys, padding=0)),
    )
    layers = [
        linked(base, look)
        .mark_rect(stroke=look.theme.background, strokeWidth=1 if step > 8 else 0)
        .encode(
            color=alt.Color("value:Q", scale=scale, legend=bar),
            description="told:N",
        )
    ]
    dots = [row for row in kept if row.get("sure") is False]
    ink = _ink(look, cells)
    if step >= _CELL:
        number = base.mark_text(fontSize=11).encode(text=alt.Text("value:Q", format=cells.format), color=ink)
        layers.append(number)
    if dots:
        base = alt.Chart(alt.Data(values=tuple(dots)))
        mark = base.mark_circle(size=min(14.0, step), opacity=1, yOffset=_below(step))
        layers.append(mark.encode(x="j:O", y="i:O", color=ink))
    return alt.layer(*layers).properties(width=side, height=side)


def _told(row: Row, cells: Cells) -> str:
    """Return what a cell says."""
    value = format(row["value"], cells.format.replace("~", ""))
    videos = f"; videos: {row['videos']:,}" if "videos" in row else ""
    second = "and" if cells.x == cells.y else cells.x
    return f"{cells.y}: {row['i']}; {second}: {row['j']}; {cells.value}: {value}{videos}"


def _below(step: float) -> float:
    """Return how far below the middle of a cell its dot is: below the number, where there is one."""
    return step / 2 - 6 if step >= _CELL else 0


def _ink(look: Look, cells: Cells) -> Any:
    """Return a color of texts that is readable on every cell: dark on light cells, light on dark ones."""
    alt = vega()
    _, middle, high = cells.domain
    dark, light = ("#0b0d10", "#ffffff")
    limit = middle + 0.25 * (high - middle)
    above, below = (light, dark) if look.theme.background == "#ffffff" else (dark, light)
    return alt.condition(alt.datum.value > limit, alt.value(above), alt.value(below))
