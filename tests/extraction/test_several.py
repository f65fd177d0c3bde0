"""Several backbones in one decoding: a table each, in every byte as of an extraction of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from esv_ray.decoding.isolated import IsolatedDecoder
from esv_ray.errors import DataError, EsvError, JobError, SpecError
from esv_ray.extraction import unit as unit_module
from esv_ray.extraction.run_file import read_run
from esv_ray.extraction.several import tables_in
from esv_ray.forecast.extraction import as_json, forecast_extraction
from esv_ray.input.files import list_files
from esv_ray.spec_extract import load_extract_spec
from tests.extraction.conftest import Extract
from tests.extraction.test_faults import files_of, red_video

HOME = "tests.support.backbones"
CODE = ("tests",)
SEVERAL: dict[str, dict[str, Any]] = {
    "pooled": {"backbone": "pooled", "size": 64},
    "convolution": {"backbone": f"{HOME}:convolution", "arguments": {"seed": 3}, "dtype": "float16"},
    "clips": {"backbone": f"{HOME}:motion", "name": "clips", "clip": 4, "stride": 3},
    "whole": {"backbone": f"{HOME}:seen", "name": "whole"},
}
"""Backbones with images of three sizes, of which two take the same."""
COMMON = ("frames=all", "compute.unit=2", "compute.batch=8", "thumbnails=true")


def listed(*names: str) -> str:
    return f"backbone={[SEVERAL[name] for name in names]}"


def alone(run: Extract, clips: Path, place: Path, name: str) -> dict[str, bytes]:
    """The files of an extraction with one of the backbones."""
    keys = {key: value for key, value in SEVERAL[name].items() if key != "name"}
    run(clips, *(f"{key}={value}" for key, value in keys.items()), *COMMON, f"output={place}", code=CODE)
    return files_of(place)


def test_tables_are_those_of_separate_runs_from_one_decoding(
    clips: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_video = IsolatedDecoder.open

    def counted(self: IsolatedDecoder, source: str) -> Any:
        opened.append(source)
        return open_video(self, source)

    monkeypatch.setattr(IsolatedDecoder, "open", counted)
    result = run(clips, listed(*SEVERAL), *COMMON, code=CODE)
    assert (result.counts.rows, result.counts.ok, result.counts.failed, result.finished) == (5, 5, 0, True)
    assert result.counts.written["feature_rows"] == 20
    assert len(opened) == len(set(opened)) == 5, "each video is decoded once"
    for name in SEVERAL:
        table, own = tmp_path / "table" / name, tmp_path / "alone" / name
        assert files_of(table) == alone(run, clips, own, name)
        ours, theirs = read_run(str(table)), read_run(str(own))
        assert ours is not None
        assert theirs is not None
        assert ours.keys == theirs.keys
        assert (table / "_SUCCESS").read_bytes() == (own / "_SUCCESS").read_bytes()
    opened.clear()
    own_keys = {key: value for key, value in SEVERAL["pooled"].items() if key != "name"}
    again = [f"{key}={value}" for key, value in own_keys.items()]
    run(clips, *again, *COMMON, f"output={tmp_path / 'table' / 'pooled'}")
    assert not opened, "the command for this table alone finds it complete"


def test_readers_take_one_of_the_tables(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "backbone=[pooled, pixels]", "size=16", "frames=2")
    assert tables_in(str(tmp_path / "table")) == [str(tmp_path / "table" / name) for name in ("pixels", "pooled")]
    assert tables_in(str(tmp_path / "table" / "pooled")) == []
    assert len(list_files(str(tmp_path / "table" / "pooled"))) == 2
    for place, named in ((tmp_path / "table", ""), (tmp_path, r" \(table\)")):
        message = f"expected a feature table, got a folder with a table for each of several backbones{named}; give one"
        with pytest.raises(DataError, match=message):
            list_files(str(place))


def test_a_backbone_that_is_added_decodes_again_for_itself_alone(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, listed("pooled"), *COMMON)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    options = [option for option in COMMON if not option.startswith("compute.unit")]
    result = run(clips, listed("whole", "pooled"), *options, code=CODE)  # the units are those of the first table
    assert (result.counts.ok, result.units, result.finished) == (5, 3, True)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert files_of(tmp_path / "table" / "whole") == alone(run, clips, tmp_path / "alone", "whole")


def test_a_run_that_ends_between_two_tables_resumes(
    clips: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, commits = unit_module._commit, []

    def once(target: Any, *rest: Any) -> Any:
        commits.append(target.spec.output)
        if len(commits) > 3:
            raise DataError("no")
        return commit(target, *rest)

    monkeypatch.setattr(unit_module, "_commit", once)
    result = run(clips, listed("pooled", "whole"), *COMMON, code=CODE)
    assert (result.exit_code, result.finished) == (1, False)
    names = {name: len(files_of(tmp_path / "table" / name)) for name in ("pooled", "whole")}
    assert names == {"pooled": 7, "whole": 4}, "with the list of videos"
    with pytest.raises(DataError, match="whose extraction was interrupted"):
        list_files(str(tmp_path / "table" / "pooled"))
    monkeypatch.undo()
    result = run(clips, listed("pooled", "whole"), *COMMON, code=CODE)
    assert (result.exit_code, result.counts.ok, result.resumed_units, result.finished) == (0, 5, 1, True)
    for name in ("pooled", "whole"):
        assert files_of(tmp_path / "table" / name) == alone(run, clips, tmp_path / "alone" / name, name)


@pytest.fixture
def poisoned(clips: Path, tmp_path: Path) -> Path:
    """A folder of 5 videos: one is red, and one is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        (folder / f"v{number}.mp4").write_bytes((clips / "b.mp4").read_bytes())
    red_video(folder / "v2red.mkv")
    (folder / "v1bad.mp4").write_bytes(b"bad")
    return folder


