"""Figure of convergence: error of sampled ESVs by head evaluations, for each estimator (Fig. 8 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, headed, legend
from esv_ray.analysis.figures.lines import SHAPES
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, read_rows
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_HEIGHT = 380
_QUANTITIES = {"relative_error": "error", "standard_error": "standard error"}
_KEYS = ["estimator", "m", "iterations", "n", "videos"]
_VALUES = ["evaluations", "relative_error", "standard_error", "pearson", "video_ms"]


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the relative error and the estimated standard error by head evaluations, on logarithmic axes.

    There is one line per estimator and number of iterations, along which m grows; the standard errors are dashed.

    Raises:
        DataError: the table is not that of convergence.
        SpecError: the libraries of figures are not installed.
    """
    points = read_rows(table, "convergence", _KEYS, _VALUES)
    panels, findings = [], []
    for n in sorted({point["n"] for point in points}):
        rows = [mark for point in points if point["n"] == n for mark in _marks(point)]
        if not rows:
            continue
        best = min(
            (row for row in rows if row["quantity"] == "error"), key=lambda row: float(row["percent"]), default=None
        )
        videos = next(point["videos"] for point in points if point["n"] == n)
        finding = f"{count_of(n, 'element')}, {videos:,} videos"
        if best is not None:
            finding += f": the least error is {best['percent']:.2g} %, of {best['series']} at m = {best['m']:,}"
        findings.append(finding)
        panels.append(headed(_panel(rows, look), look, finding))
    return figure(
        panels,
        look,
        title="Error of sampled ESVs by head evaluations per video (% of the mean |exact ESV|)",
        notes=["Each line: m grows to the right. Both axes are logarithmic."],
        summary=". ".join(findings),
    )


def _panel(rows: list[Row], look: Look) -> Any:
    """Return the lines of one length."""
    alt = vega()
    kinds = list(dict.fromkeys(row["estimator"] for row in rows))
    iterations = sorted({row["iterations"] for row in rows}, key=int)
    quantities = list(_QUANTITIES.values())
    colors = look.theme.categories
    base = alt.Chart(alt.Data(values=tuple(rows))).encode(
        x=alt.X(
            "evaluations:Q",
            title="head evaluations per video",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(format="~s", grid=True, tickCount=5),
        ),
        y=alt.Y("percent:Q", title="relative error (%)", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
        color=alt.Color(
            "estimator:N",
            scale=alt.Scale(domain=kinds, range=[colors[place % len(colors)] for place in range(len(kinds))]),
            legend=legend(look, kinds, "estimator", alone=look.narrow),
        ),
        detail="series:N",
    )
    dash = alt.StrokeDash(
        "quantity:N",
        scale=alt.Scale(domain=quantities, range=[[1, 0], [4, 4]]),
        legend=legend(look, quantities, "quantity", alone=look.narrow),
    )
    shapes = alt.Scale(domain=iterations, range=[SHAPES[place % len(SHAPES)] for place in range(len(iterations))])
    lines = base.mark_line(strokeWidth=1.5).encode(strokeDash=dash)
    marks = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("iterations:N", scale=shapes, legend=legend(look, iterations, "iterations", alone=look.narrow)),
        tooltip=["series:N", "m:Q", "percent:Q", "evaluations:Q", "r:Q", alt.Tooltip("ms:Q", title="ms per video")],
    )
    return alt.layer(lines, marks).properties(width=look.plot_width(), height=_HEIGHT)


def _marks(point: Row) -> list[Row]:
    """Return the marks of a point: its error, and its standard error where it has one."""
    return [
        {
            "series": f"{point['estimator']} x{point['iterations']}" + ("" if name == "error" else f": {name}"),
            "estimator": point["estimator"],
            "iterations": str(point["iterations"]),
            "quantity": name,
            "m": point["m"],
            "evaluations": point["evaluations"],
            "percent": 100 * point[column],
            "r": point["pearson"],
            "ms": point["video_ms"],
        }
        for column, name in _QUANTITIES.items()
        if point["evaluations"] and (point[column] or 0) > 0  # a logarithmic axis has no zero
    ]
