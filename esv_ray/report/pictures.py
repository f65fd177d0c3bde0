"""Figures of a report: one SVG for light and for dark pages, and one for phones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode
from xml.etree import ElementTree

import pyarrow as pa

from esv_ray.analysis.figures.keys import conditions_at
from esv_ray.analysis.figures.look import NARROW, WIDE, Look, vega
from esv_ray.analysis.figures.recolor import hexadecimal, variable
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.report.content import Figure
from esv_ray.report.tables import with_minus
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import LIGHT

_LINK = "{http://www.w3.org/1999/xlink}href"
_SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?[0-9]+\.[0-9]{2,}")
_LONG_NUMBER = re.compile(r"[0-9]*\.[0-9]{5,}")
_COLORED = ("fill", "stroke", "stop-color")
_PLACED = ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "points")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_MARKS = re.compile(r"mark-(\w+) role-mark")
_JOINED = ("line", "area")  # a mark of several rows, which Vega describes by the first of them
_DRAWN = {f"{_SVG}{name}" for name in ("path", "line", "text", "image")}
_DROPPED = {
    "role", "aria-label", "aria-roledescription", "aria-hidden", "pointer-events", "font-family", "stroke-miterlimit",
    "style", "version",
}  # fmt: skip
_DEFAULTS = {"opacity": "1", "transform": "translate(0,0)", "stroke-width": "1", "fill-opacity": "1"}
_INHERITED = {
    "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "font-size",
    "font-weight", "text-anchor",
}  # fmt: skip
_LAYOUT = {
    "x",
    "y",
    "i",
    "j",
    "bin",
    "key",
    "share",
    "high",
    "low",
    "top",
    "bottom",
    "sum",
    "inner_top",
    "inner_bottom",
    "left",
    "right",
    "reversed",
    "strong",
    "supports",
    "leads_to",
    "zero",
}
_NAMELESS = {"group", "series"}  # whose values say what they are
_WORDS = {"chance": "by chance"}
_RANKED = {
    "class",
    "label → predicted class",
    "measure",
    "method",
    "method, what becomes of elements",
    "output",
}  # whose values are places in a ranking


def figure_of(
    facet: str,
    table: pa.Table,
    *,
    names: Sequence[str] | None = None,
    unit: str = "probability",
    keyed: bool = False,
) -> Figure:
    """Return the figure of a facet, for pages of any theme and width.

    Args:
        facet: one of `figures.registry.CHARTS`.
        table: the facet's table.
        names: class names by id, or None.
        unit: of scores and ESVs: `probability` or `logit`.
        keyed: whether marks have the keys of their videos (`themed`), and marks of the narrow figure tooltips too.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    looks = [Look(names, LIGHT, width, unit, brief=True, keyed=keyed) for width in (WIDE, NARROW)]
    (wide, (title, notes, alt)), (narrow, _) = (_drawn(facet, table, look) for look in looks)
    return Figure(
        wide=themed(wide, f"{facet}-w"),
        narrow=themed(narrow, f"{facet}-n", tips=keyed),
        alt=alt,
        marks=count_marks(wide),
        title=title,
        notes=notes,
    )


def _drawn(facet: str, table: pa.Table, look: Look) -> tuple[ElementTree.Element, tuple[str, str, str]]:
    """Return a figure without its title, and its title, notes and description."""
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # each part would be validated: a fifth of the time; tests of figures validate
        chart = CHARTS[facet](table, look)
    title, subtitle = (
        " ".join(each) if isinstance(each, list | tuple) else str(each)
        for each in (chart.title.text, chart.title.subtitle)
    )
    alt = str(chart.description)
    chart.title = chart.description = vega().Undefined
    chart.config.padding = 2
    chart.config.aria = not look.narrow  # for tooltips
    return ElementTree.fromstring(picture_of(chart, "svg")), (title, subtitle, alt)  # noqa: S314 - made here


def count_marks(svg: ElementTree.Element) -> int:
    """Return the number of marks that show data."""
    groups = (group for group in svg.iter(f"{_SVG}g") if group.get("class", "").startswith("mark "))
    return sum(1 for group in groups for mark in group.iter() if mark.tag in _DRAWN)


