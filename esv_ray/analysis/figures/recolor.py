"""Colors of figures on dark pages, from those on light ones: a figure is drawn once."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

from esv_ray.analysis.figures.look import vega
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import DARK, LIGHT, Theme, blended, colors

Pair = tuple[str, str]
"""A color on a light page, and the same on a dark one, as `#rrggbb`."""

_COLOR = re.compile(r"#[0-9a-f]{6}|#[0-9a-f]{3}|rgb\([0-9]+, ?[0-9]+, ?[0-9]+\)|white|black")
_TAG = re.compile(rb"<[a-z][^<>]*>")
_PAINT = re.compile(rb'( (?:fill|stroke|stop-color)=")([^"]*)"')
_STEPS = 256  # of the ramp of a scale
_FARTHEST = 6  # of 255: sum of the distances of red, green and blue between two steps of the ramp
_OTHERS = {
    "#0b0d10": "#ffffff",  # numbers in cells (`figures.matrix`)
    "#dddddd": DARK.grid,  # Vega's frame of a gradient
    "#000000": DARK.background,  # Vega's own color of texts, below those of `figures.ranking`
}
_BLENDS = (0.45,)  # `figures.bars`


def hexadecimal(color: str | None) -> str | None:
    """Return a color as `#rrggbb`; None if the attribute holds no color."""
    if color is None or not _COLOR.fullmatch(color):
        return None
    if color.startswith("rgb"):
        return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"[0-9]+", color))
    if color in ("white", "black"):
        return "#ffffff" if color == "white" else "#000000"
    return color if len(color) == 7 else "#" + "".join(2 * part for part in color[1:])


def variable(light: str) -> str:
    """Return the name of a color as a CSS variable: the theme's, or the color on light and on dark pages.

    Raises:
        ValueError: no figure has this color.
    """
    name = _names().get(light)
    return name or f"c-{light[1:]}-{dark_of(light)[1:]}"


@cache  # a figure has thousands of marks, but few colors
def dark_of(light: str) -> str:
    """Return a color on dark pages.

    Raises:
        ValueError: the theme does not make this color.
    """
    known = _known().get(light)
    if known is not None:
        return known
    wanted = _parts(light)
    distance, dark = min((_distance(wanted, _parts(color)), other) for color, other in _ramp())
    if distance > _FARTHEST:
        raise ValueError(f"no color of the theme: {light}")
    return dark


def darkened(svg: bytes) -> bytes:
    """Return a figure of Vega's, drawn with the light theme, in the colors of the dark one.

    Raises:
        ValueError: a color is not the theme's.
    """

    def dark(attribute: re.Match[bytes]) -> bytes:
        color = hexadecimal(attribute[2].decode())
        return attribute[0] if color is None else attribute[1] + dark_of(color).encode() + b'"'

    # Texts hold no tags: in them, < and > are escaped.
    return _TAG.sub(lambda tag: _PAINT.sub(dark, tag[0]), svg)


def colors_of(svg: bytes) -> set[Pair]:
    """Return the pairs of colors whose variables a figure uses and the theme lacks."""
    found = re.findall(rb"var\(--c-([0-9a-f]{6})-([0-9a-f]{6})\)", svg)
    return {(f"#{light.decode()}", f"#{dark.decode()}") for light, dark in found}


@cache
def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for name, color in colors(LIGHT).items():
        names.setdefault(color, name)
    return names


@cache
def _known() -> dict[str, str]:
    """Return the dark color of each single color."""
    dark = colors(DARK)
    single = {color: dark[name] for color, name in _names().items()}
    mixed = {
        blended(color, LIGHT.background, share): blended(other, DARK.background, share)
        for color, other in single.items()
        for share in _BLENDS
    }
    return mixed | _OTHERS | single


@cache
def _ramp() -> list[Pair]:
    """Return the steps of the diverging scale, on light and on dark pages, as Vega draws them."""
    return list(zip(_drawn_ramp(LIGHT), _drawn_ramp(DARK), strict=True))


def _drawn_ramp(theme: Theme) -> list[str]:
    alt = vega()
    stops = theme.diverging
    scale = alt.Scale(domain=[at / (len(stops) - 1) for at in range(len(stops))], range=list(stops), interpolate="lab")
    rows = alt.Data(values=[{"value": step / _STEPS} for step in range(_STEPS + 1)])
    marks = (
        alt.Chart(rows)
        .mark_rect(width=1)
        .encode(x=alt.X("value:Q", axis=None), color=alt.Color("value:Q", scale=scale, legend=None))
    )
    root = ElementTree.fromstring(picture_of(marks.configure(aria=False), "svg"))  # noqa: S314 - made here
    group = next(each for each in root.iter() if "role-mark" in each.get("class", ""))
    return [hexadecimal(each.get("fill")) or "" for each in group]


def _parts(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