@pytest.mark.parametrize(("poison", "in_both"), [("nan", False), ("raises", True)])
def test_failed_videos_are_those_of_each_table(
    poisoned: Path, run: Extract, tmp_path: Path, poison: str, in_both: bool
) -> None:
    """Features that are not finite fail in their table; a video on which a backbone fails does so in all tables."""
    antidote = tmp_path / "antidote"
    harmful = {"backbone": f"{HOME}:poisonous", "arguments": {"poison": poison, "antidote": str(antidote)}}
    options = (f"backbone={['pooled', harmful]}", "frames=3", "compute.unit=3")
    result = run(poisoned, *options, code=CODE)
    assert (result.counts.ok, result.counts.failed, result.finished) == (3, 2, True)
    assert [video_id for video_id, _ in result.failed] == (["v1bad", "v2red"])
    failed = {
        name: [row["video_id"] for row in pq.read_table(tmp_path / "table" / name / "_videos").to_pylist()
               if row["status"] == "failed"]
        for name in ("pooled", "poisonous")
    }  # fmt: skip
    assert failed == {"pooled": ["v1bad", *["v2red"] * in_both], "poisonous": ["v1bad", "v2red"]}
    antidote.touch()
    (poisoned / "v1bad.mp4").write_bytes((poisoned / "v0.mp4").read_bytes())
    result = run(poisoned, *options, code=CODE, retry_failed=True)
    assert (result.counts.ok, result.counts.failed, result.finished) == (5, 0, True)
    run(poisoned, *options, f"output={tmp_path / 'whole'}", code=CODE)
    for name in failed:
        assert files_of(tmp_path / "table" / name) == files_of(tmp_path / "whole" / name)


