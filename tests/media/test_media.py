"""Which picture belongs to an element: pictures in folders, thumbnails of tables, frames of videos; and where none."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from esv_ray.decoding import At, Every, ShortSide, open_decoder
from esv_ray.errors import DataError, SpecError
from esv_ray.extraction.reading import extracted_table
from esv_ray.extraction.thumbnails import SIDE
from esv_ray.extraction.work import extract
from esv_ray.media import Film, Media, Picture, open_media
from esv_ray.media.decoded import FrameDecoder, Times
from esv_ray.spec_extract import load_extract_spec
from tests.support.pictures import png
from tests.support.videos import picture, write_video

HOSTILE = ["../secret", "..", "/etc", "", "a/../../secret", "a//0", "a/", ".", "a/./0", "a\\0", "a\0", "*", "x" * 5000]
STAMPS = [0, 2, 5, 6, 11, 20, 24, 25, 29, 37, 40, 51]
"""Of a video of a varying rate, in fiftieths of a second."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos: one, two/three, and one of a varying rate."""
    folder = tmp_path_factory.mktemp("media") / "videos"
    (folder / "two").mkdir(parents=True)
    write_video(folder / "one.mp4", frames=20)
    write_video(folder / "two" / "three.mp4", frames=9)
    write_video(folder / "varying.mkv", frames=len(STAMPS), stamps=STAMPS, base=Fraction(1, 50))
    return folder


@pytest.fixture(scope="module")
def table(videos: Path) -> str:
    """A feature table of them, with thumbnails."""
    output = str(videos.parent / "table")
    request = [f"videos={videos}", "backbone=pooled", f"output={output}", "frames=5", "thumbnails=true"]
    extract(load_extract_spec(None, [*request, "cluster.actors=0", "compute.unit=2"]))
    return output


def at(location: object) -> Media:
    media = open_media(str(location), "no output")
    assert media is not None
    return media


@pytest.fixture(scope="module")
def decoded(videos: Path) -> Iterator[Media]:
    with closing(at(videos)) as media:
        yield media


def pixels(file: bytes | None) -> npt.NDArray[np.int16]:
    assert file is not None
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(np.int16)


def is_picture(file: bytes | None, number: int) -> bool:
    """Whether a file shows a frame of `write_video`, which its neighbors differ from."""
    found = pixels(file)
    height, width = found.shape[:2]
    distances = [
        float(np.abs(found - np.asarray(Image.fromarray(picture(other)).resize((width, height)))).mean())
        for other in range(20)
    ]
    return int(np.argmin(distances)) == number


def test_frames_of_videos(decoded: Media) -> None:
    found = decoded.pictures("one", [17, 0, 4, 99])
    assert [is_picture(file, number) for file, number in zip(found[:3], (17, 0, 4), strict=True)] == [True] * 3
    assert found[3] is None
    assert max(pixels(found[0]).shape) <= SIDE
    assert is_picture(decoded.pictures("two/three", [8])[0], 8)
    assert [is_picture(file, number) for number, file in enumerate(decoded.pictures("varying", range(12)))] == [
        True
    ] * 12


@pytest.mark.parametrize("video_id", [*HOSTILE, "one.mp4", "two", "three", "two/three/", "on"])
def test_ids_are_looked_up_and_lead_nowhere_else(video_id: str, decoded: Media, videos: Path, tmp_path: Path) -> None:
    write_video(videos.parent / "secret.mp4", frames=1)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "0.png").write_bytes(png(4, 1))
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    (tmp_path / "pictures" / "a" / "0.png").write_bytes(png(4, 1))
    for media in (decoded, at(tmp_path / "pictures")):
        with pytest.raises(DataError, match="found none; check --media") as caught:
            media.pictures(video_id, [0])
        assert "\n" not in str(caught.value)


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "two" / "v #1%41"
    folder.mkdir(parents=True)
    for name, data in (("frame_0003.png", png(4, 1)), ("12.JPG", b"no picture"), ("notes.txt", b""), ("x7y.webp", b"")):
        (folder / name).write_bytes(data)
    (folder / "5.png").symlink_to(tmp_path / "nowhere.png")
    media = at(tmp_path)
    assert media.pictures("two/v #1%41", [3, 12, 4, 5]) == [png(4, 1), b"no picture", None, b""]
    assert media.pictures("two/v #1%41", []) == []


