"""Keys of marks: they come through the drawing whole, and figures without them are as before."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.analysis.figures.files import figure_files
from esv_ray.analysis.figures.keys import Key, conditions_at, leading, linked, span
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.registry import CHARTS, KEYS
from esv_ray.report.pictures import figure_of, themed
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import LIGHT, vega_config
from tests.analysis.figures import drawing
from tests.support.facet_tables import HOSTILE
from tests.support.slow import slow_unless

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)


@given(n=st.integers(1), videos=st.integers(1), label=st.none() | st.integers(0), video=st.none() | TEXTS)
def test_an_address_holds_the_whole_key(n: int, videos: int, label: int | None, video: str | None) -> None:
    key = Key(n=n, videos=videos, label=label, video=video, best=span(2, 4), worst=span(3, 3))
    there = conditions_at(leading(key, Look(keyed=True))["leads_to"])
    assert there == key.conditions | {"videos": str(videos)}
    assert key.conditions.get("video") == video
    assert (key.conditions["best"], key.conditions["worst"]) == ("2..4", "3")


def test_other_addresses_are_no_keys() -> None:
    for address in ("", "https://example.org/?n=3", "/?n=3", "null"):
        assert conditions_at(address) is None


@pytest.mark.parametrize("video", HOSTILE, ids=repr)
def test_keys_come_through_the_drawing(video: str) -> None:
    """Vega draws the links, and a page has the keys in their place; nothing in them is markup."""
    key = Key(n=3, videos=1, video=video)
    look = Look(keyed=True)
    rows: list[dict[str, Any]] = [{"x": 1, **leading(key, look)}, {"x": 2, **leading(None, look)}]
    chart = linked(vega().Chart(vega().Data(values=rows)), look).mark_bar(color=LIGHT.supporting).encode(x="x:Q")
    chart = chart.configure(**vega_config(LIGHT))
    svg = ElementTree.fromstring(picture_of(chart, "svg"))
    text = themed(svg, "f").decode()
    there = [each for each in ElementTree.fromstring(text).iter() if each.get("data-key")]
    assert len(there) == 1
    assert there[0].get("data-videos") == "1"
    assert conditions_at("https://videos.invalid/?" + there[0].get("data-key", "")) == key.conditions
    assert "<a" not in text
    assert "href" not in text


@pytest.mark.parametrize("facet", slow_unless(lambda facet: facet == "profiles", sorted(KEYS)))
def test_figures_have_keys_only_if_asked(facet: str) -> None:
    table = drawing.tables()[facet]
    keyed, plain = (figure_of(facet, table, names=drawing.NAMES, keyed=each) for each in (True, False))
    assert b"data-key" in keyed.wide
    assert b"data-key" in keyed.narrow
    for svg in (keyed.wide, keyed.narrow):
        marks = [each for each in ElementTree.fromstring(svg).iter() if each.get("data-key")]
        assert all(mark.get("data-tip") for mark in marks), "it is the name of the link"
    for svg in (plain.wide, plain.narrow):
        assert b"data-key" not in svg
        assert b"data-videos" not in svg
    assert keyed.marks == plain.marks
    assert keyed.alt == plain.alt


@pytest.mark.slow
@pytest.mark.parametrize("facet", sorted(CHARTS))
def test_files_have_no_links(facet: str) -> None:
    files = figure_files(CHARTS[facet], drawing.tables()[facet], names=drawing.NAMES)
    for suffix in ("svg", "html"):
        assert b"videos.invalid" not in files[suffix]
        assert b"leads_to" not in files[suffix]