def themed(svg: ElementTree.Element, name: str, *, tips: bool = True) -> bytes:
    """Return a figure of Vega's, drawn with the light theme, as an SVG whose colors are CSS variables.

    What a page does not need is left out; descriptions of marks become tooltips (`data-tip`), and their keys
    (`figures.keys`) the conditions of their videos as a query (`data-key`) and the number of these (`data-videos`).

    Args:
        svg: the figure; changed in place.
        name: prefix of its ids, which are numbered: Vega counts them over all figures of a process.
        tips: whether marks have tooltips; phones show none.

    Raises:
        ValueError: a color is not the theme's.
    """
    _emptied(svg)
    numbers = {
        id_: f"{name}-{place}" for place, id_ in enumerate(filter(None, (each.get("id") for each in svg.iter())))
    }
    _unlinked(svg)
    for group in svg.iter(f"{_SVG}g"):
        kind = _MARKS.match(group.get("class", ""))
        if tips and kind is not None and kind[1] not in _JOINED:
            for mark in group:
                _tipped(mark)
    for element in svg.iter():
        _slimmed(element)
        for key in _COLORED:
            color = hexadecimal(element.get(key))
            if color is not None:
                element.set(key, f"var(--{variable(color)})")
        _named_apart(element, numbers)
    _inherited(svg)
    text = ElementTree.tostring(svg, encoding="unicode")
    return re.sub(r"<(/?)ns0:", r"<\1", text).replace("xmlns:ns0=", "xmlns=", 1).replace(" />", "/>").encode()


def _emptied(svg: ElementTree.Element) -> None:
    """Remove the background, and paths that draw nothing."""
    for parent in list(svg.iter()):
        for child in list(parent):
            blank = all(child.get(key, "none") in ("none", "transparent") for key in ("fill", "stroke"))
            ground = child.tag == f"{_SVG}path" and child.get("class") in ("background", "foreground") and blank
            if ground or (parent is svg and child.tag == f"{_SVG}rect"):
                parent.remove(child)


def _unlinked(svg: ElementTree.Element) -> None:
    """Put marks in the place of their links, with the keys in these."""
    for group in svg.iter(f"{_SVG}g"):
        for place, link in enumerate(group):
            if link.tag != f"{_SVG}a":
                continue
            (mark,) = link
            group[place] = mark
            key = conditions_at(link.get(_LINK, ""))
            if key is not None:
                mark.set("data-videos", key.pop("videos"))
                mark.set("data-key", urlencode(key))


def _tipped(mark: ElementTree.Element) -> None:
    """Keep the description of a mark as its tooltip: what it is of first, without what only places it."""
    told: list[str] = []
    for part in mark.get("aria-label", "").split("; "):
        name, _, value = part.partition(": ")
        placed = name in _RANKED and re.fullmatch(r"[0-9.]+", value)
        if name in _NAMELESS or (name and not value):
            told.insert(0, value or name)
        elif value and value != "null" and name not in _LAYOUT and not placed and part not in told:
            told.append(f"{_WORDS.get(name, name)}: {value}")
    if told and mark.tag in (f"{_SVG}path", f"{_SVG}line"):
        mark.set("data-tip", _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.4g}", with_minus("; ".join(told))))


def _slimmed(element: ElementTree.Element) -> None:
    """Remove attributes that change nothing on a page, and digits that no screen shows."""
    classes = _MARKS.match(element.get("class", ""))
    element.attrib.pop("class", None)
    if classes is not None:
        element.set("class", f"mark {classes[1]}")
    for key, value in list(element.attrib.items()):
        if key in _DROPPED or _DEFAULTS.get(key) == value:
            del element.attrib[key]
        elif key in _PLACED:
            element.set(key, _NUMBER.sub(lambda number: f"{float(number[0]):.1f}", value))


def _inherited(svg: ElementTree.Element) -> None:
    """Give a group the attributes that all its children have: a third of a figure's size."""
    for group in reversed(list(svg.iter(f"{_SVG}g"))):
        for key in sorted(_INHERITED & set(group[0].attrib if len(group) else ())):
            values = {child.get(key) for child in group}
            if len(values) == 1 and None not in values:
                group.set(key, values.pop() or "")
                for child in group:
                    del child.attrib[key]


def _named_apart(element: ElementTree.Element, names: Mapping[str, str]) -> None:
    """Rename an element's id, and the ids that it refers to."""
    for key, value in list(element.attrib.items()):
        if key == "id":
            element.set(key, names[value])
        elif key != "data-tip" and "url(#" in value:
            element.set(key, _REFERENCE.sub(lambda found: f"url(#{names[found[1]]})", value))
        elif key.endswith("href") and value.startswith("#"):
            element.set(key, f"#{names[value[1:]]}")
