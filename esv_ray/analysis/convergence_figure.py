"""A picture of convergence: error against head evaluations, estimators side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from esv_ray.analysis.convergence import Point
from esv_ray.errors import SpecError, short_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = {"adjusted": "#0072B2", "algorithm1": "#D55E00", "exact": "#009E73", "auto": "#CC79A7"}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")  # by number of iterations


def check_plotting() -> None:
    """Refuse before anything is computed where there is nothing to draw with.

    Raises:
        SpecError: plotly is not installed.
    """
    try:
        import plotly  # noqa: F401
    except ImportError:
        raise SpecError("figures need plotly, which is not installed: pip install 'esv-ray[plots]'") from None


def convergence_figure(points: Sequence[Point]) -> go.Figure:
    """Relative error, and the standard error that was claimed, by head evaluations; both axes logarithmic.

    One line an estimator and number of iterations, as in Fig. 8 of the paper: along it m grows.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    numbers = sorted({point.iterations for point in points})
    for kind, iterations in dict.fromkeys((point.estimator, point.iterations) for point in points):
        chosen = sorted((p for p in points if (p.estimator, p.iterations) == (kind, iterations)), key=lambda p: p.m)
        colour = _COLOURS.get(kind, "#000000")
        symbol = _SYMBOLS[numbers.index(iterations) % len(_SYMBOLS)]
        figure.add_scatter(
            x=[p.evaluations for p in chosen],
            y=[100 * p.relative_error for p in chosen],
            name=f"{kind} x{iterations}",
            mode="lines+markers",
            line={"color": colour},
            marker={"symbol": symbol, "size": 9},
            text=[f"m = {p.m} x{p.iterations}: r = {p.pearson:.4f}, {p.video_ms:.3g} ms a video" for p in chosen],
            hovertemplate="%{y:.3g} %<br>%{text}<extra></extra>",
        )
        claimed = [(p.evaluations, 100 * p.standard_error) for p in chosen if p.standard_error > 0]
        if claimed:
            figure.add_scatter(
                x=[at for at, _ in claimed],
                y=[value for _, value in claimed],
                name=f"{kind} x{iterations}: its standard error",
                mode="lines+markers",
                line={"color": colour, "dash": "dot", "width": 1},
                marker={"symbol": f"{symbol}-open", "size": 7},
                hovertemplate="%{y:.3g} %<extra>its standard error</extra>",
            )
    first = points[0]
    axis = {"type": "log", "dtick": "D2", "exponentformat": "none"}
    figure.update_layout(
        title=f"ESVs of {first.videos} videos, n = {first.n}, against exact ones",
        xaxis={"title": "head evaluations a video", **axis},
        yaxis={"title": "relative error in %", **axis},
        template="plotly_white",
        width=960,
        height=560,
    )
    return figure


def write_figure(points: Sequence[Point], path: Path) -> tuple[list[Path], str]:
    """Write an HTML page that needs no network, and a PNG beside it where an image backend (kaleido) is installed.

    Returns:
        What was written, and why there is no PNG, or "" if there is one or nobody asked for it.
    """
    figure = convergence_figure(points)
    figure.write_html(path, include_plotlyjs=True)
    try:
        import kaleido  # noqa: F401
    except ImportError:
        return [path], ""
    picture = path.with_suffix(".png")
    try:
        figure.write_image(picture, scale=2)
    except (RuntimeError, OSError) as error:  # it needs a browser
        return [path], f"no {picture.name}: {short_text(error, 200)}"
    return [path, picture], ""
