"""Figures are those of `esv analyze` over the chosen videos; their marks and rows lead to the videos behind them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.tables import analyze
from esv_ray.dashboard import figures as figures_module
from esv_ray.dashboard.browse import page_of
from esv_ray.dashboard.figures import NAMES, Figures, matrix_of
from esv_ray.dashboard.index import Index
from esv_ray.errors import DataError, SpecError
from esv_ray.report.sections import named
from tests.support.dashboards import Served
from tests.support.slow import slow_unless


@pytest.fixture(scope="module")
def figures(dashboard: Served) -> Figures:
    return Figures(dashboard.shown.index)


@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("support", "confusions"), NAMES))
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


@pytest.mark.parametrize(
    "name", slow_unless(lambda name: name == "confusions", ["support", "positions", "classes", "confusions"])
)
def test_rows_lead_to_their_videos(figures: Figures, dashboard: Served, name: str) -> None:
    told = figures.figure(name, {"outcome": "wrong"})
    counts = {
        "support": lambda row: row["videos"],
        "positions": lambda row: round(row["most_supporting"] * row["videos"]),
        "confusions": lambda row: row["videos"],
    }
    assert len(told["rows"]) == len(told["links"]) > 3
    for row, link in zip(told["rows"], told["links"], strict=True):
        of_row: Mapping[str, Any] = dict(zip(told["columns"], row, strict=True))
        asked = {"outcome": "wrong", "n": str(told["n"])} | {key: str(value) for key, value in link.items()}
        found = page_of(dashboard.shown.index, asked).total
        if name == "classes":
            assert found >= of_row["videos"] > 0, "the class is also predicted for others"
        else:
            assert found == counts[name](of_row)


@pytest.mark.parametrize(("name", "group"), [("support", "outcome"), ("positions", "")])
def test_every_bar_leads_to_its_videos(figures: Figures, dashboard: Served, name: str, group: str) -> None:
    wide = figures.figure(name, {})["figure"]["wide"]
    marks = re.findall(r'data-go="([^"]*)" data-tip="[^"]*share of videos: ([0-9.]+)%', wide)
    assert len(marks) == len(re.findall(r'<path[^>]* data-tip="[^"]*share of videos', wide)) > 8
    for go, share in marks:
        asked = dict(parse_qsl(unescape(go))) | {"n": "6", "status": "ok"}
        of = {"outcome": asked[group]} if group else {}
        total = page_of(dashboard.shown.index, of | {"status": "ok"}).total
        found = page_of(dashboard.shown.index, asked).total
        assert 100 * found / total == pytest.approx(float(share), abs=0.01 + 1e-3 * float(share))


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


@pytest.mark.parametrize("name", ["", "none", "summary", "contrasts", "../support"])
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
