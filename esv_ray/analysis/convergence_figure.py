"""A figure of convergence: error by head evaluations, for each estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from esv_ray.analysis.convergence import Point
from esv_ray.show.chart import check_figures, picture_of
from esv_ray.show.page import figure_page
from esv_ray.show.theme import DARK, LIGHT, Theme, vega_config

if TYPE_CHECKING:
    import altair

_WIDTH, _HEIGHT = 760, 420


def convergence_chart(points: Sequence[Point], theme: Theme = LIGHT) -> altair.LayerChart:
    """Return a figure of the relative error and the estimated standard error by head evaluations, on logarithmic axes.

    There is one line per estimator and number of iterations, along which m grows, as in Fig. 8 of the paper; the
    standard errors are dashed.

    Raises:
        SpecError: altair is not installed.
    """
    check_figures()
    import altair

    rows = [row for point in points for row in _rows(point)]
    kinds = list(dict.fromkeys(point.estimator for point in points))
    colours = altair.Scale(domain=kinds, range=[theme.categories[place % 4] for place in range(len(kinds))])
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "evaluations:Q",
            title="head evaluations per video",
            scale=altair.Scale(type="log", nice=False, padding=12),
            axis=altair.Axis(format="~s", grid=True),
        ),
        y=altair.Y(
            "percent:Q", title="relative error (%)", scale=altair.Scale(type="log"), axis=altair.Axis(format="~g")
        ),
        color=altair.Color("estimator:N", title="estimator", scale=colours),
        detail="series:N",
    )
    dash = altair.StrokeDash(
        "quantity:N", title="quantity", scale=altair.Scale(domain=["error", "standard error"], range=[[1, 0], [4, 4]])
    )
    shape = altair.Shape("iterations:N", title="iterations", sort=sorted({str(p.iterations) for p in points}, key=int))
    lines = base.mark_line(strokeWidth=1.5).encode(strokeDash=dash)
    marks = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=shape,
        tooltip=["series:N", "m:Q", "percent:Q", "evaluations:Q", "r:Q", altair.Tooltip("ms:Q", title="ms per video")],
    )
    first = points[0]
    title = f"ESVs of {first.videos} videos, n = {first.n}, compared with exact ones"
    chart = altair.layer(lines, marks).properties(width=_WIDTH, height=_HEIGHT, title=title)
    return chart.configure(**vega_config(theme))


def _rows(point: Point) -> list[dict[str, Any]]:
    """Return the marks of a point: its error, and its standard error where it has one."""
    values = {"error": point.relative_error, "standard error": point.standard_error}
    return [
        {
            "series": f"{point.estimator} x{point.iterations}" + ("" if quantity == "error" else f": {quantity}"),
            "estimator": point.estimator,
            "iterations": str(point.iterations),
            "quantity": quantity,
            "m": point.m,
            "evaluations": point.evaluations,
            "percent": 100 * value,
            "r": point.pearson,
            "ms": point.video_ms,
        }
        for quantity, value in values.items()
        if value > 0  # a logarithmic axis has no zero, and NaN means that there is none
    ]


def convergence_pictures(points: Sequence[Point]) -> dict[str, bytes]:
    """Return the figure as files by suffix: ``html``, a page that needs no network, and ``png``."""
    light, dark = (picture_of(convergence_chart(points, theme), "svg") for theme in (LIGHT, DARK))
    return {
        "html": figure_page("Convergence of sampled ESVs", light, dark),
        "png": picture_of(convergence_chart(points), "png"),
    }
