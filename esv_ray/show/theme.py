"""Colours and sizes of every figure: readable for colour-blind people, in grey, on light and on dark pages."""

from __future__ import annotations

from dataclasses import dataclass

SUPPORTING, DISTRACTING = "#0072b2", "#d55e00"
"""Okabe and Ito's blue and vermilion, of different lightness."""
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"


@dataclass(frozen=True)
class Theme:
    """Colours that depend on the page.

    Attributes:
        background: of the figure.
        ink: text.
        faint: secondary text, axes.
        grid: lines behind the marks.
        supporting, distracting: bars of ESVs above 0, and of others.
        categories: colours of lines that must be told apart, four.
    """

    background: str
    ink: str
    faint: str
    grid: str
    supporting: str
    distracting: str
    categories: tuple[str, str, str, str]


LIGHT = Theme(
    "#ffffff", "#1b1f24", "#57606a", "#e3e6ea", SUPPORTING, DISTRACTING, (DISTRACTING, SUPPORTING, "#00795a", "#a8407f")
)
DARK = Theme(
    "#14171b", "#e8eaed", "#a3abb5", "#333a42", "#56b4e9", "#ef8a47", ("#ef8a47", "#56b4e9", "#2fc39a", "#dc8fbc")
)


def vega_config(theme: Theme) -> dict[str, object]:
    """Return the configuration of a Vega-Lite figure."""
    axis = {
        "labelColor": theme.faint,
        "titleColor": theme.faint,
        "gridColor": theme.grid,
        "domainColor": theme.faint,
        "tickColor": theme.faint,
        "labelFont": FONT,
        "titleFont": FONT,
        "titleFontWeight": "normal",
    }
    return {
        "background": theme.background,
        "padding": 14,
        "font": FONT,
        "axis": axis,
        "title": {
            "color": theme.ink,
            "subtitleColor": theme.faint,
            "font": FONT,
            "subtitleFont": FONT,
            "fontSize": 14,
            "subtitleFontSize": 12,
            "anchor": "start",
        },
        "view": {"stroke": None},
        "legend": {
            "labelLimit": 0,
            "labelColor": theme.ink,
            "titleColor": theme.faint,
            "symbolBaseFillColor": theme.faint,  # of shapes, which have no colour of their own: else black
            "symbolBaseStrokeColor": theme.faint,
        },
    }
