"""What the addresses of a dashboard answer, asked over a socket."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from esv_ray.show.read import read_video
from tests.analysis.test_database import copy_to
from tests.dashboard.conftest import SHAPE
from tests.support.dashboards import FAILED, NEW_IDS, Served, made_up, served
from tests.support.facet_tables import HOSTILE
from tests.support.s3_server import S3Server, client

WRONG = {"outcome": "wrong", "order": "misled", "descending": 1}


@pytest.fixture(scope="module")
def wrong(dashboard: Served) -> dict[str, Any]:
    """The row of the most misled video."""
    row: dict[str, Any] = dashboard.api("videos", **WRONG)["rows"][0]
    return row


def test_says_what_the_output_is(dashboard: Served, output: Path) -> None:
    told = dashboard.api("output")
    assert told["output"] == str(output)
    assert (told["videos"], told["n_classes"], told["lengths"]) == (300, 12, [6])
    assert told["names"][0] == HOSTILE[0]
    assert (told["explained"], told["unit"], told["media"], told["other"]) == ("label", "probability", True, None)
    assert told["progress"] == {"units": 5, "committed": 5, "planned": 5, "fault": "", "done": True}


def test_a_video_has_the_values_of_the_tables(dashboard: Served, output: Path, wrong: dict[str, Any]) -> None:
    told = dashboard.api("video", video=wrong["video_id"], contrast=f"{wrong['predicted']},{wrong['label']}")
    video = read_video(str(output), wrong["video_id"])
    assert told["frames"] == video.frame_index.tolist()
    assert [each["class"] for each in told["classes"]] == [video.label, video.predicted]
    for shown, each in zip(told["classes"], video.classes, strict=True):
        assert each.stderr is not None
        np.testing.assert_allclose(shown["esv"], each.esv, atol=1e-6)
        np.testing.assert_allclose(shown["stderr"], each.stderr, atol=1e-6)
        assert shown["score"] == pytest.approx(each.score, abs=1e-6)
        assert shown["bars"].count('<rect class="e"') == video.n
    assert video.difference is not None
    assert video.difference_stderr is not None
    np.testing.assert_allclose(told["contrast"]["esv"], -video.difference, atol=1e-6)
    np.testing.assert_allclose(told["contrast"]["stderr"], video.difference_stderr, atol=1e-6)
    scores = (
        pq.read_table(output / "videos", filters=[("video_id", "=", wrong["video_id"])]).column("scores")[0].as_py()
    )
    assert [each["class"] for each in told["top"]] == sorted(range(12), key=lambda each: -scores[each])
    assert told["heat"]["classes"] == [video.predicted, video.label]


def test_errors_of_a_contrast_are_its_own(dashboard: Served, wrong: dict[str, Any]) -> None:
    """The output has the errors of the label minus the predicted class; a class minus itself has none of these."""
    own = dashboard.api("video", video=wrong["video_id"], contrast=f"{wrong['label']},{wrong['predicted']}")
    errors = [np.array(each["stderr"]) for each in own["classes"]]
    assert not np.allclose(own["contrast"]["stderr"], np.hypot(*errors))
    assert own["contrast"]["note"] == ""
    assert own["errors"].startswith("±: standard error, the typical distance of a sampled ESV from the exact one; ")


def test_a_video_without_esvs_says_why(dashboard: Served) -> None:
    told = dashboard.api("video", video=FAILED)
    assert (told["status"], told["reason"]) == ("failed", "<b>NaN</b> in its features")
    assert "classes" not in told


@pytest.mark.parametrize("video_id", NEW_IDS.values(), ids=repr)
def test_any_id_is_found(dashboard: Served, video_id: str) -> None:
    assert dashboard.api("video", video=video_id)["video_id"] == video_id


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ("video?video=none", 404, "expected a video of the output, got 'none'"),
        ("video", 400, "expected an id of 1 to"),
        ("video?video=video-00000010&n=5", 400, "was attributed with [6] elements, got 5"),
        ("video?video=video-00000010&classes=11,99", 400, "expected one whose ESVs of this video are kept"),
        ("video?video=video-00000010&classes=x", 400, "classes: expected a number"),
        ("video?video=video-00000010&contrast=1", 400, "contrast: expected two classes"),
        ("video?video=video-00000010&beside=1", 400, "start the dashboard with --compare"),
        ("video?video=video-00000010&classes=0,1,2,3,4,5,6,7,8", 400, "expected at most 8, got 9"),
        ("videos?order=none", 400, "order: expected one of"),
    ],
)
def test_what_is_wrong_is_said(dashboard: Served, asked: str, status: int, told: str) -> None:
    answer = dashboard.ask(f"/api/{asked}")
    assert answer.status == status
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/main.js/../../app.py",
        "/static/..\\app.py",
        "/static/%00main.js",
        "/static/",
    ],
)
def test_no_path_leads_to_a_file(dashboard: Served, path: str) -> None:
    answer = dashboard.ask(path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def test_pictures_of_elements(dashboard: Served) -> None:
    for video_id, element in (("video-00000010", 5), (NEW_IDS["video-00000005"], 4)):
        answer = dashboard.ask(f"/frame?video={quote(video_id, safe='')}&element={element}&size=small")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
        assert Image.open(BytesIO(answer.body)).size == (32, 32)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("video=video-00000010&element=6", "element: expected one of 0 to 5"),
        ("video=video-00000010&element=-1", "element: expected a number"),
        ("video=video-00000010&element=0&size=huge", "size: expected one of"),
        ("video=../secret&element=0", "expected a video of the output"),
    ],
)
def test_no_other_picture(dashboard: Served, asked: str, told: str) -> None:
    answer = dashboard.ask(f"/frame?{asked}")
    assert answer.status in (400, 404)
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("video_id", "element"),
    [
        ("video-00000011", 0),
        (NEW_IDS["video-00000005"], 5),
        ("../../../etc/passwd", 0),
        ("/etc/hostname", 0),
        (HOSTILE[6], 0),
    ],
    ids=repr,
)
def test_no_picture_is_no_error(dashboard: Served, video_id: str, element: int) -> None:
    """Ids that would lead out of the folder have no pictures."""
    answer = dashboard.ask(f"/frame?video={quote(video_id, safe='')}&element={element}")
    assert (answer.status, answer.body) == (204, b"")


def test_nothing_is_written(output: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Whatever is asked, the output stays as it is, byte by byte, and nothing is added to it."""

    def content() -> dict[str, tuple[int, str]]:
        files = sorted(path for path in copied.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, sha256(path.read_bytes()).hexdigest()) for path in files}

    copied = tmp_path / "esv"
    shutil.copytree(output, copied)
    before = content()
    with served(str(copied)) as running:
        running.api("videos", **WRONG)
        running.api("video", video=wrong["video_id"])
        running.api("figure", name="support")
        running.api("matrix")
        running.ask("/api/videos", method="DELETE")
        running.ask("/api/videos?q=%27%3B%20DROP%20TABLE%20listed%3B--")
        assert running.api("videos")["total"] == 300
    assert content() == before


