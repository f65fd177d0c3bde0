"""Figures are those of `esv analyze` over the chosen videos; their marks and rows lead to the videos behind them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.tables import analyze
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.dashboard import figures as figures_module
from esv_ray.dashboard.browse import page_of
from esv_ray.dashboard.figures import NAMES, Figures, matrix_of
from esv_ray.dashboard.index import Index
from esv_ray.errors import DataError, SpecError
from esv_ray.report.sections import named
from tests.support.dashboards import Served
from tests.support.slow import slow_unless

_SVG = "{http://www.w3.org/2000/svg}"
SETS = [name for name in NAMES if name != "contrasts"]
"""Figures whose marks stand for sets of videos; those of `contrasts` stand for elements of single videos."""
PARTED = ("supporting", "best", "worst", "over")


@pytest.fixture(scope="module")
def figures(dashboard: Served) -> Figures:
    return Figures(dashboard.shown.index)


@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("support", "confusions"), SETS))
def test_tables_are_those_of_esv_analyze(figures: Figures, output: Path, name: str) -> None:
    _check(figures.figure(name, {}), str(output), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["support", "classes", "confusions"])
def test_filtered_tables_are_those_of_an_output_with_these_videos_only(
    figures: Figures, output: Path, tmp_path: Path, name: str
) -> None:
    some = tmp_path / "esv"
    shutil.copytree(output, some)
    for path in (some / "videos").iterdir():
        table = pq.read_table(path)
        kept = pc.and_(
            pc.less(table.column("label"), 5), pc.not_equal(table.column("label"), table.column("predicted"))
        )
        status = pc.if_else(pc.fill_null(kept, False), table.column("status"), "failed")
        place = table.schema.get_field_index("status")
        pq.write_table(table.set_column(place, table.schema.field(place), status), path)
    told = [figures.figure(name, {"outcome": "wrong", "label": str(label)}) for label in range(5)]
    videos = sum(each["videos"] for each in told)
    assert videos == open_output(str(some)).census.ok
    if name == "classes":
        rows = sorted((row for each in told for row in each["rows"]), key=lambda row: str(row[0]))
        expected = _rows(str(some), name)
        assert len(rows) == 5
        _same(rows, sorted(expected, key=lambda row: str(row[0])))
    if name == "confusions":
        assert sorted(map(str, (row[:4] for each in told for row in each["rows"]))) == sorted(
            map(str, (row[:4] for row in _rows(str(some), name)))
        )
    if name == "support":
        counts = [sum(each["rows"][k][3] for each in told if each["rows"]) for k in range(7)]
        assert counts == [row[3] for row in _rows(str(some), name)]


def marks_of(svg: str, *kinds: str) -> list[ElementTree.Element]:
    """The marks of some kinds of a figure."""
    root = ElementTree.fromstring(svg)
    groups = [group for group in root.iter(f"{_SVG}g") if group.get("class", "").removeprefix("mark ") in kinds]
    return [mark for group in groups for mark in group]


MARKS = {
    "support": ("rect",),
    "positions": ("rect",),
    "profiles": ("symbol",),
    "pairs": ("rect",),
    "classes": ("rect", "rule"),
    "confusions": ("rect",),
    "contrasts": ("rect",),
}
"""The kinds of marks that stand for videos: those that remain are lines between them, intervals, axes and texts."""
CHOSEN: list[dict[str, str]] = [{}, {"outcome": "wrong", "label": "3"}, {"supporting": "2..4", "best": "0..3"}]


@pytest.mark.parametrize("asked", CHOSEN, ids=str)
@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("support", "confusions"), SETS))
def test_every_mark_leads_to_as_many_videos_as_it_shows(
    figures: Figures, dashboard: Served, name: str, asked: dict[str, str]
) -> None:
    told = figures.figure(name, asked)
    seen: dict[str, str] = {}
    for width in ("wide", "narrow"):
        marks = marks_of(told["figure"][width], *MARKS[name])
        assert len(marks) == told["figure"][width].count("data-key") + sum(_shows(mark) == 0 for mark in marks) > 0
        for mark in marks:
            if _shows(mark):
                assert mark.get("data-videos") == str(_shows(mark))
                seen[mark.get("data-key", "")] = mark.get("data-videos", "")
    assert len(seen) > 1 or asked
    for key, videos in seen.items():
        assert page_of(dashboard.shown.index, _both(asked, dict(parse_qsl(key)))).total == int(videos), key


@pytest.mark.parametrize("asked", CHOSEN, ids=str)
@pytest.mark.parametrize("name", slow_unless(lambda name: name == "confusions", SETS))
def test_every_row_leads_to_its_videos(figures: Figures, dashboard: Served, name: str, asked: dict[str, str]) -> None:
    told = figures.figure(name, asked)
    counts = {
        "positions": lambda row: round(row["most_supporting"] * row["videos"]),
        "pairs": lambda row: round(row["share"] * row["videos"]),
    }
    assert len(told["rows"]) == len(told["links"]) > 0
    for row, link in list(zip(told["rows"], told["links"], strict=True))[:40]:
        count = counts.get(name, itemgetter("videos"))(dict(zip(told["columns"], row, strict=True)))
        assert (link is None) == (count == 0)
        if link is not None:
            assert page_of(dashboard.shown.index, _both(asked, link)).total == count


def test_most_misled_videos_lead_to_their_elements(figures: Figures, dashboard: Served, output: Path) -> None:
    told = figures.figure("contrasts", {"low": "ignored", "best": "1..4"})
    order = page_of(dashboard.shown.index, {"order": "misled", "descending": "1", "best": "1..4", "rows": "3"})
    assert told["videos"] == page_of(dashboard.shown.index, {"best": "1..4", "outcome": "wrong"}).total
    wanted = [(row["video_id"], element) for row in order.rows for element in range(6)]
    assert [(link["video"], int(link["element"])) for link in told["links"]] == wanted
    table = analyze(str(output), ["contrasts"])["contrasts"]
    known = {(row["video_id"], row["element"]): row for row in table.to_pylist()}
    for row, place in zip(told["rows"], wanted, strict=True):
        shown = dict(zip(told["columns"], row, strict=True))
        for name in ("frame_index", "esv_label", "esv_predicted", "difference", "stderr"):
            assert shown[name] == pytest.approx(known[place][name], abs=1e-6), name
    for width in ("wide", "narrow"):
        marks = marks_of(told["figure"][width], *MARKS["contrasts"])
        keys = [dict(parse_qsl(mark.get("data-key", ""))) for mark in marks]
        assert [(key["video"], int(key["element"])) for key in keys] == wanted
        tips = [(mark.get("data-tip", "").split("; ")[:2]) for mark in marks]
        assert tips == [[video_id, f"element: {element}"] for video_id, element in wanted]
        assert {(key["n"], mark.get("data-videos")) for key, mark in zip(keys, marks, strict=True)} == {("6", "1")}
    assert figures.figure("contrasts", {"outcome": "right"}) == {
        "name": "contrasts", "title": "Misclassified videos", "videos": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_marks_of_long_sequences_and_of_equal_elements(tmp_path: Path) -> None:
    """Bars of several elements lead to the videos of all of them; equal elements are most supporting together."""
    output = tmp_path / "esv"
    write_output(str(output), Shape(videos=40, elements=50, n_classes=3))
    for path in (output / "attributions").iterdir():
        table = pq.read_table(path)
        esv = pc.if_else(pc.less(table.column("element"), 30), table.column("esv"), pa.scalar(-1.0, pa.float32()))
        pq.write_table(table.set_column(table.column_names.index("esv"), "esv", esv), path)
    index = Index(open_output(str(output)))
    index.fill()
    for name, kind in (("support", "supporting"), ("positions", "best")):
        svg = Figures(index).figure(name, {})["figure"]["narrow"]
        keys = [dict(parse_qsl(mark.get("data-key", ""))) for mark in marks_of(svg, "rect")]
        assert any(".." in key.get(kind, "") for key in keys) or name == "positions"
        for mark, key in zip(marks_of(svg, "rect"), keys, strict=True):
            assert bool(key) == (_shows(mark) is not None)
            assert not key or page_of(index, key).total == _shows(mark)
    tied = index.query("SELECT count(*) AS n FROM listed WHERE worst = 30")[0]["n"]
    for element in (30, 49):
        assert page_of(index, {"worst": str(element)}).total == page_of(index, {"worst": "30..49"}).total == tied == 40
    assert page_of(index, {"worst": "30 49"}).total == 40
    assert page_of(index, {"worst": "0..29"}).total == 0
    index.close()


def test_the_matrix_counts_labels_and_predictions(dashboard: Served, output: Path) -> None:
    told = matrix_of(dashboard.shown.index, {})
    videos = [row for row in pq.read_table(output / "videos").to_pylist() if row["status"] == "ok"]
    assert told["classes"] == list(range(12))
    assert told["videos"] == len(videos) == 299
    for label in range(12):
        for predicted in range(12):
            count = sum((row["label"], row["predicted"]) == (label, predicted) for row in videos)
            assert told["cells"][label][predicted] == count
    assert matrix_of(dashboard.shown.index, {"q": "none of them"}) == {
        "n": 0, "classes": [], "cells": [], "all_classes": 0, "videos": 0,
    }  # fmt: skip


def test_no_video_no_figure(figures: Figures) -> None:
    assert figures.figure("support", {"q": "none of them"}) == {
        "name": "support", "title": "Supporting elements", "videos": 0,
    }  # fmt: skip


def test_too_many_videos_are_told(dashboard: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "MOST_SECONDS", 0.0)
    with pytest.raises(DataError, match=r"select fewer videos|299 videos are too many .*; filter by class"):
        Figures(dashboard.shown.index).figure("support", {})


@pytest.mark.parametrize("name", ["", "none", "summary", "marginals", "../support"])
def test_unknown_figures(figures: Figures, name: str) -> None:
    with pytest.raises(SpecError, match="name: expected one of support"):
        figures.figure(name, {})


def test_is_drawn_once(output: Path) -> None:
    """Until more is indexed, the same figure is kept."""
    index = Index(open_output(str(output)))
    index.fill()
    drawn = Figures(index)
    assert drawn.figure("positions", {"label": "1"}) is drawn.figure("positions", {"label": "1"})
    assert drawn.figure("positions", {"label": "1"}) is not drawn.figure("positions", {"label": "2"})
    index.close()


def _shows(mark: ElementTree.Element) -> int | None:
    """The number of videos that a mark tells; None if it tells none."""
    found = re.search(r"(?:^|; )videos: ([0-9,]+)(?:;|$)", mark.get("data-tip", ""))
    return None if found is None else int(found[1].replace(",", ""))


def _both(asked: Mapping[str, str], key: Mapping[str, str]) -> dict[str, str]:
    """The filters of a page and those of a mark, as `together` of filters.js."""
    return {**asked, **{name: f"{asked.get(name, '')} {value}".strip() if name in PARTED else value
                        for name, value in key.items()}}  # fmt: skip


def _rows(output: str, name: str) -> list[list[Any]]:
    return [list(row.values()) for row in named(analyze(output, [name])[name], open_output(output)).to_pylist()]


def _check(told: dict[str, Any], output: str, name: str) -> None:
    expected = _rows(output, name)
    assert told["all_rows"] == len(expected) > 0
    assert told["videos"] == 299
    assert told["title"] == FACETS[name].title
    assert told["figure"]["wide"].startswith("<svg")
    _same(told["rows"], expected[:100])


def _same(rows: list[list[Any]], expected: list[list[Any]]) -> None:
    """Check that rows are equal; resampled sums are of single precision, and depend on the order of the videos."""
    for mine, theirs in zip(rows, expected, strict=True):
        for value, other in zip(mine, theirs, strict=True):
            assert value == (pytest.approx(other, rel=1e-6, abs=1e-7) if isinstance(other, float) else other)
