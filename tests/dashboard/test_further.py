"""Further tables of one video: the values of the tables, and how few elements are enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import esv_ray
from tests.support.dashboards import ELEMENTS, Filmed, Served

IDS = ["one", "two", "more/three", "four"]


def rows(filmed: Filmed, table: str, video_id: str, n: int = ELEMENTS) -> list[dict[str, Any]]:
    found = pq.read_table(Path(filmed.output) / table, filters=[("video_id", "=", video_id), ("n_elements", "=", n)])
    return list(found.to_pylist())


@pytest.mark.parametrize("video_id", IDS)
@pytest.mark.parametrize("n", [ELEMENTS, ELEMENTS - 2])
def test_interactions_and_marginals_are_those_of_the_tables(
    cinema: Served, filmed: Filmed, video_id: str, n: int
) -> None:
    asked = {"video": video_id, "n": n, "classes": "2,0"}
    found = cinema.api("further", name="interactions", **asked)["classes"]
    assert [each["class"] for each in found] == [2, 0]
    pairs = {
        (row["class"], row["element_i"], row["element_j"]): row["interaction"]
        for row in rows(filmed, "interactions", video_id, n)
    }
    for each in found:
        wanted = [pairs[each["class"], i, j] for i in range(n) for j in range(i + 1, n)]
        np.testing.assert_allclose(each["values"], wanted, atol=1e-6)
    esvs = {
        (row["class"], row["element"]): row["esv"]
        for row in rows(filmed, "attributions", video_id, n)
        if row["method"] == "esv"
    }
    for each in cinema.api("further", name="marginals", **asked)["classes"]:
        assert np.shape(each["values"]) == (n, n)
        np.testing.assert_allclose(
            np.mean(each["values"], axis=1), [esvs[each["class"], element] for element in range(n)], atol=1e-5
        )


@pytest.mark.parametrize("video_id", IDS)
def test_values_of_methods_are_those_of_the_tables(cinema: Served, filmed: Filmed, video_id: str) -> None:
    (found,) = cinema.api("further", name="methods", video=video_id, n=ELEMENTS, classes="1")["classes"]
    values = {
        (row["method"], row["element"]): row["esv"]
        for row in rows(filmed, "attributions", video_id)
        if row["class"] == 1
    }
    assert (found["class"], [each["method"] for each in found["methods"]]) == (1, ["esv", "occlusion", "random"])
    for each in found["methods"]:
        wanted = [values[each["method"], element] for element in range(ELEMENTS)]
        np.testing.assert_allclose(each["values"], wanted, atol=1e-6)


@pytest.mark.parametrize("video_id", IDS)
def test_elements_that_are_enough_keep_the_prediction(cinema: Served, filmed: Filmed, video_id: str) -> None:
    """Those elements alone, and with any number of the others in the order of their ESVs, have the same class."""
    found = cinema.api("further", name="discards", video=video_id, n=ELEMENTS)
    curves = {
        (row["method"], row["order"], row["discarded"]): row["score"] for row in rows(filmed, "discards", video_id)
    }
    assert [curve["method"] for curve in found["curves"]] == ["esv"] * 6 + ["occlusion"] * 2 + ["random"] * 2
    for curve in found["curves"]:
        wanted = [curves[curve["method"], curve["order"], count] for count in range(ELEMENTS + 1)]
        np.testing.assert_allclose(curve["scores"], wanted, atol=1e-6)
    enough = found["enough"]
    told = cinema.api("video", video=video_id, n=ELEMENTS, classes=found["class"])
    assert enough["predicted"] == told["predicted"]
    esv = np.array(told["classes"][0]["esv"])
    largest = np.argsort(-esv, kind="stable")
    assert enough["elements"] == sorted(largest[: enough["kept"]].tolist())
    model = esv_ray.load_model(str(Path(filmed.output).parent / "model"))
    row = next(row for row in pq.read_table(Path(filmed.table) / "features").to_pylist() if row["video_id"] == video_id)
    features = np.array(row["features"], np.float32)

    def predicted(count: int) -> int:
        return int(esv_ray.explain(model, features[np.sort(largest[:count])]).scores.argmax())

    assert all(predicted(count) == enough["predicted"] for count in range(enough["kept"], ELEMENTS + 1))
    if enough["kept"] > 1:
        assert predicted(enough["kept"] - 1) == enough["without"] != enough["predicted"]
    else:
        assert enough["without"] is None
    assert 1 <= enough["best"] <= ELEMENTS


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ("name=none&video=one", 400, "name: expected one of interactions, marginals, discards, methods"),
        ("name=videos&video=one", 400, "name: expected one of"),
        ("name=marginals&video=none", 404, "expected a video of the output"),
        ("name=marginals&video=one&n=5", 400, "was attributed with"),
        ("name=marginals&video=one&classes=0,1,2,3,4,5,6,7,8", 400, "expected at most 8, got 9"),
    ],
)
def test_what_is_wrong_is_said(cinema: Served, asked: str, status: int, told: str) -> None:
    answer = cinema.ask(f"/api/further?{asked}")
    assert answer.status == status
    assert told in answer.json()["error"]


def test_a_missing_table_is_said(dashboard: Served, cinema: Served) -> None:
    names = ("interactions", "marginals", "discards", "methods")
    assert dashboard.api("output")["tables"] == dict.fromkeys(names, False)
    assert all(cinema.api("output")["tables"].values())
    for name in names:
        answer = dashboard.ask(f"/api/further?name={name}&video=video-00000010")
        assert answer.status == 404
        assert f"expected {name}, found none; see `" in answer.json()["error"]
