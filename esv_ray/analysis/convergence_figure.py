"""A picture of convergence: error against head evaluations, estimators side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from esv_ray.analysis.convergence import Point
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = {"adjusted": "#0072B2", "algorithm1": "#D55E00", "exact": "#009E73", "auto": "#CC79A7"}


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
    """Relative error, and the standard error that was claimed, by head evaluations; both axes logarithmic."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for kind in dict.fromkeys(point.estimator for point in points):
        chosen = sorted((p for p in points if p.estimator == kind), key=lambda p: p.evaluations)
        told = [f"m = {p.m} x{p.iterations}: r = {p.pearson:.4f}, {p.video_ms:.3g} ms" for p in chosen]
        colour = _COLOURS.get(kind, "#000000")
        x = [p.evaluations for p in chosen]
        figure.add_scatter(
            x=x,
            y=[100 * p.relative_error for p in chosen],
            name=f"{kind}: error",
            mode="lines+markers",
            line={"color": colour},
            text=told,
            hovertemplate="%{y:.3g} %<br>%{text}<extra></extra>",
        )
        claimed = [(at, 100 * p.standard_error) for at, p in zip(x, chosen, strict=True) if p.standard_error > 0]
        if claimed:
            figure.add_scatter(
                x=[at for at, _ in claimed],
                y=[value for _, value in claimed],
                name=f"{kind}: its standard error",
                mode="lines",
                line={"color": colour, "dash": "dot"},
            )
    first = points[0]
    figure.update_layout(
        title=f"ESVs of {first.videos} videos, n = {first.n}, against exact ones",
        xaxis={"title": "head evaluations a video", "type": "log"},
        yaxis={"title": "relative error in %", "type": "log"},
        template="plotly_white",
        width=900,
        height=560,
    )
    return figure


def write_figure(points: Sequence[Point], path: Path) -> list[Path]:
    """Write an HTML page that needs no network, and a PNG beside it where an image backend (kaleido) is installed."""
    figure = convergence_figure(points)
    figure.write_html(path, include_plotlyjs=True)
    try:
        import kaleido  # noqa: F401
    except ImportError:
        return [path]
    picture = path.with_suffix(".png")
    figure.write_image(picture, scale=2)
    return [path, picture]
