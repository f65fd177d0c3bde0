"""From a folder of videos to a feature table that attribution reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from esv_ray.attribution.work import run_job
from esv_ray.decoding import Every, Stretch, open_decoder
from esv_ray.errors import DataError, JobError, SpecError
from esv_ray.extraction.backbones.pooled import PooledPixels
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import PREPROCESSING
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior
from tests.extraction.conftest import LENGTHS, Extract
from tests.support.videos import write_video


def rows(table: Path, folder: str = "features") -> list[dict[str, Any]]:
    files = sorted((table / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_the_features_are_those_of_the_frames_that_were_asked_for(clips: Path, run: Extract, tmp_path: Path) -> None:
    result = run(clips, "frames=4", "compute.unit=2", "compute.batch=3")
    assert (result.exit_code, result.counts.ok, result.units, result.finished) == (0, 5, 3, True)
    found = rows(tmp_path / "table")
    assert [row["video_id"] for row in found] == list(LENGTHS)
    for row in found:
        length = LENGTHS[row["video_id"]]
        numbers = [(2 * i + 1) * length // 8 for i in range(4)]
        assert row["frame_index"] == numbers
        assert row["frame_time"] == pytest.approx([number / 25 for number in numbers])
        assert np.array(row["features"]).shape == (4, 147)
        assert row["repeated"][0] is False
    assert "label" not in found[0]


def test_the_features_are_those_of_the_whole_video_at_once(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips / "c" / "a.mp4", "frames=all", "compute.batch=5")
    with open_decoder(isolated=False).open(str(clips / "c" / "a.mp4")) as video:
        images = np.stack([frame.image for frame in video.frames(Every(), resize=Stretch(128, 128))])
    (row,) = rows(tmp_path / "table")
    assert row["video_id"] == "a"
    assert np.array_equal(np.array(row["features"], np.float32), PooledPixels().encode(images))


def test_attribution_reads_the_table_and_nothing_beside_it(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "frames=4", "thumbnails=true")
    table = tmp_path / "table"
    assert {Path(file.url).parent.name for file in list_files(str(table))} == {"features"}
    dim = 147
    bundle = str(tmp_path / "model")
    save_heads(bundle, make_heads(feature_dim=dim, n_classes=3, n_max=2), make_prior(3))
    spec = load_spec(None, [f"features={table}", f"model={bundle}", f"output={tmp_path / 'esv'}", "cluster.actors=0",
                            "classes=[predicted]"])  # fmt: skip
    result = run_job(spec)
    assert (result.counts.ok, result.counts.written["attribution_rows"]) == (5, 20)
    first = rows(tmp_path / "esv", "attributions")[0]
    assert first["frame_index"] == rows(table)[0]["frame_index"][0]


def test_the_metadata_says_how_frames_became_features(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "fps=5", "size=64", "dtype=float16")
    file = next((tmp_path / "table" / "features").glob("*.parquet"))
    schema = pq.read_schema(file)
    assert json.loads(schema.metadata[PREPROCESSING]) == {
        "backbone": "pooled", "digest": "pooled-2", "dim": 147, "size": [64, 64], "short_side": None,
        "color": "RGB", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bicubic",
        "fps": 5.0, "clip": 1, "stride": 1, "decoder": "pyav",
    }  # fmt: skip
    assert str(schema.field("features").type.value_type.value_type) == "halffloat"


def test_a_bad_video_fails_alone_with_its_reason(clips: Path, run: Extract, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "good.mp4").write_bytes((clips / "a.mp4").read_bytes())
    (folder / "bad.mp4").write_bytes(b"nothing of a video")
    (folder / "empty.mp4").write_bytes(b"")
    result = run(folder)
    assert (result.exit_code, result.counts.ok, result.counts.failed, result.finished) == (1, 1, 2, True)
    assert run(folder, "max_failed=0.7").exit_code == 0
    videos = {row["video_id"]: row for row in rows(tmp_path / "table", "_videos")}
    assert {video_id: row["status"] for video_id, row in videos.items()} == {
        "bad": "failed", "empty": "failed", "good": "ok"
    }  # fmt: skip
    assert str(folder / "bad.mp4") in videos["bad"]["reason"]
    assert (videos["good"]["n_frames"], videos["good"]["shown"], videos["good"]["height"]) == (16, 20, 48)
    assert [row["video_id"] for row in rows(tmp_path / "table")] == ["good"]


def test_a_repaired_video_is_retried_and_the_others_stay(clips: Path, run: Extract, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b", "e"):
        (folder / f"{name}.mp4").write_bytes((clips / f"{name}.mp4").read_bytes())
    (folder / "b.mp4").write_bytes(b"damaged")
    run(folder, "thumbnails=true")
    (folder / "b.mp4").write_bytes((clips / "b.mp4").read_bytes())
    assert run(folder, "thumbnails=true").counts.failed == 1  # nothing is pending
    result = run(folder, "thumbnails=true", retry_failed=True)
    assert (result.exit_code, result.counts.ok, result.finished) == (0, 3, True)
    before = tmp_path / "table"
    run(folder, "thumbnails=true", f"output={tmp_path / 'whole'}")
    for part in ("features", "_videos", "_thumbnails"):
        (retried,), (whole,) = ((each / part).glob("*.parquet") for each in (before, tmp_path / "whole"))
        assert retried.read_bytes() == whole.read_bytes(), part


def test_thumbnails_show_the_frames(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips / "e.mp4", "frames=3", "thumbnails=true", "size=200")
    found = rows(tmp_path / "table", "_thumbnails")
    assert [(row["video_id"], row["element"], row["frame_index"]) for row in found] == [
        ("e", 0, 2), ("e", 1, 8), ("e", 2, 13)
    ]  # fmt: skip
    with av.open(str(clips / "e.mp4")) as file:
        frames = [frame.reformat(160, 160, "rgb24").to_ndarray() for frame in file.decode(video=0)]
    for row in found:
        image = np.asarray(Image.open(io.BytesIO(row["jpeg"]))).astype(int)
        assert image.shape == (160, 160, 3)
        assert np.abs(image - frames[row["frame_index"]]).mean() < 4


def test_frames_that_repeat_are_marked_and_kept(run: Extract, tmp_path: Path) -> None:
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for number in range(6):
            image = np.zeros((48, 64, 3), np.uint8)
            image[:, : 32 if number < 4 else 0, 0] = 255
            image[:, 32 if number < 4 else 0 :, 1] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    run(path, "frames=all")
    (row,) = rows(tmp_path / "table")
    assert row["repeated"] == [False, True, True, True, False, True]
    assert len(row["features"]) == 6


def test_an_unfinished_table_is_refused_by_readers(
    clips: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esv_ray.extraction import work
    from esv_ray.extraction.unit import run_unit

    def refuse_the_second(place: Any, unit: Any, task: Task, **rest: Any) -> Any:
        if unit.index == 1:
            raise DataError("no")
        return run_unit(place, unit, task, **rest)

    monkeypatch.setattr(work, "run_unit", refuse_the_second)
    result = run(clips, "compute.unit=2")
    assert (result.exit_code, result.finished) == (1, False)
    with pytest.raises(DataError, match=r"whose extraction was interrupted .*run the same esv extract again"):
        list_files(str(tmp_path / "table"))
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "table").glob("*/*.parquet")}
    monkeypatch.undo()
    result = run(clips, "compute.unit=2")
    assert (result.exit_code, result.finished, result.resumed_units) == (0, True, 2)
    assert len(list_files(str(tmp_path / "table"))) == 3
    assert {path: path.stat().st_mtime_ns for path in done} == done  # committed units are not computed again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["frames=8"], r"another extraction; frames: expected 16, got 8"),
        (["fps=2"], r"fps: expected None, got 2.0; frames: expected 16, got None"),
        (["size=64"], r"size: expected None, got \[64, 64\]"),
        (["dtype=float16"], r"dtype: expected 'float32', got 'float16'"),
    ],
)
def test_other_settings_are_refused_on_the_same_output(
    clips: Path, run: Extract, options: list[str], message: str
) -> None:
    run(clips / "b.mp4")
    with pytest.raises(JobError, match=message):
        run(clips / "b.mp4", *options)


def test_other_videos_are_refused_on_the_same_output(clips: Path, run: Extract, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((clips / "a.mp4").read_bytes())
    run(folder)
    (folder / "b.mp4").write_bytes((clips / "b.mp4").read_bytes())
    (folder / "a.mp4").rename(folder / "z.mp4")
    with pytest.raises(JobError, match=r"2 videos added \('b', 'z'\); 1 video removed \('a'\); put them back"):
        run(folder)


def test_a_folder_with_something_else_is_refused(clips: Path, run: Extract, tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "thesis.doc").write_text("precious")
    with pytest.raises(DataError, match=r"expected an empty or absent folder for the output, found thesis.doc"):
        run(clips)
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["thesis.doc"]


def test_parts_of_one_file_are_cut(clips: Path, run: Extract, tmp_path: Path) -> None:
    episodes = tmp_path / "episodes.csv"
    episodes.write_text(
        f"video_id,path,start,end\nfirst,{clips}/c/a.mp4,,0.4\nsecond,{clips}/c/a.mp4,0.4,0.8\nlate,{clips}/c/a.mp4,9,\n"
    )
    result = run(episodes, "frames=all")
    assert (result.counts.ok, result.counts.failed) == (2, 1)
    found = {row["video_id"]: row["frame_index"] for row in rows(tmp_path / "table")}
    assert found == {"first": list(range(10)), "second": list(range(10, 20))}


def test_further_columns_of_the_list_are_in_the_table(clips: Path, run: Extract, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"path,key_start,key_end,split\n{clips}/a.mp4,3,5,test\n{clips}/absent.mp4,1,1,train\n")
    assert run(listed).counts.failed == 1
    (row,) = rows(tmp_path / "table")
    assert (row["key_start"], row["key_end"], row["split"]) == (3, 5, "test")
    listed.write_text(f"path,key_start,key_end,split\n{clips}/a.mp4,3,5,test\n{clips}/absent.mp4,2,2,train\n")
    with pytest.raises(JobError, match=r"1 video changed in path, label, times or other columns \('absent'\)"):
        run(listed)
    listed.write_text(f"path,key_start,key_stop,split\n{clips}/a.mp4,3,5,test\n{clips}/absent.mp4,1,1,train\n")
    with pytest.raises(JobError, match=r"list_columns: expected {'key_end': 'int64'"):
        run(listed)
    listed.write_text(f"path,key_start,key_end,split\n{clips}/a.mp4,3,5,test\n{clips}/absent.mp4,1,1,train\n")
    run(listed, retry_failed=True)  # merges the committed row with the new one
    assert rows(tmp_path / "table") == [row]


def test_memory_locations_are_extracted_in_this_process(clips: Path, run: Extract) -> None:
    result = run(clips / "b.mp4", "output=memory://extraction/table", "cluster.actors=auto")
    assert result.counts.ok == 1
    with pytest.raises(SpecError, match="exists only in the memory of this process"):
        run(clips / "b.mp4", "output=memory://extraction/other", "cluster.actors=2")


def test_a_video_of_other_sizes_on_the_way_becomes_one_row(run: Extract, tmp_path: Path) -> None:
    write_video(tmp_path / "tall.mp4", frames=5, size=(96, 32))
    run(tmp_path / "tall.mp4", "frames=2")
    assert np.array(rows(tmp_path / "table")[0]["features"]).shape == (2, 147)