@pytest.mark.slow
def test_two_outputs(output: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Both have their own values, on one scale; a video that the second lacks is told."""
    other = made_up(tmp_path / "other", replace(SHAPE, videos=200), seed=1)
    with served(str(output), compare=str(other)) as running:
        assert running.api("output")["other"] == str(other)
        own = running.api("video", video=wrong["video_id"], beside=1)
        video = read_video(str(other), wrong["video_id"])
        np.testing.assert_allclose(own["other"]["classes"][0]["esv"], video.classes[0].esv, atol=1e-6)
        ticks = [re.findall(r'<text class="t".*?</text>', each["classes"][0]["bars"]) for each in (own, own["other"])]
        assert ticks[0] == ticks[1]
        missing = running.api("video", video="video-00000250", beside=1)
        assert missing["status"] == "ok"
        assert missing["other"]["status"] == "missing"
        assert "expected a video of the output" in missing["other"]["reason"]


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_on_object_storage(output: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    url = f"s3://{s3.bucket}/dashboard/esv"
    store: fsspec.AbstractFileSystem = client(s3)
    copy_to(store, output, url)
    with served(url) as running:
        assert running.api("videos", **WRONG)["rows"][0] == wrong
        assert running.api("video", video=wrong["video_id"])["label"] == wrong["label"]
