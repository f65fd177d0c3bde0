"""esv export --to rerun: a recording with the video and the values of the tables, read back by Rerun's own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.decoding import Every, open_decoder
from esv_ray.errors import DataError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.show.read import read_video
from tests.conftest import make_heads, make_prior
from tests.export.conftest import IDS, NAMES, Out, write
from tests.support.jobs import run
from tests.support.videos import write_video

pytest.importorskip("rerun", reason="rerun-sdk is not installed")


def chunks(path: Path) -> list[Any]:
    from rerun.chunk import RrdReader

    return list(RrdReader(str(path)).stream())


def columns(path: Path, entity: str, *, static: bool = False) -> dict[str, list[Any]]:
    """The columns of an entity, without its metadata."""
    found: dict[str, list[Any]] = {}
    for chunk in chunks(path):
        if chunk.entity_path == f"/{entity}" and chunk.is_static == static:
            for name, values in zip(chunk.to_record_batch().schema.names, chunk.to_record_batch().columns, strict=True):
                found.setdefault(name.split(":")[-1], []).extend(values.to_pylist())
    return found


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of two videos, with their files: an MP4 with B-frames, and a file that Rerun does not play."""
    folder = tmp_path_factory.mktemp("filmed")
    (folder / "clips").mkdir()
    write_video(folder / "clips" / "a.mp4", frames=20, options={"bf": "3"})
    write_video(folder / "clips" / "b.mkv", frames=12)
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((n, 4)).astype(np.float32) for n in (20, 12)]
    table = {
        "video_id": ["a", "b"],
        "features": pa.array([list(each) for each in features], pa.list_(pa.list_(pa.float32(), 4))),
        "label": pa.array([1, 0], pa.int32()),
    }
    pq.write_table(pa.table(table), folder / "f.parquet")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=NAMES)
    run(str(folder / "f.parquet"), str(folder / "model"), folder / "out", "frames=5")
    return folder


def times_of(path: Path) -> list[float]:
    with open_decoder(isolated=False).open(str(path)) as video:
        return [frame.time for frame in video.frames(Every())]


@pytest.mark.parametrize(("video_id", "file"), [("a", "a.mp4"), ("b", "b.mkv")])
def test_the_values_stand_at_their_frames(filmed: Path, tmp_path: Path, video_id: str, file: str) -> None:
    out = str(filmed / "out")
    notes = write("rerun", out, tmp_path / "v.rrd", video_id=video_id, videos=str(filmed / "clips"))
    assert notes == []
    video, times = read_video(out, video_id), times_of(filmed / "clips" / file)
    for each in video.classes:
        found = columns(tmp_path / "v.rrd", f"esv/class_{each.class_id}")
        assert found["frame"] == video.frame_index.tolist()
        assert [values for (values,) in found["scalars"]] == each.esv.astype(float).tolist()
        seconds = [each.total_seconds() for each in found["time"]]
        assert seconds == pytest.approx([times[frame] for frame in video.frame_index], abs=1e-6)
        (names,) = columns(tmp_path / "v.rrd", f"esv/class_{each.class_id}", static=True)["names"][:1]
        assert names == [video.short_titles(60)[each.class_id]]
        assert "\x1b" not in names[0]
    pictures = columns(tmp_path / "v.rrd", "video")
    if file.endswith(".mp4"):
        assert pictures["frame"] == list(range(20))
        assert [each.total_seconds() for each in pictures["time"]] == pytest.approx(times, abs=1e-6)
        (blob,) = columns(tmp_path / "v.rrd", "video", static=True)["blob"]
        assert bytes(blob[0]) == (filmed / "clips" / file).read_bytes()
    else:
        assert pictures["frame"] == video.frame_index.tolist()
        assert all(bytes(blob[0]).startswith(b"\xff\xd8\xff") for blob in pictures["blob"])
    (about,) = columns(tmp_path / "v.rrd", "about", static=True)["text"]
    assert about[0].startswith(f"{video_id}\n5 elements, ")


def test_without_the_video_the_values_stand_at_their_numbers(plain: Out, tmp_path: Path) -> None:
    notes = write("rerun", plain.folder, tmp_path / "v.rrd", video_id=IDS[3])
    assert notes == [
        "the recording has no pictures, because the file of the video is not known; give its folder as --videos"
    ]
    assert not any(chunk.entity_path == "/video" for chunk in chunks(tmp_path / "v.rrd"))
    video = read_video(str(plain.folder), IDS[3])
    found = columns(tmp_path / "v.rrd", f"esv/class_{video.predicted}")
    assert found["frame"] == video.frame_index.tolist()
    assert "time" not in found
    with pytest.raises(DataError, match="expected no file there, found one"):
        write("rerun", plain.folder, tmp_path / "v.rrd", video_id=IDS[3])


def test_what_is_wrong(filmed: Path, plain: Out, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"VIDEO_ID: expected the id of a video, got none"):
        write("rerun", filmed / "out", tmp_path / "v.rrd")
    with pytest.raises(SpecError, match=r"VIDEO_ID has an effect only with --to rerun, got csv"):
        write("csv", filmed / "out", tmp_path / "csv", video_id="a")
    with pytest.raises(DataError, match=r"expected a video 'c' among 2, found none"):
        write("rerun", filmed / "out", tmp_path / "v.rrd", video_id="c")
    with pytest.raises(DataError, match=r"found none of this id among 1: one is 'b'"):
        write("rerun", filmed / "out", tmp_path / "v.rrd", video_id="a", videos=str(filmed / "clips" / "b.mkv"))
    for name, frames in (("a.mp4", 9), ("a.mkv", 9)):
        folder = tmp_path / name
        folder.mkdir()
        write_video(folder / name, frames=frames)
        with pytest.raises(DataError, match=r"expected a frame 18, which the output names, got 9 frames; check"):
            write("rerun", filmed / "out", tmp_path / "v.rrd", video_id="a", videos=str(folder))
    assert not (tmp_path / "v.rrd").exists()


def test_a_missing_package_is_named(plain: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(SpecError, match=r"recordings need rerun-sdk, .*pip install 'esv-ray\[rerun\]'"):
        write("rerun", plain.folder, tmp_path / "v.rrd", video_id=IDS[3])
