"""Files of videos: any part of one, of nothing else, from any storage; and frames around an element."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from threading import Barrier, Thread
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from esv_ray.dashboard.films import MOST_BYTES
from esv_ray.dashboard.kept import Kept
from tests.analysis.test_database import copy_to
from tests.dashboard.conftest import SHAPE
from tests.support.dashboards import ELEMENTS, FRAMES, RATE, Answer, Filmed, Served, made_up, served
from tests.support.s3_server import S3Server, client
from tests.support.videos import picture

LARGE = 2 * MOST_BYTES + 5


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, bytes]]:
    """A file that is larger than an answer may be, and its content; files that are no videos beside and above it."""
    folder = tmp_path_factory.mktemp("large")
    data = np.random.default_rng(0).bytes(LARGE)
    (folder / "media" / "a").mkdir(parents=True)
    (folder / "media" / "video-00000010.mp4").write_bytes(data)
    (folder / "media" / "video-00000011.mp4").write_bytes(b"")
    (folder / "media" / "video-00000012.txt").write_bytes(b"secret")
    (folder / "media" / "video-00000013.avi").write_bytes(b"secret")
    for name in ("passwd.mp4", "etc/passwd.mp4", "etc/hostname.mp4"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"secret")
    with served(str(made_up(folder / "esv", SHAPE)), media=str(folder / "media")) as running:
        yield running, data


def part(dashboard: Served, span: str | None, video_id: str = "video-00000010", **headers: str) -> Answer:
    asked = {"Range": span} if span is not None else {}
    return dashboard.ask(f"/media?video={quote(video_id, safe='')}", headers=asked | headers)


@given(first=st.integers(0, LARGE + 2), length=st.one_of(st.integers(1, 200), st.integers(1, LARGE)))
def test_a_part_is_that_part_of_the_file(large: tuple[Served, bytes], first: int, length: int) -> None:
    dashboard, data = large
    answer = part(dashboard, f"bytes={first}-{first + length - 1}")
    if first >= LARGE:
        assert (answer.status, answer.headers["content-range"], answer.body) == (416, f"bytes */{LARGE}", b"")
        return
    wanted = data[first : first + min(length, MOST_BYTES)]
    assert (answer.status, answer.body) == (206, wanted)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{LARGE}"
    assert answer.headers["content-length"] == str(len(wanted))
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"


def test_answers_without_an_end_follow_each_other_to_the_end(large: tuple[Served, bytes]) -> None:
    """As a browser reads: each answer says what it has, and the next question starts there."""
    dashboard, data = large
    found = b""
    while len(found) < LARGE:
        answer = part(dashboard, f"bytes={len(found)}-")
        assert answer.status == 206
        assert 0 < len(answer.body) <= MOST_BYTES
        found += answer.body
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()
    assert part(dashboard, "bytes=-7").body == data[-7:]
    assert part(dashboard, f"bytes=-{10**17}").body == data[:MOST_BYTES]


@pytest.mark.parametrize(
    "span", [None, "bytes=0-1,4-5", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-1", f"bytes={'9' * 30}-"]
)
def test_the_whole_file_only_if_it_is_small(
    large: tuple[Served, bytes], cinema: Served, filmed: Filmed, span: str
) -> None:
    """What is no range is ignored, as HTTP demands; a large file is then refused."""
    refused = part(large[0], span)
    assert refused.status == 400
    assert f"the file has {LARGE} bytes" in refused.json()["error"]
    answer = part(cinema, span, "one")
    assert (answer.status, answer.body) == (200, Path(filmed.videos, "one.mp4").read_bytes())


def test_a_part_of_another_version_is_refused(cinema: Served, filmed: Filmed) -> None:
    first = part(cinema, "bytes=0-9", "one")
    tag = first.headers["etag"]
    assert part(cinema, "bytes=10-19", "one", **{"If-Range": tag}).status == 206
    assert part(cinema, "bytes=10-19", "one", **{"If-Range": '"another"'}).status == 200
    assert part(cinema, "bytes=0-9", "two").headers["etag"] != tag
    assert part(cinema, "bytes=0-9", "two").headers["content-type"] == "video/webm"


@pytest.mark.parametrize(
    "video_id",
    ["video-00000012", "video-00000013", "video-00000014", "../../../etc/passwd", "/etc/hostname"],
)
def test_no_other_file_is_sent(large: tuple[Served, bytes], video_id: str) -> None:
    """Ids of the output that would lead out of the folder, or to files of other types."""
    answer = part(large[0], "bytes=0-99", video_id)
    assert answer.status == 404
    assert "expected a file of a type in mp4" in answer.json()["error"]
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "video_id", ["../passwd", "video-00000010.mp4", "a/../video-00000010", "none", "", "\0", "x" * 20_000]
)
@pytest.mark.parametrize("path", ["media?", "api/film?", "api/near?element=0&", "frame?element=0&"])
def test_ids_are_those_of_the_output(large: tuple[Served, bytes], path: str, video_id: str) -> None:
    answer = large[0].ask(f"/{path}video={quote(video_id, safe='')}")
    assert answer.status in (400, 404)
    assert "error" in answer.json()


def test_an_empty_file_has_no_part(large: tuple[Served, bytes]) -> None:
    assert part(large[0], "bytes=0-", "video-00000011").status == 416
    assert part(large[0], None, "video-00000011").body == b""


@pytest.mark.parametrize(("video_id", "told"), [
    ("one", {"type": "video/mp4", "start": None, "end": None}),
    ("two", {"type": "video/webm", "start": None, "end": None}),
    ("more/three", {"reason": "Browsers cannot play .avi files. The pictures of the frames are decoded here."}),
])  # fmt: skip
def test_says_what_can_be_played(cinema: Served, video_id: str, told: dict[str, object]) -> None:
    assert cinema.api("film", video=video_id) == told
    times = cinema.api("film", video=video_id, n=ELEMENTS, times=1)["times"]
    frames = cinema.api("video", video=video_id, n=ELEMENTS)["frames"]
    assert times == pytest.approx([frame / RATE for frame in frames])


def test_a_part_of_a_file_is_a_video(filmed: Filmed, tmp_path: Path) -> None:
    """A list may say where in a file its video is: players and frames around an element keep to that part."""
    listed = tmp_path / "list.csv"
    listed.write_text(f"video_id,path,start,end\none,{filmed.videos}/one.mp4,1.0,3.2\n")
    with served(filmed.output, media=str(listed)) as running:
        assert running.api("film", video="one") == {"type": "video/mp4", "start": 1.0, "end": 3.2}
        near = running.api("near", video="one", n=ELEMENTS, element=1)["frames"]
        assert [each["frame"] for each in near] == [10, 11, 12, 13, 14], "10 is at 1.0 s"
        near = running.api("near", video="one", n=ELEMENTS, element=4)["frames"]
        assert [each["frame"] for each in near] == [26, 27, 28, 29, 30, 31], "32 is at 3.2 s"
        assert "no video file" in running.api("film", video="two")["reason"]


def test_pictures_alone_cannot_be_played(dashboard: Served, filmed: Filmed) -> None:
    assert "no video file" in dashboard.api("film", video="video-00000010")["reason"]
    with served(filmed.output, media=filmed.table) as running:
        assert "no video file" in running.api("film", video="one")["reason"]
        assert part(running, None, "one").status == 404


def test_without_media_there_is_nothing(output: Path) -> None:
    with served(str(output)) as running:
        for path in ("/media?", "/api/film?", "/api/near?element=0&", "/frame?element=0&"):
            answer = running.ask(f"{path}video=video-00000010")
            assert answer.status == 400
            assert "start the dashboard with --media" in answer.json()["error"]


def shows(file: bytes, number: int) -> bool:
    """Whether a picture shows a frame of `write_video`, which its neighbors differ from."""
    found = np.asarray(Image.open(BytesIO(file)).convert("RGB")).astype(np.int16)
    height, width = found.shape[:2]
    others = [np.asarray(Image.fromarray(picture(other)).resize((width, height))) for other in range(FRAMES)]
    return int(np.argmin([np.abs(found - other).mean() for other in others])) == number


@pytest.mark.parametrize("video_id", ["one", "more/three"])
def test_frames_around_an_element(cinema: Served, video_id: str) -> None:
    """They are decoded at their own numbers, small and large, for each stride; those outside the video are left out."""
    frames = cinema.api("video", video=video_id, n=ELEMENTS)["frames"]
    for element, stride in ((2, 1), (0, 1), (5, 2)):
        near = cinema.api("near", video=video_id, n=ELEMENTS, element=element, stride=stride)["frames"]
        wanted = {step: frames[element] + step * stride for step in range(-4, 5)}
        wanted = {step: frame for step, frame in wanted.items() if 0 <= frame < FRAMES}
        assert {each["step"]: each["frame"] for each in near} == wanted
        assert [each["time"] for each in near] == pytest.approx([each["frame"] / RATE for each in near])
        address = f"/frame?video={quote(video_id, safe='')}&n={ELEMENTS}&element={element}&stride={stride}"
        for step in (min(wanted), 0, max(wanted)):
            for size, side in (("small", 96), ("large", 640)):
                answer = cinema.ask(f"{address}&step={step}&size={size}")
                assert answer.status == 200
                assert max(Image.open(BytesIO(answer.body)).size) <= side
                assert shows(answer.body, wanted[step])
    assert cinema.ask(f"/frame?video={quote(video_id, safe='')}&n={ELEMENTS}&element=0&step=-4").status == 204


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("api/near?video=one&element=0&stride=0", "stride: expected 1 to 100, got 0"),
        ("api/near?video=one&element=0&stride=101", "stride: expected 1 to 100, got 101"),
        ("api/near?video=one&element=99", "element: expected one of 0 to 5"),
        ("frame?video=one&element=0&step=5", "step: expected -4 to 4, got 5"),
        ("frame?video=one&element=0&step=--1", "step: expected a number"),
    ],
)
def test_what_is_wrong_is_said(cinema: Served, asked: str, told: str) -> None:
    answer = cinema.ask(f"/{asked}")
    assert answer.status in (400, 404)
    assert told in answer.json()["error"]


def test_a_result_is_made_once_for_all_that_ask() -> None:
    made, together, found = [], Barrier(8), []

    def make(key: int) -> int:
        made.append(key)
        if key < 0:
            raise ValueError(key)
        return 2 * key

    kept = Kept(make, most=3)

    def ask() -> None:
        together.wait()
        found.append(kept(1))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, made) == ([2] * 8, [1])
    assert [kept(2), kept(3), kept(1), kept(4), kept(1)] == [4, 6, 2, 8, 2]
    assert made == [1, 2, 3, 4], "the one that was not asked for is forgotten"
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            kept(-1)
    assert made[4:] == [-1, -1], "an error is not kept"


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_on_object_storage(filmed: Filmed, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the parts that are asked for are read from the store."""
    url = f"s3://{s3.bucket}/cinema"
    store: fsspec.AbstractFileSystem = client(s3)
    copy_to(store, Path(filmed.output), f"{url}/esv")
    copy_to(store, Path(filmed.videos), f"{url}/videos")
    data = Path(filmed.videos, "one.mp4").read_bytes()
    with served(f"{url}/esv", media=f"{url}/videos") as running:
        answer = part(running, "bytes=100-299", "one")
        assert (answer.status, answer.body) == (206, data[100:300])
        assert answer.headers["content-range"] == f"bytes 100-299/{len(data)}"
        assert part(running, "bytes=0-", "one").body == data
        assert running.api("near", video="one", n=ELEMENTS, element=2)["frames"][0]["step"] == -4
        assert running.api("film", video="more/three")["reason"].startswith("Browsers cannot play .avi")
