"""Colours of figures on dark pages, from those on light ones: a figure is drawn once."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

from esv_ray.analysis.figures.look import vega
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import DARK, LIGHT, Theme, blended, colours

Pair = tuple[str, str]
"""A colour on a light page, and the same on a dark one, as `#rrggbb`."""

_COLOUR = re.compile(r"#[0-9a-f]{6}|#[0-9a-f]{3}|rgb\([0-9]+, ?[0-9]+, ?[0-9]+\)|white|black")
_TAG = re.compile(rb"<[a-z][^<>]*>")
_PAINT = re.compile(rb'( (?:fill|stroke|stop-color)=")([^"]*)"')
_STEPS = 256  # of the ramp of a scale
_FARTHEST = 6  # of 255: sum of the distances of red, green and blue between two steps of the ramp
_OTHERS = {
    "#0b0d10": "#ffffff",  # numbers in cells (`figures.matrix`)
    "#dddddd": DARK.grid,  # Vega's frame of a gradient
    "#000000": DARK.background,  # Vega's own colour of texts, below those of `figures.ranking`
}
_BLENDS = (0.45,)  # `figures.bars`


def hexadecimal(colour: str | None) -> str | None:
    """Return a colour as `#rrggbb`; None if the attribute holds no colour."""
    if colour is None or not _COLOUR.fullmatch(colour):
        return None
    if colour.startswith("rgb"):
        return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"[0-9]+", colour))
    if colour in ("white", "black"):
        return "#ffffff" if colour == "white" else "#000000"
    return colour if len(colour) == 7 else "#" + "".join(2 * part for part in colour[1:])


def variable(light: str) -> str:
    """Return the name of a colour as a CSS variable: the theme's, or the colour on light and on dark pages.

    Raises:
        ValueError: no figure has this colour.
    """
    name = _names().get(light)
    return name or f"c-{light[1:]}-{dark_of(light)[1:]}"


@cache  # a figure has thousands of marks, but few colours
def dark_of(light: str) -> str:
    """Return a colour on dark pages.

    Raises:
        ValueError: the theme does not make this colour.
    """
    known = _known().get(light)
    if known is not None:
        return known
    wanted = _parts(light)
    distance, dark = min((_distance(wanted, _parts(colour)), other) for colour, other in _ramp())
    if distance > _FARTHEST:
        raise ValueError(f"no colour of the theme: {light}")
    return dark


def darkened(svg: bytes) -> bytes:
    """Return a figure of Vega's, drawn with the light theme, in the colours of the dark one.

    Raises:
        ValueError: a colour is not the theme's.
    """

    def dark(attribute: re.Match[bytes]) -> bytes:
        colour = hexadecimal(attribute[2].decode())
        return attribute[0] if colour is None else attribute[1] + dark_of(colour).encode() + b'"'

    # Texts hold no tags: in them, < and > are escaped.
    return _TAG.sub(lambda tag: _PAINT.sub(dark, tag[0]), svg)


def colours_of(svg: bytes) -> set[Pair]:
    """Return the pairs of colours whose variables a figure uses and the theme lacks."""
    found = re.findall(rb"var\(--c-([0-9a-f]{6})-([0-9a-f]{6})\)", svg)
    return {(f"#{light.decode()}", f"#{dark.decode()}") for light, dark in found}


@cache
def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for name, colour in colours(LIGHT).items():
        names.setdefault(colour, name)
    return names


@cache
def _known() -> dict[str, str]:
    """Return the dark colour of each single colour."""
    dark = colours(DARK)
    single = {colour: dark[name] for colour, name in _names().items()}
    mixed = {
        blended(colour, LIGHT.background, share): blended(other, DARK.background, share)
        for colour, other in single.items()
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


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