def test_failed_videos_are_retried_in_a_unit_that_a_table_lacks(poisoned: Path, run: Extract, tmp_path: Path) -> None:
    run(poisoned, "backbone=[pooled]", "frames=3", "compute.unit=3")
    (poisoned / "v1bad.mp4").write_bytes((poisoned / "v0.mp4").read_bytes())
    result = run(poisoned, "backbone=[pooled, {backbone: pixels, size: 16}]", "frames=3", retry_failed=True)
    assert (result.counts.ok, result.counts.failed, result.finished) == (5, 0, True)
    assert pq.read_table(tmp_path / "table" / "pooled" / "features").num_rows == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[pooled, pooled]", "expected tables of different names, got 'pooled' twice"),
        ("[a.b:c, {backbone: 'x.y:d', name: C}]", "expected tables of different names, got 'C' twice"),
        ("[]", "expected at least one backbone"),
        ("[pooled, 3]", "expected names of backbones, or mappings with the key backbone, got 3"),
        ("[pooled, {backbone: pixels, sizes: 3}]", "got an invalid one: unknown key 'sizes'; did you mean 'size'"),
        ("[pooled, {name: x}]", "key 'backbone' is missing"),
        ("[{backbone: pooled, name: ../x}]", "name: expected letters, digits, .* got '../x'"),
        ("[{backbone: pooled, name: _x}]", "name: expected letters"),
    ],
)
def test_lists_of_backbones_are_checked(value: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_extract_spec(None, ["videos=v", "output=o", f"backbone={value}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("option", "key"), [("weights=w.pt", "weights"), ("arguments={a: 1}", "arguments")])
def test_what_one_backbone_takes_is_given_to_one(option: str, key: str) -> None:
    with pytest.raises(SpecError, match=f"{key}: expected none beside several backbones, got .*{key}: ...}}"):
        load_extract_spec(None, ["videos=v", "output=o", "backbone=[pooled, pixels]", option])


def test_names_of_tables_are_those_of_backbones() -> None:
    listed = "[pooled, 'a.b:make', 'onnx:/x/y z.onnx', 'timm:vit_base.augreg', {backbone: pixels, weights: w.pt}]"
    spec = load_extract_spec(None, ["videos=v", "output=/o", f"backbone={listed}", "dtype=float16"])
    places = [each.output for each in spec.extractions]
    assert places == ["/o/pooled", "/o/make", "/o/y-z", "/o/vit_base.augreg", "/o/pixels"]
    assert [each.dtype for each in spec.extractions] == ["float16"] * 5
    assert spec.extractions[-1].weights == str(Path("w.pt").absolute())


def test_folders_with_something_else_are_refused(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips / "b.mp4")
    with pytest.raises(JobError, match="expected a folder for the tables of several backbones, found the feature tab"):
        run(clips / "b.mp4", "backbone=[pooled, pixels]")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(DataError, match=r"found thesis\.doc"):
        run(clips / "b.mp4", "backbone=[pooled, pixels]", f"output={tmp_path / 'other'}")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.doc"]
    several = tmp_path / "several"
    run(clips / "b.mp4", "backbone=[pooled, pixels]", "frames=2", "size=16", f"output={several}")
    with pytest.raises(EsvError, match="expected an empty or absent folder"):
        run(clips / "b.mp4", f"output={several}")


def test_tables_with_other_units_are_refused(clips: Path, run: Extract, tmp_path: Path) -> None:
    for name, size in (("pooled", 1), ("pixels", 3)):
        one = {"backbone": name, "size": 16}
        run(clips, f"backbone={[one]}", "frames=2", f"compute.unit={size}")
    with pytest.raises(JobError, match=r"expected tables with as many videos in a unit, got 1 of .*, 3 of .*one"):
        run(clips, "backbone=[pooled, pixels]", "size=16", "frames=2")
    assert len(list(tmp_path.rglob("run.json"))) == 2


def test_the_plan_counts_all_tables(clips: Path, tmp_path: Path) -> None:
    places = [f"videos={clips}", f"output={tmp_path / 'table'}", "cluster.actors=0"]
    spec = load_extract_spec(None, [*places, listed("pooled", "clips"), "frames=8"], code=CODE)
    plan = as_json(forecast_extraction(spec))
    assert plan["backbones"] == ["pooled", f"{HOME}:motion"]
    assert (plan["input"]["feature_dims"], plan["input"]["most_elements"]) == ([147, 12], 8)
    first, second = plan["tried"]["elements"]
    assert 7 <= first <= 8
    assert 1 <= second <= 2
    assert plan["done"] == {"planned": False, "units": 0, "videos": 0, "failed": 0, "units_left": 2, "videos_left": 5}
    assert not (tmp_path / "table").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_two_actors_write_the_bits_of_this_process(clips: Path, run: Extract, tmp_path: Path) -> None:
    result = run(clips, listed("convolution", "clips"), *COMMON, "cluster.actors=2", "compute.decoders=2", code=CODE)
    assert (result.counts.ok, result.units, result.finished) == (5, 3, True)
    run(clips, listed("convolution", "clips"), *COMMON, f"output={tmp_path / 'whole'}", code=CODE)
    for name in ("convolution", "clips"):
        assert files_of(tmp_path / "table" / name) == files_of(tmp_path / "whole" / name)
