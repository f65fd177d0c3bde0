"""Pages of videos: together they are the whole list in its order, in either direction, for every order and filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest

from esv_ray.dashboard.browse import ORDERS, Page, adjacent, page_of
from esv_ray.dashboard.index import Index
from esv_ray.errors import DataError, SpecError
from tests.support.dashboards import FAILED, Served

Row = Mapping[str, Any]


@pytest.fixture
def index(dashboard: Served) -> Index:
    return dashboard.shown.index


def pages(index: Index, **asked: str) -> Iterator[Page]:
    page = page_of(index, asked)
    yield page
    while page.after is not None:
        page = page_of(index, asked | {"after": page.after})
        yield page


@pytest.mark.parametrize("descending", ["", "1"])
@pytest.mark.parametrize("order", list(ORDERS))
def test_pages_are_the_whole_list_in_order(index: Index, order: str, descending: str) -> None:
    found = list(pages(index, order=order, descending=descending, rows="70"))
    rows = [row for page in found for row in page.rows]
    assert [len(page.rows) for page in found] == [70, 70, 70, 70, 20]
    assert {page.total for page in found} == {300}
    assert len({row["video_id"] for row in rows}) == 300
    keys = [row[ORDERS[order]] for row in rows]
    known = [key for key in keys if key is not None]
    assert keys == known + [None] * (300 - len(known)), "those without a value come last"
    assert known == sorted(known, key=_by_bytes, reverse=bool(descending))
    if order != "id":
        ties = [[row["video_id"].encode() for row in rows if row[ORDERS[order]] == key] for key in set(keys)]
        assert all(tie == sorted(tie) for tie in ties)


@pytest.mark.parametrize("order", ["id", "misled", "supporting"])
def test_going_back_leads_to_the_same_pages(index: Index, order: str) -> None:
    asked = {"order": order, "descending": "1", "rows": "70"}
    there = list(pages(index, **asked))
    page, back = there[-1], [there[-1]]
    while page.before is not None:
        page = page_of(index, asked | {"before": page.before})
        back.append(page)
    assert [each.rows for each in reversed(back)] == [each.rows for each in there]
    assert there[0].before is None
    assert there[-1].after is None


FILTERS: list[tuple[dict[str, str], Callable[[Row], bool]]] = [
    ({"q": "SCRIPT"}, lambda row: "script" in row["video_id"].lower()),
    ({"q": "00000/"}, lambda row: False),
    ({"label": "3"}, lambda row: row["label"] == 3),
    ({"class": "3"}, lambda row: 3 in (row["label"], row["predicted"])),
    ({"predicted": "3", "outcome": "wrong"}, lambda row: row["predicted"] == 3 != row["label"]),
    ({"outcome": "right", "score": "0.5.."}, lambda row: bool(row["correct"]) and row["score"] >= 0.5),
    ({"status": "failed"}, lambda row: row["video_id"] == FAILED),
    ({"n": "6", "score": "..0.01"}, lambda row: row["score"] is not None and row["score"] <= 0.01),
    ({"best": "2", "supporting": "4"}, lambda row: row["best"] == 2 and row["supporting"] == 4),
    ({"outcome": "unlabeled"}, lambda row: False),
    ({"evidential": "-0.05..0.05"}, lambda row: row["evidential"] is not None and abs(row["evidential"]) <= 0.05),
    ({"misled": "0.01.."}, lambda row: row["misled"] is not None and row["misled"] >= 0.01),
    ({"distracted": "..0.1"}, lambda row: row["distracted"] is not None and row["distracted"] <= 0.1),
    ({"frames": "6"}, lambda row: row["n_frames"] == 6),
    ({"frames": "7.."}, lambda row: row["n_frames"] > 6),
    ({"supporting": "2..4 3.."}, lambda row: row["supporting"] in (3, 4)),
    ({"best": "1..2", "worst": "0"}, lambda row: row["best"] in (1, 2) and row["worst"] == 0),
    ({"misleading": "3"}, lambda row: row["misleading"] == 3),
    ({"explained": "3", "esvs": "1"}, lambda row: row["label"] == 3 and row["supporting"] is not None),
    ({"q": "%"}, lambda row: "%" in row["video_id"]),
]


@pytest.mark.parametrize(("asked", "fits"), FILTERS, ids=[str(asked) for asked, _ in FILTERS])
def test_filters(index: Index, asked: dict[str, str], fits: Callable[[Row], bool]) -> None:
    every = [row for page in pages(index, rows="200") for row in page.rows]
    wanted = [row for row in every if fits(row)]
    found = list(pages(index, rows="7", **asked))
    assert [row for page in found for row in page.rows] == wanted
    assert found[0].total == len(wanted)


@pytest.mark.parametrize(
    "asked",
    [
        {"order": "video_id; DROP TABLE listed"},
        {"label": "-1"},
        {"label": "1 OR 1=1"},
        {"n": "٣"},
        {"score": "nan"},
        {"score": "0..1e999"},
        {"score": ".."},
        {"evidential": "0..1..2"},
        {"misled": "0.1) OR (1=1"},
        {"frames": "1.5"},
        {"best": "-1"},
        {"worst": "0 " * 9},
        {"worst": " "},
        {"over": "1"},
        {"over": "1,2,3"},
        {"over": "a,b"},
        {"esvs": "0"},
        {"outcome": "x' OR '1'='1"},
        {"status": "gone"},
        {"q": "x" * 2000},
        {"rows": "99999999999"},
        {"after": "AAAA"},
        {"after": "é"},
        {"after": "WzEsMl0="},
        {"before": "WyJhIiwgImEiLCAtMV0="},
        {"after": "W1sxXSwgImEiLCAxXQ==", "order": "score"},
    ],
    ids=str,
)
def test_refuses_what_is_no_value(index: Index, asked: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="expected"):
        page_of(index, asked)
    assert page_of(index, {}).total == 300


def test_a_page_is_bounded(index: Index) -> None:
    assert len(page_of(index, {"rows": "2000000000"}).rows) == 200


def _by_bytes(key: object) -> tuple[float, bytes]:
    if isinstance(key, str):
        return 0.0, key.encode()
    assert isinstance(key, int | float)
    assert math.isfinite(key)
    return float(key), b""


@pytest.mark.parametrize(("order", "descending"), [("id", ""), ("misled", "1"), ("supporting", "")])
def test_going_from_video_to_video_is_the_list(index: Index, order: str, descending: str) -> None:
    """Each video's next is the one after it in the list, whose previous it is; the ends have none."""
    asked = {"order": order, "descending": descending, "outcome": "wrong"}
    rows = [row for page in pages(index, **asked, rows="200") for row in page.rows]
    chosen = rows[:5] + rows[-2:]
    for row, beside in pairwise(chosen):
        before, after = adjacent(index, asked, row["video_id"], row["n_elements"])
        assert {before.total, after.total} == {len(rows)}
        place = rows.index(row)
        assert list(before.rows) == rows[max(0, place - 1) : place]
        assert list(after.rows) == rows[place + 1 : place + 2]
        if rows.index(beside) == place + 1:
            assert list(adjacent(index, asked, beside["video_id"], beside["n_elements"])[0].rows) == [row]
    assert adjacent(index, asked, rows[-1]["video_id"], 6)[1].rows == []


def test_a_video_that_the_filter_leaves_out_has_its_place(index: Index) -> None:
    """Its neighbors are those that the filter chooses, on both sides of where it would be."""
    asked = {"order": "score", "outcome": "wrong"}
    rows = [row for page in pages(index, **asked, rows="200") for row in page.rows]
    right = page_of(index, {"outcome": "right", "low": "0.5"}).rows[0]
    before, after = adjacent(index, asked, right["video_id"], 6)
    assert list(before.rows) == [row for row in rows if row["score"] < right["score"]][-1:]
    assert list(after.rows) == [row for row in rows if row["score"] > right["score"]][:1]


def test_neighbors_of_no_video_are_refused(index: Index) -> None:
    for video_id, n in (("none", 6), ("video-00000010", 5)):
        with pytest.raises(DataError, match="expected a video of the output"):
            adjacent(index, {}, video_id, n)
    with pytest.raises(SpecError, match="order: expected one of"):
        adjacent(index, {"order": "none"}, "video-00000010", 6)
