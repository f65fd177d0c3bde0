"""Laws of all figures: alike in light and dark, at any width, with any names, and with nothing to draw."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from esv_ray.analysis.figures.files import figure_files
from esv_ray.analysis.figures.look import NARROW, WIDE, Look
from esv_ray.analysis.figures.recolor import darkened, hexadecimal
from esv_ray.analysis.figures.registry import CHARTS, draw
from esv_ray.errors import DataError
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import DARK, LIGHT
from tests.analysis.figures.drawing import NAMES, svg, svg_of, tables
from tests.support import facet_tables as made
from tests.support.slow import slow_unless

WITH_NAMES = ("classes", "confusions", "contrasts", "interactions", "needed", "order", "pairs", "profiles")
FIRST = {"contrasts": ["label", "predicted"], "confusions": ["label", "predicted"]}


def size(text: str) -> tuple[float, float]:
    found = re.match(r'<svg [^>]*?width="([0-9.]+)" height="([0-9.]+)"', text)
    assert found
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("facet", slow_unless(("support", "pairs", "discards", "classes").__contains__, CHARTS))
def test_every_figure_has_titles_a_description_and_the_width_asked_for(facet: str) -> None:
    text = svg(facet)
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    description = root.get("aria-label") or ""
    assert len(description) > 40
    assert re.search(r"\d", description), "it says the finding"
    assert WIDE * 0.85 < size(text)[0] < WIDE * 1.05
    assert "null" not in made.texts(text)
    assert "undefined" not in made.texts(text)
    assert "NaN" not in text
    axes = len(re.findall(r'class="mark-text role-axis-label"', text))
    titles = len(re.findall(r'class="mark-text role-axis-title"', text))
    assert 1 <= axes <= titles, "every axis has a title"
    assert titles >= 2


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_narrow_figures_fit_a_phone(facet: str) -> None:
    assert size(svg(facet, narrow=True))[0] < NARROW * 1.12


@pytest.mark.slow
@pytest.mark.parametrize("facet", ["support", "pairs", "discards", "classes"])
def test_dark_figures_have_the_same_marks_in_other_colors(facet: str) -> None:
    light, dark = svg(facet), svg(facet, dark=True)
    for kind in ("rect", "symbol", "rule", "line", "area"):
        assert made.marks(light, kind) == made.marks(dark, kind)
    for text, theme in ((light, LIGHT), (dark, DARK)):
        assert re.match(rf'<svg [^>]*><rect [^>]*fill="{theme.background}"/>', text)


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_a_figure_turned_dark_is_the_one_drawn_dark(facet: str) -> None:
    """But for steps of a scale, numbers in its cells (both nearly black) and the frame of its legend."""

    def paints(text: str) -> list[str | None]:
        return [hexadecimal(found) for found in re.findall(r' (?:fill|stroke|stop-color)="([^"]*)"', text)]

    turned, drawn = paints(darkened(svg(facet).encode()).decode()), paints(svg(facet, dark=True))
    assert len(turned) == len(drawn)
    for one, other in zip(turned, drawn, strict=True):
        if one != other and (one, other) not in ((DARK.background, "#0b0d10"), (DARK.grid, "#dddddd")):
            assert one is not None
            assert other is not None
            apart = [abs(int(one[at : at + 2], 16) - int(other[at : at + 2], 16)) for at in (1, 3, 5)]
            assert sum(apart) <= 12


@pytest.mark.slow
def test_only_colors_are_turned_dark() -> None:
    text = svg_of("classes", made.classes(made.made_up(80, 4, 6), ['fill="#ffffff"', *NAMES[:5]]), ['fill="#ffffff"'])
    dark = darkened(text.encode()).decode()
    assert 'fill="#ffffff"' in made.texts(dark)
    assert made.texts(dark) == made.texts(text)
    with pytest.raises(ValueError, match="no color of the theme: #00ff00"):
        darkened(b'<path fill="#00ff00"/>')


@pytest.mark.slow
@pytest.mark.parametrize("facet", WITH_NAMES)
def test_class_names_are_whole_and_inert(facet: str) -> None:
    hostile = made.made_up(160, 4, len(made.HOSTILE), seed=3)
    text = svg_of(facet, made.tables(hostile, made.HOSTILE)[facet], made.HOSTILE)
    ElementTree.fromstring(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "…" not in made.texts(text), "nothing is cut"
    words = " ".join(made.texts(text).split())
    assert any(name.split("\n")[0][:4] in words for name in made.HOSTILE if len(name) > 3)


@pytest.mark.slow
def test_names_of_three_hundred_characters_are_wrapped() -> None:
    names = ["word " * 60 + "end", "x" * 300, *NAMES[:4]]
    few = made.made_up(80, 4, 6)
    for width in (WIDE, NARROW):
        text = svg_of("classes", made.classes(few, names), names, width=width)
        words = made.texts(text)
        assert words.count("word") == 60
        assert words.count("x") >= 300
        assert size(text)[0] < width * 1.1


@pytest.mark.parametrize("facet", CHARTS)
def test_a_table_without_rows_is_said_to_have_none(facet: str) -> None:
    text = svg_of(facet, tables()[facet].slice(0, 0))
    assert "No data: the table has no values to draw." in made.texts(text)


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_values_that_are_not_numbers_are_left_out(facet: str) -> None:
    table, nothing = tables()[facet], tables()[facet]
    odd = [None, float("nan"), float("inf"), float("-inf")]
    for at, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = [*odd, *table.column(at).to_pylist()[len(odd) :]][: len(table)]
            table = table.set_column(at, field.name, pa.array(values, pa.float64()))
            nothing = nothing.set_column(at, field.name, pa.nulls(len(table), field.type))
    for each in (table, nothing):
        specification = draw(facet, each, names=NAMES).to_json()
        assert "NaN" not in specification
        assert "Infinity" not in specification
    assert "NaN" not in svg_of(facet, table, NAMES)


@pytest.mark.parametrize("facet", CHARTS)
def test_other_tables_are_refused(facet: str) -> None:
    with pytest.raises(DataError, match=rf"table {facet}: expected the columns .*, got other; write the table again"):
        draw(facet, pa.table({"other": [1]}))
    table = tables()[facet]
    length = "n" if facet == "convergence" else "n_elements"
    at = table.column_names.index(length)
    with pytest.raises(DataError, match=f"column {length}: expected a number, got string"):
        draw(facet, table.set_column(at, length, pa.array(["many"] * len(table))))
    with pytest.raises(DataError, match=f"column {length}: expected a number in every row, got null"):
        draw(facet, table.set_column(at, length, pa.nulls(len(table), pa.int32())))


@pytest.mark.slow
@pytest.mark.parametrize("facet", CHARTS)
def test_lengths_have_panels_of_their_own(facet: str) -> None:
    other = made.tables(made.made_up(100, 3, 6, seed=1), NAMES)[facet]
    both = pa.concat_tables([tables()[facet], other.cast(tables()[facet].schema)])
    specification = draw(facet, both, names=NAMES).to_json()
    assert "6 elements" in specification
    assert "3 elements" in specification
    if facet in ("support", "marginals", "needed"):
        text, alone = svg_of(facet, both, NAMES), svg_of(facet, other, NAMES)
        for kind in ("rect", "symbol", "rule"):
            assert made.marks(text, kind) == made.marks(svg(facet), kind) + made.marks(alone, kind)


@pytest.mark.slow
def test_many_lengths_show_those_with_most_videos() -> None:
    parts = [made.support(made.made_up(20 + 10 * (n % 7), n, 4, seed=n)) for n in range(2, 14)]
    text = svg_of("support", pa.concat_tables(parts))
    assert "6 of 12 lengths: those with most videos." in " ".join(made.texts(text).split())
    assert "13 elements" in text
    assert "7 elements:" not in text, "the length with fewest videos"


@pytest.mark.slow
@pytest.mark.parametrize("facet", [name for name in CHARTS if name not in ("pairs", "interactions", "contrasts")])
def test_sequences_of_one_element(facet: str) -> None:
    few = made.made_up(12, 1, 2, seed=5)
    assert "1 elements" not in draw(facet, made.tables_of(few, [facet])[facet]).to_json()


@pytest.mark.slow
def test_a_figure_as_files(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw_svg(chart: Any, kind: str) -> bytes:
        drawn.append(picture_of(chart, kind))
        return drawn[-1]

    monkeypatch.setattr("esv_ray.analysis.figures.files.picture_of", draw_svg)
    names = ["<b>", *NAMES[1:]]
    files = figure_files(CHARTS["confusions"], tables()["confusions"], names=names)
    assert len(drawn) == 2, "each width once, for both themes and all formats"
    assert files["png"] == picture_of(draw("confusions", tables()["confusions"], names=names), "png")
    assert set(files) == {"svg", "png", "html"}
    assert files["png"].startswith(b"\x89PNG")
    page = files["html"].decode()
    assert page.count("<svg") == 4, "light and dark, wide and narrow"
    assert "<b>" not in page
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "the page needs nothing else"
    assert page.count("<tr>") == 1 + min(500, tables()["confusions"].num_rows)


@pytest.mark.slow
def test_gradients_of_a_page_have_names_of_their_own() -> None:
    page = figure_files(CHARTS["agreement"], tables()["agreement"])["html"].decode()
    names = re.findall(r' id="([^"]+)"', page)
    assert names
    assert len(names) == len(set(names))
    assert set(re.findall(r'"url\(#([^)]+)\)', page)) <= set(names)


def test_colors_differ_in_gray() -> None:
    def lightness(color: str) -> float:
        return float(np.dot([int(color[at : at + 2], 16) for at in (1, 3, 5)], [0.299, 0.587, 0.114]))

    for theme in (LIGHT, DARK):
        for scale in (theme.diverging, theme.sequential):
            shades = [lightness(color) for color in scale]
            steps = np.diff(shades)
            assert (steps > 0).all() or (steps < 0).all()
            assert abs(shades[0] - shades[-1]) > 100


def test_a_class_name_does_not_fill_a_screen() -> None:
    """Names of 300 characters are whole; longer ones are cut, and those that then look alike get their ids."""
    whole = "x" * 300
    look = Look([whole, "W" * 3000, "W" * 3000, "\N{WHITE SMILING FACE}" * 9])
    assert look.class_name(0) == whole
    first, second = look.class_name(1), look.class_name(2)
    assert first.endswith(" (1)")
    assert second.endswith(" (2)")
    assert max(len(first), len(second)) <= 300
