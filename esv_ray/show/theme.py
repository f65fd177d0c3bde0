"""Colors and sizes of every figure: readable for color-blind people, in gray, on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

SUPPORTING, DISTRACTING = "#0072b2", "#d55e00"
"""Okabe and Ito's blue and vermilion, of different lightness."""
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
"""Fonts of figures: those that measure their texts, or of the same widths; wider ones would be cut off."""


@dataclass(frozen=True)
class Theme:
    """Colors that depend on the page.

    Attributes:
        background: of the figure.
        ink: text.
        faint: secondary text, axes.
        grid: lines behind the marks.
        supporting, distracting: bars of ESVs above 0, and of others.
        categories: colors of lines that must be told apart, six.
        sequential: from the least to the most of a quantity.
        diverging: from the lowest to the highest of a quantity with a middle. The lightness changes in one direction,
            so that both sides differ in gray too; the middle has no hue.
        surface: behind what stands out of a page, such as a video.
        link: links, buttons and what is selected.
        good, warning, bad: words that judge.
    """

    background: str
    ink: str
    faint: str
    grid: str
    supporting: str
    distracting: str
    categories: tuple[str, ...]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]
    surface: str
    link: str
    good: str
    warning: str
    bad: str


LIGHT = Theme(
    background="#ffffff",
    ink="#1b1f24",
    faint="#57606a",
    grid="#e3e6ea",
    supporting=SUPPORTING,
    distracting=DISTRACTING,
    categories=(DISTRACTING, SUPPORTING, "#00795a", "#a8407f", "#8a6a00", "#6e7781"),
    sequential=("#eef4fa", "#8fbcdc", "#2b7bb5", "#08366b"),
    diverging=("#ffc078", "#e5b27f", "#a3a3a3", "#3f6fa0", "#00306b"),
    surface="#f5f7f9",
    link="#005a9c",
    good="#1a6f37",
    warning="#835500",
    bad="#b3261e",
)
DARK = Theme(
    background="#14171b",
    ink="#e8eaed",
    faint="#a3abb5",
    grid="#333a42",
    supporting="#56b4e9",
    distracting="#ef8a47",
    categories=("#ef8a47", "#56b4e9", "#2fc39a", "#dc8fbc", "#d9b43a", "#98a2ad"),
    sequential=("#20303f", "#2a5f8a", "#4fa3d9", "#c5e6fb"),
    diverging=("#a34a00", "#8d5a33", "#7a7a7a", "#6aa5cc", "#a9dcff"),
    surface="#1d2126",
    link="#7cc0f5",
    good="#5fcb8b",
    warning="#e6b450",
    bad="#ff9a8f",
)

SIZES = {"tiny": 11, "small": 13, "text": 16, "lead": 19, "heading": 26, "title": 38}
"""Sizes of type on pages, in pixels."""
PAGE_FONT = (
    "-apple-system, BlinkMacSystemFont, Segoe UI, Roboto, Helvetica Neue, Noto Sans, Liberation Sans, Arial, sans-serif"
)
"""Fonts of pages: those of screens, all about as wide as the ones that measure the texts of figures."""
SPACES = (4, 8, 12, 16, 24, 40, 64)
"""Distances on pages, in pixels; the page's variables count them from 1."""


def colors(theme: Theme) -> dict[str, str]:
    """Return the colors of a theme by name; those of a series are numbered from 1."""
    named: dict[str, str] = {}
    for each in fields(theme):
        value = getattr(theme, each.name)
        if isinstance(value, str):
            named[each.name] = value
        else:
            named |= {f"{each.name}-{number}": color for number, color in enumerate(value, start=1)}
    return named


def css_variables(light: Mapping[str, str] | None = None, dark: Mapping[str, str] | None = None) -> str:
    """Return the theme as CSS variables, by the setting of the reader; paper is light.

    Args:
        light, dark: further colors, by name.
    """
    sizes = {f"size-{name}": f"{size / 16:g}rem" for name, size in SIZES.items()}
    spaces = {f"space-{number}": f"{space / 16:g}rem" for number, space in enumerate(SPACES, start=1)}
    fixed = sizes | spaces | {"font": PAGE_FONT, "mono": MONO}
    return (
        f":root{{color-scheme:light dark;{_declared(fixed | colors(LIGHT) | dict(light or {}))}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{_declared(colors(DARK) | dict(dark or {}))}}}}}\n"
    )


def _declared(values: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in values.items())


def blended(color: str, other: str, share: float) -> str:
    """Return a color (``#rrggbb``) mixed with a share of another one."""
    pairs = [(int(color[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


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
        "labelLimit": 0,
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
            "titleLimit": 0,
            "labelColor": theme.ink,
            "titleColor": theme.faint,
            "symbolBaseFillColor": theme.faint,  # of shapes, which have no color of their own: else black
            "symbolBaseStrokeColor": theme.faint,
        },
    }
