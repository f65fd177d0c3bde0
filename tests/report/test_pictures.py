"""Figures of a report: the same marks in any theme, and colors that are those of a dark drawing."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from esv_ray.analysis.figures.look import NARROW, WIDE
from esv_ray.analysis.figures.recolor import dark_of, hexadecimal, variable
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.report.pictures import figure_of
from esv_ray.show.theme import DARK, LIGHT, colors
from tests.analysis.figures import drawing
from tests.support import reports
from tests.support.facet_tables import marks

_COLORED = ("fill", "stroke", "stop-color")
_NEAR = 4  # of 255: a step of the ramp
_KINDS = ("rect", "symbol", "rule", "line", "area", "text")


def drawn_colors(svg: str) -> list[str]:
    """The colors of marks and texts, in the order of the drawing."""
    root = ElementTree.fromstring(svg)
    found = (
        hexadecimal(each.get(key)) for each in root.iter() for key in _COLORED if each.get("class") != "background"
    )
    return [color for color in found if color is not None]


def near(one: str, other: str) -> bool:
    return all(abs(int(one[at : at + 2], 16) - int(other[at : at + 2], 16)) <= _NEAR for at in (1, 3, 5))


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_dark_colors_are_those_of_a_dark_drawing(facet: str) -> None:
    light, dark = (drawn_colors(drawing.svg(facet, dark=dark)) for dark in (False, True))
    assert len(light) == len(dark)
    wrong = {
        (one, dark_of(one), other)
        for one, other in zip(light, dark, strict=True)
        if not near(dark_of(one), other) and one not in ("#dddddd", "#000000")  # Vega's own
    }
    # White is the background; numbers in cells are white too, where a dark drawing has a black that is a little darker.
    assert wrong <= {("#ffffff", DARK.background, "#0b0d10")}


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_figures_are_small_and_whole(facet: str) -> None:
    table = drawing.tables()[facet]
    figure = figure_of(facet, table, names=drawing.NAMES)
    for svg, narrow in ((figure.wide, False), (figure.narrow, True)):
        text = svg.decode()
        before = drawing.svg(facet, narrow=narrow)
        assert len(text) < len(before)
        root = ElementTree.fromstring(text)
        assert float(root.get("width", "0")) <= (NARROW if narrow else WIDE)
        assert not re.search(r'(fill|stroke|stop-color)="(#|rgb|black|white)', text), "colors are variables"
        assert "style=" not in text
        ids = re.findall(r' id="([^"]+)"', text)
        assert all(name.startswith(f"{facet}-{'n' if narrow else 'w'}-") for name in ids)
        assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
        assert text.count('class="mark ') > 0
    assert figure.marks == sum(marks(drawing.svg(facet), kind) for kind in (*_KINDS, "tick", "trail", "image"))
    assert figure.title
    assert figure.title in figure.alt


def test_colors_of_the_theme_have_their_names() -> None:
    dark = colors(DARK)
    for name, color in colors(LIGHT).items():
        assert dark[name] == dark_of(color)
        assert colors(LIGHT)[variable(color)] == color


def test_other_colors_are_refused() -> None:
    with pytest.raises(ValueError, match="no color of the theme: #ff00ff"):
        variable("#ff00ff")


def test_tooltips_say_what_marks_show() -> None:
    tips = re.findall(r'data-tip="([^"]+)"', reports.figure("positions").wide.decode())
    assert len(tips) >= reports.N
    assert tips[0].startswith("most supporting element; element (0: the first of the sequence): 0; share of videos: ")
    assert not re.search(r"[0-9]\.[0-9]{5}", "".join(tips))
    assert "data-tip" not in reports.figure("positions").narrow.decode()


@pytest.mark.slow
def test_tooltips_say_what_they_are_of() -> None:
    """Rows of a ranking begin with their names, however they are wrapped; nothing is said that only places a mark."""
    tips = re.findall(r'data-tip="([^"]+)"', reports.figure("confusions").wide.decode())
    names = [f"{reports.NAMES[row['label']]} → {reports.NAMES[row['predicted']]}" for row in
             reports.tables()["confusions"].to_pylist()]  # fmt: skip
    assert len(tips) == len(set(tips)) > 3
    assert all(tip.partition("; videos: ")[0] in names for tip in tips)
    tips = re.findall(r'data-tip="([^"]+)"', figure_of("profiles", drawing.tables()["profiles"]).wide.decode())
    assert len(tips) > 10
    said = r"place in the sequence: [0-9]+ to [0-9]+ %; mean ESV: [+\N{MINUS SIGN}]?[0-9.]+; videos: [0-9]+"
    assert all(re.fullmatch(said, tip) for tip in tips)
    for facet in ("classes", "needed", "areas", "order", "compare", "agreement", "pairs", "marginals", "correlations"):
        tips = re.findall(r'data-tip="([^"]+)"', figure_of(facet, drawing.tables()[facet]).wide.decode())
        assert tips, facet
        assert not re.search(r"(true|false|null|strong|inner|p25|value):?", "".join(tips)), facet


def test_panels_do_not_repeat_what_the_page_says() -> None:
    """In a report headings are lengths; files of esv analyze, which stand alone, say what panels show."""
    alone, shown = drawing.svg("positions"), figure_of("positions", drawing.tables()["positions"], names=drawing.NAMES)
    assert "most often element" in alone
    assert "most often element" not in shown.wide.decode()
    assert "most often element" in shown.alt
    assert " elements</text>" in shown.wide.decode() or " elements</tspan>" in shown.wide.decode()
