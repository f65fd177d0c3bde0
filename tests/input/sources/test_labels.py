"""Labels of imported features: from CSVs, as numbers or names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.errors import DataError, ModelError, SpecError
from tests.input.sources.imports import imported, random_videos, save_arrays, table


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four videos."""
    return save_arrays(tmp_path / "x", random_videos(["a", "b", "sub/c", "sub/d"]))


def labels_of(out: Path) -> dict[str, int | None]:
    return {name: video.label for name, video in table(out).items()}


NUMBERED = {"a": 3, "b": 0, "sub/c": 1, "sub/d": 3}


@pytest.mark.parametrize(
    "text",
    [
        "video_id,label\na,3\nb,0\nsub/c,1\nsub/d,3\n",
        "Label;Video_ID;note\n3;a;x\n0;b;\n1.0;sub/c;,\n3;sub/d;\n",
        "\ufeffvideo_id\tlabel\r\na\t3\r\nb\t0\r\n\r\nsub/c\t1\r\nsub/d\t3\r\n",
        "sep=,\nvideo_id,label\na,3\nb,0\nsub/c,1\nsub/d,3\nsub/d,3\n",
        "path,label\na.npy,3\n./b,0\nsub/c.mp4,1\nsub/d.npy,3\n",
    ],
    ids=["plain", "semicolons", "tabs of a spreadsheet", "excel", "paths"],
)
def test_numbers_are_class_ids(text: str, source: Path, tmp_path: Path) -> None:
    result = imported("numpy", source, tmp_path / "out", labels=text)
    assert labels_of(tmp_path / "out") == NUMBERED
    assert (result.classes, result.skipped.total) == (0, 0)
    assert not (tmp_path / "out" / "classes.csv").exists()


NAMES = "video_id,label\na,walk\nb,jump\nsub/c,run\nsub/d,walk\n"


def test_names_get_ids_in_sorted_order(source: Path, tmp_path: Path) -> None:
    result = imported("numpy", source, tmp_path / "out", labels=NAMES)
    assert labels_of(tmp_path / "out") == {"a": 2, "b": 0, "sub/c": 1, "sub/d": 2}
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\njump,0\nrun,1\nwalk,2\n"
    assert result.classes == 3


def test_numbers_among_names_are_reported(source: Path, tmp_path: Path) -> None:
    """A word among class ids makes names of them all: their ids then change."""
    text = "video_id,label\na,3\nb,5\nsub/c,unknown\nsub/d,3\n"
    result = imported("numpy", source, tmp_path / "out", labels=text)
    assert labels_of(tmp_path / "out") == {"a": 0, "b": 1, "sub/c": 2, "sub/d": 0}
    (note,) = result.notes
    assert note.startswith("labels are names, since unknown is no number; 2 of 3 are numbers")


def test_names_get_the_ids_of_given_classes(source: Path, tmp_path: Path) -> None:
    classes = "id,name\n0,walk\n1,run\n2,jump\n3,fly\n"
    imported("numpy", source, tmp_path / "out", labels=NAMES, classes=classes)
    assert labels_of(tmp_path / "out") == {"a": 0, "b": 2, "sub/c": 1, "sub/d": 0}
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\nwalk,0\nrun,1\njump,2\nfly,3\n"


def test_ids_do_not_depend_on_the_split(source: Path, tmp_path: Path) -> None:
    """The names of all splits have ids, so that tables of two splits agree."""
    text = "video_id,label,split\na,walk,train\nb,jump,val\nsub/c,run,val\nsub/d,walk,train\n"
    result = imported("numpy", source, tmp_path / "train", labels=text, split="train")
    assert result.notes == ("2 videos of another split: not asked for",)
    assert result.skipped.total == 0
    imported("numpy", source, tmp_path / "val", labels=text, split="val")
    assert labels_of(tmp_path / "train") == {"a": 2, "sub/d": 2}
    assert labels_of(tmp_path / "val") == {"b": 0, "sub/c": 1}
    classes = [(tmp_path / name / "classes.csv").read_bytes() for name in ("train", "val")]
    assert classes[0] == classes[1]