def test_media_in_an_object_store(videos: Path, table: str) -> None:
    """Pictures, videos and thumbnails are read through fsspec alone."""
    store = fsspec.filesystem("memory")
    try:
        store.put(f"{videos}/", "/media-of-tests/videos/", recursive=True)
        store.put(f"{table}/", "/media-of-tests/table/", recursive=True)
        store.pipe("/media-of-tests/pictures/two/three/8.png", png(4, 1))
        for name in ("videos", "table"):
            with closing(at(f"memory://media-of-tests/{name}")) as media:
                assert is_picture(media.pictures("two/three", [8])[0], 8)
        media = at("memory://media-of-tests/pictures")
        assert media.pictures("two/three", [8, 9]) == [png(4, 1), None]
        with pytest.raises(DataError, match="found none; check --media"):
            media.pictures("two/../two/three", [8])
    finally:
        store.rm("/media-of-tests", recursive=True)


def test_two_videos_of_one_id_are_named(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.MKV", "v.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"expected one video 'v', found v\.MKV, v\.mp4; move one away"):
        at(tmp_path).pictures("v", [0])


@pytest.mark.slow
def test_a_list_a_glob_and_a_file_name_videos(videos: Path, tmp_path: Path) -> None:
    listed = tmp_path / "clips.csv"
    listed.write_text(f"video_id,path,start\n../any id,{videos}/one.mp4,0.2\n")
    for location, video_id in ((listed, "../any id"), (videos / "two" / "*.mp4", "three"), (videos / "one.mp4", "one")):
        with closing(at(location)) as media:
            assert is_picture(media.pictures(video_id, [7])[0], 7), location
            with pytest.raises(DataError, match="found none of this id"):
                media.pictures("other", [7])


