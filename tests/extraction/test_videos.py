"""Which videos an extraction takes: folders, globs, lists; their ids and labels; hostile lists."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError, SpecError
from esv_ray.extraction.videos.clip import Clip, clips_checksum, clips_file, read_clips
from esv_ray.extraction.videos.columns import schema_of
from esv_ray.extraction.videos.finding import find_videos


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def ids(videos: object, labels: str | None = None) -> list[str]:
    return [clip.video_id for clip in find_videos(str(videos), labels).clips]


def test_a_folder_gives_its_videos_by_their_paths(tmp_path: Path) -> None:
    make(tmp_path, "b.mp4", "run/a.MKV", "run/x/_a b.webm", "a.v1.avi", ".hidden.mp4", ".trash/c.mp4", "notes.txt")
    found = find_videos(str(tmp_path)).clips
    assert [(clip.video_id, clip.path) for clip in found] == [
        ("a.v1", f"{tmp_path}/a.v1.avi"),
        ("b", f"{tmp_path}/b.mp4"),
        ("run/a", f"{tmp_path}/run/a.MKV"),
        ("run/x/_a b", f"{tmp_path}/run/x/_a b.webm"),
    ]


def test_a_glob_gives_what_it_matches_below_its_fixed_part(tmp_path: Path) -> None:
    make(tmp_path, "x/b.mp4", "y/b.mp4", "y/b.avi", "z.mp4")
    assert ids(f"{tmp_path}/*/b.mp4") == ["x/b", "y/b"]
    assert ids(f"{tmp_path}/z.mp4") == ["z"]


def test_names_of_any_characters_are_ids(tmp_path: Path) -> None:
    names = ["é ü", "日本", "a'b\"c", "50%25", "#1?", "-x", "new\nline", "{b},c"]
    make(tmp_path, *(f"{name}.mp4" for name in names))
    assert set(ids(tmp_path)) == set(names)
    clips = find_videos(str(tmp_path)).clips
    assert read_clips(clips_file(clips), "here") == list(clips)


def test_two_files_of_one_stem_are_refused_with_both_names(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a.avi", "b.mp4")
    expected = r"every video_id once, got 'a' from .*/a.avi and .*/a.mp4; rename one"
    with pytest.raises(DataError, match=expected) as caught:
        find_videos(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        find_videos(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [[], ["notes.txt"]])
def test_a_folder_without_videos_is_refused(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names)
    with pytest.raises(DataError, match="expected videos, found none"):
        find_videos(str(tmp_path))
    with pytest.raises(DataError, match="was not found; check the location"):
        find_videos(str(tmp_path / "absent"))


def test_a_csv_lists_videos_with_names_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "path;label;start;end\nb.mp4;jump;;\n./sub/a.mp4;run;nan;2.5\n/data/c.mp4;;1e0;\ns3://bucket/d.mp4;jump;0;1\n"
    )
    found = find_videos(str(path))
    assert found.names == ("jump", "run")
    assert found.clips == (
        Clip("a", f"{tmp_path}/sub/a.mp4", 1, None, 2.5),
        Clip("b", f"{tmp_path}/b.mp4", 0),
        Clip("c", "/data/c.mp4", None, 1.0, None),
        Clip("d", "s3://bucket/d.mp4", 0, 0.0, 1.0),
    )


def test_a_parquet_file_lists_videos_with_ids_of_classes(tmp_path: Path) -> None:
    table = pa.table({"video_id": [7, 8], "path": ["x.mp4", "y.mp4"], "label": [3, None], "start": [math.nan, 0.5]})
    pq.write_table(table, tmp_path / "list.parquet")
    found = find_videos(str(tmp_path / "list.parquet"))
    assert found.names is None
    assert found.clips == (Clip("7", f"{tmp_path}/x.mp4", 3), Clip("8", f"{tmp_path}/y.mp4", None, 0.5))


def test_labels_come_from_a_csv_beside(tmp_path: Path) -> None:
    make(tmp_path, "one.mp4", "two.mp4", "three.mp4")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\none.mp4,walk\ntwo.avi,sit\nfour.mp4,sit\n")
    found = find_videos(str(tmp_path), str(labels))
    assert {clip.video_id: clip.label for clip in found.clips} == {"one": 1, "two": 0, "three": None}
    assert found.names == ("sit", "walk")
    assert [note.partition(" in /")[0] for note in found.notes] == ["1 video without a label", "1 label of no video"]
    labels.write_text("video_id,label\nfive,1\n")
    with pytest.raises(DataError, match=r"got none of theirs: a video is 'one', a label is of 'five'"):
        find_videos(str(tmp_path), str(labels))


def test_classes_fix_the_ids_of_names(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.mp4,run\n")
    (tmp_path / "classes.csv").write_text("name,id\nsit,0\nrun,1\n")
    assert find_videos(str(tmp_path / "list.csv"), None, str(tmp_path / "classes.csv")).clips[0].label == 1
    (tmp_path / "list.csv").write_text("path,label\na.mp4,fly\n")
    with pytest.raises(DataError, match=r"list.csv, line 2: a label that is no class: 'fly'"):
        find_videos(str(tmp_path / "list.csv"), None, str(tmp_path / "classes.csv"))
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    with pytest.raises(SpecError, match="the videos have no labels"):
        find_videos(str(tmp_path / "list.csv"), None, str(tmp_path / "classes.csv"))


def test_further_columns_of_a_list_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "path,key_start,Score,code,empty,,frame_index,twice,twice\n"
        "b.mp4,3,1,007,,x,1,2,3\na.mp4,,2.5,1,,x,1,2,3\nc.mp4,-4,nan,n/a,,x,1,2,3\n"
    )
    found = find_videos(str(path))
    assert found.further == {"key_start": "int64", "Score": "double", "code": "string", "empty": "string"}
    assert list(found.further) == ["Score", "code", "empty", "key_start"]
    assert [clip.further for clip in found.clips] == [
        (2.5, "1", None, None), (1.0, "007", None, 3), (None, "n/a", None, -4)
    ]  # fmt: skip
    (note,) = found.notes
    assert note.endswith("columns that a feature table cannot keep: frame_index")
    table = pa.table(
        {
            "path": ["x.mp4", "y.mp4"],
            "small": pa.array([1, None], pa.int8()),
            "split": pa.array(["a", "b"]).dictionary_encode(),
            "good": [True, None],
            "day": pa.array([0, 1], pa.date32()),
            "Features": [1, 2],
            "box": [[1, 2], [3]],
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    found = find_videos(str(tmp_path / "list.parquet"))
    assert found.further == {"small": "int8", "split": "string", "good": "bool"}
    assert [clip.further for clip in found.clips] == [(True, 1, "a"), (None, None, "b")]
    assert found.notes[0].endswith("cannot keep: Features, box, day")
    schema = schema_of(found.further)
    assert read_clips(clips_file(found.clips, schema), "here", schema) == list(found.clips)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV whose header"),
        ("path\n", "expected a list of videos, got no rows"),
        ("video_id,label\na,1\n", "expected a column path"),
        ("path,path\na,b\n", "each once"),
        ("path,video_id\n,a\n", "line 2: expected a path, got none"),
        ("path\n../a.mp4\n", r"line 2: expected a path below the folder of the list, .*got '../a.mp4'"),
        ("path\nx/../../a.mp4\n", "expected a path below the folder"),
        ("path\nnope://a.mp4\n", "nope"),
        ("path\na.mp4\na.mp4\n", "every video_id once, got 'a' from .*line 2 and .*line 3"),
        ("video_id,path\nv,a.mp4\nv,b.mp4\n", "every video_id once, got 'v'"),
        ("path,start\na.mp4,-1\n", "line 2: start: expected seconds from 0, got '-1'"),
        ("path,start\na.mp4,soon\n", "line 2: start: expected seconds from 0, got 'soon'"),
        ("path,end\na.mp4,inf\n", "line 2: end: expected seconds from 0, got 'inf'"),
        ("path,start,end\na.mp4,2,2\n", "line 2: expected an end after the start, got 2 to 2 seconds"),
        ("path,end\na.mp4,0\n", "expected an end after the start, got 0 to 0"),
        ("path,label\na.mp4,-4\n", "line 2: a label that is no class: '-4'"),
        ("path,label\na.mp4,1,\n,\n", None),
    ],
)
def test_hostile_csv_files(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    if message is None:
        assert ids(path) == ["a"]
        return
    with pytest.raises((DataError, SpecError), match=message) as caught:
        find_videos(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"video_id": ["a"]}, "expected a column path"),
        ({"path": pa.array([], pa.string())}, "no rows"),
        ({"path": [None]}, "row 0: expected a path, got none"),
        ({"path": [["a.mp4"]]}, "expected a list of videos in Parquet"),
        ({"path": ["a.mp4"], "start": [math.inf]}, "row 0: start: expected seconds from 0, got 'inf'"),
        ({"path": ["a.mp4"], "start": [True]}, "row 0: start: expected seconds from 0"),
        ({"path": ["a.mp4"], "label": [1.5]}, "Float value 1.5.* was truncated"),
    ],
)
def test_hostile_parquet_files(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=message):
        find_videos(str(path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="expected a list of videos in Parquet"):
        find_videos(str(path))


def test_the_checksum_covers_every_field() -> None:
    clip = Clip("a", "b", 1, 0.0, 1.0)
    others = [Clip("x", "b", 1, 0.0, 1.0), Clip("a", "x", 1, 0.0, 1.0), Clip("a", "b", None, 0.0, 1.0),
              Clip("a", "b", 1, None, 1.0), Clip("a", "b", 1, 0.0, 2.0), Clip("a", "b", 1, 0.0, 1.0, ("x",)),
              Clip("a", "b", 1, 0.0, 1.0, (None,))]  # fmt: skip
    assert len({clips_checksum([each]) for each in (clip, *others)}) == 8