def test_spaces_before_quotes(source: Path, tmp_path: Path) -> None:
    rows = "".join(f'"{name}", "{index}"\n' for index, name in enumerate(("a", "b", "sub/c", "sub/d")))
    imported("numpy", source, tmp_path / "out", labels=f'"video_id", "label"\n{rows}')
    assert labels_of(tmp_path / "out") == {"a": 0, "b": 1, "sub/c": 2, "sub/d": 3}


def test_a_path_is_never_that_of_another_video(tmp_path: Path) -> None:
    folder = save_arrays(tmp_path / "x", random_videos(["clip", "clip.flow"]))
    imported("numpy", folder, tmp_path / "out", labels="path,label\nclip.flow,7\n", keep_unlabelled=True)
    assert labels_of(tmp_path / "out") == {"clip": None, "clip.flow": 7}
    imported("numpy", folder, tmp_path / "both", labels="path,label\nclip.flow.npy,7\nclip.mp4,1\n")
    assert labels_of(tmp_path / "both") == {"clip": 1, "clip.flow": 7}
    with pytest.raises(DataError, match="1: several labels of one video: clip"):
        imported("numpy", folder, tmp_path / "c", labels="path,label\nclip.avi,1\nclip.mp4,2\nclip.flow,3\n")


def test_videos_without_a_label_and_labels_without_a_video(source: Path, tmp_path: Path) -> None:
    text = "video_id,label\na,1\nb,\nzebra,2\n"
    with pytest.raises(DataError) as caught:
        imported("numpy", source, tmp_path / "out", labels=text)
    message = str(caught.value)
    assert "at least 4 of 5 videos, segments or labels cannot be written" in message
    assert "3: a video without a label: b, sub/c, sub/d; 1: a label without a video: zebra;" in message
    assert message.endswith("or set --max-skipped 0.8 or more")
    assert not (tmp_path / "out").exists()
    result = imported("numpy", source, tmp_path / "out", labels=text, max_skipped=0.8)
    assert labels_of(tmp_path / "out") == {"a": 1}
    assert result.skipped.total == 4
    result = imported("numpy", source, tmp_path / "kept", labels=text, max_skipped=0.2, keep_unlabelled=True)
    assert labels_of(tmp_path / "kept") == {"a": 1, "b": None, "sub/c": None, "sub/d": None}
    assert result.skipped.rows() == [("a label without a video", 1, "zebra")]