def test_thumbnails_of_a_table(table: str, videos: Path, tmp_path: Path) -> None:
    media = at(table)
    for video_id, total in (("one", 20), ("two/three", 9)):
        frames = [(2 * i + 1) * total // 10 for i in range(5)]
        found = media.pictures(video_id, [*frames, frames[0] + 1])
        assert [is_picture(file, frame) for file, frame in zip(found[:5], frames, strict=True)] == [True] * 5
        assert found[5] is None
    for video_id in [*HOSTILE, "three"]:
        with pytest.raises(DataError, match="no thumbnails of video"):
            media.pictures(video_id, [0])
    plain = str(tmp_path / "plain")
    extract(load_extract_spec(None, [f"videos={videos}/one.mp4", "backbone=pooled", f"output={plain}",
                                     "frames=2", "cluster.actors=0"]))  # fmt: skip
    with pytest.raises(DataError, match="esv extract wrote without --thumbnails; give the folder of the videos"):
        at(plain)


@pytest.mark.slow
def test_frames_are_found_by_their_times_in_a_copy_of_another_rate(table: str, videos: Path, tmp_path: Path) -> None:
    """The copy shows half of the frames, each for twice as long."""
    extracted = extracted_table(table)
    assert extracted is not None
    times = extracted.times_of("one")
    assert times == {frame: frame / 25 for frame in (2, 6, 10, 14, 18)}
    copy = write_video(tmp_path / "one.mp4", frames=10, rate=Fraction(25, 2))
    decoder = FrameDecoder(Times(lambda: extracted))
    with closing(decoder):
        assert [is_picture(file, n // 2) for n, file in zip(times, decoder.pictures(str(copy), "one", [*times]),
                                                            strict=True)] == [True] * 5  # fmt: skip
        with pytest.raises(DataError, match="two-second"):
            decoder.pictures(str(tmp_path / "two-second.mp4"), "one", [*times])
    with closing(FrameDecoder(Times(lambda: None))) as by_number:
        assert is_picture(by_number.pictures(str(copy), "one", [9])[0], 9)
        with pytest.raises(
            DataError, match=r"expected frames of the numbers 18 to 18, got none; the last frame read is"
        ):
            by_number.pictures(str(copy), "one", [18])


def test_a_table_that_somebody_changed(videos: Path, tmp_path: Path) -> None:
    """Whatever stands in its place, there are times, or none, or an error of one line."""
    output = str(tmp_path / "table")
    extract(load_extract_spec(None, [f"videos={videos}/one.mp4", "backbone=pooled", f"output={output}", "frames=3",
                                     "thumbnails=true", "cluster.actors=0"]))  # fmt: skip
    (features,), (pictures,) = ((tmp_path / "table" / name).iterdir() for name in ("features", "_thumbnails"))
    for index, times, expected in (
        ([3, 10, 16], [0.12, None, float("nan")], {3: 0.12}),
        ([3, None], [0.12], {3: 0.12}),
        (None, [0.12], {}),
    ):
        pq.write_table(pa.table({"video_id": ["one"], "frame_index": pa.array([index], pa.list_(pa.int32())),
                                 "frame_time": pa.array([times], pa.list_(pa.float64()))}), features)  # fmt: skip
        changed = extracted_table(output)
        assert changed is not None
        assert changed.times_of("one") == expected
        assert changed.times_of("other") == {}
    changed = extracted_table(output)
    assert changed is not None
    for columns in ({"video_id": ["one"]}, {"video_id": ["one"], "frame_index": ["x"], "frame_time": [1.0]}):
        pq.write_table(pa.table(columns), features)
        with pytest.raises(DataError) as caught:
            changed.times_of("one")
        assert "\n" not in str(caught.value)
    for content in (b"", b"PAR1" * 20, features.read_bytes()):
        pictures.write_bytes(content)
        with pytest.raises(DataError) as caught:
            at(output).pictures("one", [3])
        assert "\n" not in str(caught.value)


def test_a_video_that_ended_before_a_time_has_no_picture_of_it(videos: Path) -> None:
    from esv_ray.media.decoded import _shown_at

    with open_decoder(isolated=False).open(str(videos / "one.mp4")) as video:
        frames, every = (
            [Picture(frame.index, frame.time, b"") for frame in video.frames(request, resize=ShortSide(20))]
            for request in (At((0.0, 0.4, 9.0)), Every())
        )
    assert [frame.number for frame in frames] == [0, 10]
    assert [_shown_at(frames, second, 25.0) for second in (0.0, 0.4, 9.0)] == [*frames, None]
    assert [_shown_at(frames, 2.0, rate) for rate in (None, 25.0, 1.0)] == [None, None, frames[1]], "two frames at most"
    assert _shown_at(every, 7 / 25 + 1e-5, 25.0) is every[7]


def test_what_is_missing_is_one_line(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"expected pictures VIDEO_ID/NUMBER\.jpg, videos VIDEO_ID\.mp4, or a table of"):
        at(tmp_path / "nothing")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with closing(at(tmp_path)) as media, pytest.raises(DataError, match=r"bad\.mp4: expected a video"):
        media.pictures("bad", [0])
    monkeypatch.setitem(sys.modules, "av", None)
    with closing(at(videos)) as media, pytest.raises(SpecError) as caught:
        media.pictures("one", [0])
    assert str(caught.value) == "decoding videos needs av (PyAV): pip install 'esv-ray[video]'"


AROUND = [-2, -1, 0, 1, 2]


def test_frames_around_one_are_those_of_the_file(decoded: Media) -> None:
    """The frame itself is the one that `pictures` gives; its neighbors are the frames before and after it."""
    for video_id, frame, rate in (("one", 10, 25), ("two/three", 4, 25)):
        found = decoded.around(video_id, frame, AROUND)
        assert [each.number for each in found.values()] == [frame + offset for offset in AROUND]
        assert all(is_picture(each.file, each.number) for each in found.values())
        assert [each.time for each in found.values()] == pytest.approx([each.number / rate for each in found.values()])
        assert found[0].file == decoded.pictures(video_id, [frame])[0]
    assert [*decoded.around("one", 0, AROUND)] == [0, 1, 2], "none before the first"
    assert [*decoded.around("one", 19, AROUND)] == [-2, -1, 0], "none after the last"
    assert [each.time for each in decoded.around("varying", 5, AROUND).values()] == pytest.approx(
        [STAMPS[5 + offset] / 50 for offset in AROUND]
    )


def test_larger_pictures_are_not_made_from_thumbnails(tmp_path: Path) -> None:
    write_video(tmp_path / "wide.mp4", frames=2, size=(360, 480))
    with closing(at(tmp_path)) as media:
        assert pixels(media.pictures("wide", [1])[0]).shape[:2] == (120, SIDE)
        assert pixels(media.pictures("wide", [1], 640)[0]).shape[:2] == (360, 480), "none is made larger"
        assert pixels(media.around("wide", 1, [-1], 640)[-1].file).shape[:2] == (360, 480)


def test_frames_around_one_in_folders_and_tables(table: str, tmp_path: Path) -> None:
    """There the frames are those of which there are pictures."""
    (tmp_path / "v").mkdir()
    for number in (3, 5, 9):
        (tmp_path / "v" / f"{number}.png").write_bytes(png(4, number))
    media = at(tmp_path)
    assert media.around("v", 5, AROUND) == {-1: (3, None, png(4, 3)), 0: (5, None, png(4, 5)), 1: (9, None, png(4, 9))}
    assert media.around("v", 4, AROUND) == {}
    found = at(table).around("one", 10, AROUND)
    assert {offset: (each.number, each.time) for offset, each in found.items()} == {
        offset: (10 + 4 * offset, (10 + 4 * offset) / 25) for offset in AROUND
    }
    assert all(is_picture(each.file, each.number) for each in found.values())


def test_files_and_times_of_videos(decoded: Media, table: str, videos: Path, tmp_path: Path) -> None:
    film = decoded.film("two/three")
    assert film is not None
    assert (film.url, film.start, film.end) == (str(videos / "two" / "three.mp4"), None, None)
    assert decoded.times("varying", [0, 5, 99]) == [0.0, pytest.approx(STAMPS[5] / 50), None]
    for video_id in HOSTILE:
        assert decoded.film(video_id) is None
        with pytest.raises(DataError, match="found none; check --media"):
            decoded.around(video_id, 0, AROUND)
        with pytest.raises(DataError, match="found none; check --media"):
            decoded.times(video_id, [0])
    assert at(table).film("one") is None
    assert at(table).times("one", [2, 3]) == [2 / 25, None]
    listed = tmp_path / "clips.csv"
    listed.write_text(f"video_id,path,start,end\nany,{videos}/one.mp4,0.2,0.5\n")
    with closing(at(listed)) as media:
        film = media.film("any")
        assert film is not None
        assert (film.start, film.end) == (0.2, 0.5)
        assert [each.number for each in media.around("any", 6, AROUND).values()] == [5, 6, 7, 8], "5 is at 0.2 s"
        assert media.film("one") is None


@pytest.mark.slow
def test_neighbors_in_a_copy_of_another_rate_are_its_own(table: str, tmp_path: Path) -> None:
    """The frame is found by its time: its neighbors are those that the copy shows before and after it."""
    extracted = extracted_table(table)
    write_video(tmp_path / "one.mp4", frames=10, rate=Fraction(25, 2))
    with closing(FrameDecoder(Times(lambda: extracted))) as decoder:
        found = decoder.around(Film(str(tmp_path / "one.mp4")), "one", 10, [-1, 0, 1], SIDE)
    assert [each.number for each in found.values()] == [4, 5, 6]
    assert [each.time for each in found.values()] == pytest.approx([8 / 25, 10 / 25, 12 / 25])
