"""Figure of the table `correlations`: the rank correlations of two outputs, video by video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows, total
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_HEIGHT = 190
_GAP = 0.002  # of the axis, on each side of a bar


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return a histogram of the rank correlations of the ESVs of each video.

    Raises:
        DataError: the table is not that of a comparison.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "correlations", ["n_elements", "videos"], ["lower", "upper"])
    kept = [row for row in rows if has(row, "lower", "upper")]
    counted = {row["n_elements"] for row in kept if row["videos"]}
    lengths, note = by_length([row for row in kept if row["n_elements"] in counted], "videos", most=4)
    small = len(lengths) > 1
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: float(row["lower"]))
        findings.append(f"{count_of(n, 'element')}: {_finding(of_length)}")
        width = look.column if small else None
        panels.append(headed(_histogram(of_length, look, small=small), look, look.heading(findings[-1]), width=width))
    return figure(
        grid(panels, look) if small else panels,
        look,
        title="Rank correlation (Spearman) of a video's values in A and B",
        notes=[
            "1: the same order of elements in both; 0 (dashed): unrelated; below 0 (orange): rather reversed.",
            note,
        ],
        summary=". ".join(findings),
    )


def _finding(rows: Sequence[Row]) -> str:
    """Return the highest bound that half of the videos reach."""
    videos, above = total(rows, "videos"), 0
    for row in reversed(rows):
        above += int(row["videos"])
        if 2 * above >= videos:
            break
    return f"{row['lower']:.1f} or more in {100 * above / videos:.0f} % of {videos:,} videos"


def _histogram(rows: Sequence[Row], look: Look, *, small: bool) -> Any:
    """Return bars from -1 to 1: the share of videos in each bin."""
    alt = vega()
    videos, theme = total(rows, "videos"), look.theme
    bars = [
        {"lower": row["lower"], "upper": row["upper"], "share": row["videos"] / videos, "reversed": row["upper"] <= 0}
        | {"told": f"rank correlation: {row['lower']:.1f} to {row['upper']:.1f}; videos: {row['videos']:,}"}
        | {"left": row["lower"] + _GAP, "right": row["upper"] - _GAP}
        for row in rows
        if row["videos"]
    ]
    scale = alt.Scale(domain=[False, True], range=[theme.supporting, theme.distracting])
    along = alt.Axis(format="~g", grid=False, tickCount=5 if look.narrow or small else 9)
    marks = (
        alt.Chart(alt.Data(values=tuple(bars)))
        .mark_rect()
        .encode(
            x=alt.X("left:Q", title="rank correlation", scale=alt.Scale(domain=[-1, 1], nice=False), axis=along),
            x2="right:Q",
            y=alt.Y("share:Q", title="share of videos", axis=alt.Axis(format="~%", tickCount=5)),
            y2=alt.datum(0),
            color=alt.Color("reversed:N", scale=scale, legend=None),
            description="told:N",
        )
    )
    zero = alt.Chart(alt.Data(values=({"zero": 0},))).mark_rule(color=theme.ink, strokeDash=[4, 3]).encode(x="zero:Q")
    return alt.layer(marks, zero).properties(width=look.plot_width(small), height=_HEIGHT)