@pytest.mark.parametrize(
    ("labels", "classes", "fault"),
    [
        (NAMES.replace("jump", "walk\nb,jump"), None, "several labels of one video: b (jump, walk)"),
        (NAMES, "name,id\nwalk,0\nrun,1\n", "a label that is no class: b ('jump'; the classes are walk, run)"),
        (NAMES, "name,id\nwalk,0\nrun,1\njump,2\njump,3\n", "a label that is the name of several classes: b ('jump')"),
        (
            NAMES.replace("jump", "7"),
            "name,id\nwalk,0\nrun,1\n",
            "a label that is no class: b ('7'; class ids",
        ),
        (
            "video_id,label\na,1\nb,-1\nsub/c,1\nsub/d,0\n",
            None,
            "a label that is no class: b ('-1'; class ids are 0 and up)",
        ),
    ],
)
def test_labels_that_are_no_class(labels: str, classes: str | None, fault: str, source: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"labels": labels} if classes is None else {"labels": labels, "classes": classes}
    with pytest.raises(DataError) as caught:
        imported("numpy", source, tmp_path / "out", **given)
    assert f"1: {fault}" in str(caught.value)
    imported("numpy", source, tmp_path / "out", **given, max_skipped=0.25)
    assert list(labels_of(tmp_path / "out")) == ["a", "sub/c", "sub/d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\na,1\n", r"expected the columns video_id \(or path\) and label, got the header 'id,label'"),
        ("video_id,path,label\na,a,1\n", r"expected the columns video_id \(or path\) and label"),
        ("a,1\nb,2\n", "expected a CSV whose header has columns such as video_id, path, label, split"),
        ("video_id,label,label\na,1,2\n", "each once"),
        ("video_id,label\na\n", "line 2: expected 2 cells, got 1"),
        ("video_id,label\n,3\n", "line 2: expected a video_id, got none"),
        ("\n", "got the header ''"),
    ],
)
def test_malformed_csvs(text: str, message: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        imported("numpy", source, tmp_path / "out", labels=text)
    assert "labels-" in str(caught.value)


def test_bytes_that_are_no_csv(source: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\x80\x81\xff")
    with pytest.raises(DataError, match="expected a CSV in UTF-8"):
        imported("numpy", source, tmp_path / "out", labels=str(tmp_path / "labels.csv"))


def test_splits_that_are_none(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a column split, which --split asks for"):
        imported("numpy", source, tmp_path / "out", labels=NAMES, split="val")
    with pytest.raises(DataError, match=r"expected rows with the split 'test' \(--split\), got val"):
        imported("numpy", source, tmp_path / "out", labels="video_id,label,split\na,1,val\n", split="test")
    with pytest.raises(SpecError, match="--split selects rows of --labels or --segments, and neither is given"):
        imported("numpy", source, tmp_path / "out", split="val")


def test_malformed_classes(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"got 2 rows with ids 1\.\.2"):
        imported("numpy", source, tmp_path / "out", labels=NAMES, classes="name,id\nrun,1\nwalk,2\n")


def test_advice_names_the_option_that_is_the_cause(source: Path, tmp_path: Path) -> None:
    """Not --max-skipped 1, with which there is nothing to write."""
    others = "video_id,label\n" + "".join(f"video_{name},1\n" for name in "abcd")
    with pytest.raises(DataError, match=r"8 of 8 .*; give labels and videos the same ids: .* --match '[^']*'$"):
        imported("numpy", source, tmp_path / "out", labels=others)
    folder = tmp_path / "npz"
    folder.mkdir()
    np.savez(folder / "a.npz", rgb=np.ones((2, 4)), flow=np.ones((2, 4)))
    np.savez(folder / "b.npz", rgb=np.ones((2, 4)), flow=np.ones((2, 4)))
    with pytest.raises(DataError, match=r"a \(flow, rgb\), b \(flow, rgb\); give --key the name of one of the arrays$"):
        imported("numpy", folder, tmp_path / "out")
    with pytest.raises(DataError, match=r"; give --key the name of an array that the files have$"):
        imported("numpy", folder, tmp_path / "out", key="depth")
    with pytest.raises(DataError, match=r"expected videos to write, got none: .*; give --key the name of one"):
        imported("numpy", folder, tmp_path / "out", max_skipped=1)
    segments = "video,start,stop\nz,0,1\n"
    with pytest.raises(
        DataError, match=r"1 of 1 .*; correct the videos of --segments, or name ids with --match [^;]*$"
    ):
        imported("numpy", source, tmp_path / "out", segments=segments)


def test_nan_is_no_label(tmp_path: Path) -> None:
    """As pandas and NumPy write a missing one; it must not become a class that shifts the ids of others."""
    source = save_arrays(tmp_path / "x", {name: np.ones((3, 4)) for name in "abc"})
    labels = "video_id,label\na,walk\nb,nan\nc,NaN\n"
    result = imported("numpy", source, tmp_path / "out", labels=labels, max_skipped=0.9)
    assert [(reason, count) for reason, count, _ in result.skipped.rows()] == [("a video without a label", 2)]
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\nwalk,0\n"
    segments = "video,start,stop,label\na,0,1,walk\na,1,3,nan\n"
    imported("numpy", source, tmp_path / "cut", segments=segments, max_skipped=0.9)
    assert (tmp_path / "cut" / "classes.csv").read_text() == "name,id\nwalk,0\n"
