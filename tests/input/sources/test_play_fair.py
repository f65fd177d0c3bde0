"""Import of the authors' HDF5 features."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.files import list_files
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import feature_dim_of
from esv_ray.input.sources import table_writer
from esv_ray.input.sources.importing import import_features
from esv_ray.input.sources.request import ImportRequest
from esv_ray.input.videos import read_videos
from tests.conftest import FILES

HDF = FILES / "features.hdf"


def imported(source: str, *, split: str, out: str, max_skipped: float = 0.01) -> int:
    """Import the authors' features; the number of rows."""
    request = ImportRequest("play-fair", source, out, split=split, max_skipped=max_skipped)
    return import_features(request).rows


def recorded() -> list[tuple[str, int, np.ndarray[Any, Any]]]:
    """Id, label and (T, D) features of the authors' file, as h5py reads them."""
    with h5py.File(HDF) as hdf:
        group = hdf["validation"]
        dim = int(group["features"].attrs["feature_dim"])
        return [
            (uid.decode(), int(label), np.asarray(row).reshape(-1, dim))
            for uid, label, row in zip(group["uids"], group["labels/action"], group["features"], strict=True)
        ]


def assert_recorded(url: str) -> None:
    """The table holds what the authors' file holds."""
    videos, faulty = read_videos(url)
    assert not faulty
    assert [(video.video_id, video.label) for video in videos] == [case[:2] for case in recorded()]
    for video, (_, _, expected) in zip(videos, recorded(), strict=True):
        assert expected.dtype == np.float32
        np.testing.assert_array_equal(video.features, expected)
        np.testing.assert_array_equal(video.frame_index, np.arange(len(expected)))


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_the_authors_features_come_out_as_h5py_reads_them(kind: str, tmp_path: Path) -> None:
    out = str(tmp_path / "table") if kind == "disk" else f"memory://{uuid.uuid4().hex}"
    assert imported(str(HDF), split="validation", out=out) == 6
    assert feature_dim_of(read_footers(list_files(out)), 10**9) == 16
    assert_recorded(out)


def test_the_authors_file_may_lie_anywhere(tmp_path: Path) -> None:
    source = f"memory://{uuid.uuid4().hex}/features.hdf"
    storage.replace(source, HDF.read_bytes(), "write")
    assert imported(source, split="validation", out=str(tmp_path)) == 6
    assert_recorded(str(tmp_path))


def test_the_types_of_the_table(tmp_path: Path) -> None:
    imported(str(HDF), split="validation", out=str(tmp_path))
    (file,) = tmp_path.glob("*.parquet")
    assert file.name == "part-00000.parquet"
    schema = pq.read_schema(io.BytesIO(file.read_bytes()))
    assert [(field.name, field.nullable) for field in schema] == [
        ("video_id", False),
        ("features", True),
        ("label", True),
    ]
    assert str(schema.field("features").type).endswith(": float>[16]>")
    assert str(schema.field("label").type) == "int64"


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        imported(str(HDF), split="validation", out=str(tmp_path / name))
    contents = [(tmp_path / name / "part-00000.parquet").read_bytes() for name in ("a", "b")]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("group_bytes", [1, 900, 10**9])
@pytest.mark.parametrize("file_bytes", [1, 1000, 10**9])
def test_large_features_are_cut_into_row_groups_and_files(
    group_bytes: int, file_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group ends before the first row that would not fit; a file ends after the row that fills it."""
    monkeypatch.setattr(table_writer, "GROUP_BYTES", group_bytes)
    monkeypatch.setattr(table_writer, "FILE_BYTES", file_bytes)
    assert imported(str(HDF), split="validation", out=str(tmp_path)) == 6
    expected: list[list[list[int]]] = []
    for size in [features.nbytes for _, _, features in recorded()]:
        if not expected or sum(map(sum, expected[-1])) >= file_bytes:
            expected.append([[]])
        if sum(expected[-1][-1]) + size > group_bytes and expected[-1][-1]:
            expected[-1].append([])
        expected[-1][-1].append(size)
    files = sorted(tmp_path.glob("*.parquet"))
    assert [file.name for file in files] == [f"part-{number:05d}.parquet" for number in range(len(expected))]
    footers = [pq.read_metadata(file) for file in files]
    counts = [[footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in footers]
    assert counts == [[len(group) for group in file] for file in expected]
    assert_recorded(str(tmp_path))


# Other files of the format --------------------------------------------------------------------------------------------


def write_hdf(path: Path, **overrides: Any) -> str:
    """An HDF5 of the authors' format but for what is given; None leaves it out."""
    content: dict[str, Any] = {
        "features": [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11, 12]],
        "uids": ["a", "b", "c"],
        "labels/action": np.array([2, 0, 1]),
        "feature_dim": 2,
        **overrides,
    }
    with h5py.File(path, "w") as hdf:
        group = hdf.create_group("train")
        if (rows := content["features"]) is not None:
            data = group.create_dataset("features", (len(rows),), h5py.vlen_dtype(np.float32))
            for place, row in enumerate(rows):
                data[place] = np.array(row, np.float32)
            if content["feature_dim"] is not None:
                data.attrs["feature_dim"] = content["feature_dim"]
        if content["uids"] is not None:
            group["uids"] = content["uids"]
        if content["labels/action"] is not None:
            group["labels/action"] = content["labels/action"]
    return str(path)


@pytest.mark.parametrize(
    "uids", [["a", "b", "ü"], np.array([b"a", b"b", "ü".encode()])], ids=["variable", "fixed length"]
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_ids_and_labels_of_other_types(uids: Any, dtype: type[np.integer[Any]], tmp_path: Path) -> None:
    source = write_hdf(tmp_path / "x.hdf", uids=uids, **{"labels/action": np.array([2, 0, 100], dtype)})
    out = str(tmp_path / "table")
    assert imported(source, split="train", out=out) == 3
    videos, _ = read_videos(out)
    assert [(video.video_id, video.label) for video in videos] == [("a", 2), ("b", 0), ("ü", 100)]
    assert [video.features.tolist() for video in videos] == [[[1, 2], [3, 4]], [[5, 6]], [[7, 8], [9, 10], [11, 12]]]


def test_videos_without_frames_or_of_another_length_are_left_out(tmp_path: Path) -> None:
    source = write_hdf(tmp_path / "x.hdf", features=[[1, 2], [], [3, 4, 5]])
    assert imported(source, split="train", out=str(tmp_path / "table"), max_skipped=0.7) == 1
    videos, faulty = read_videos(str(tmp_path / "table"))
    assert ([video.video_id for video in videos], faulty.total()) == (["a"], 0)


# Refusals -------------------------------------------------------------------------------------------------------------


def refusal(source: str, out: Path, split: str = "train") -> str:
    """The one line with which an import is refused; nothing is written then."""
    with pytest.raises(DataError) as caught:
        imported(source, split=split, out=str(out))
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


def test_no_such_split(tmp_path: Path) -> None:
    message = refusal(str(HDF), tmp_path / "out", "test")
    assert message == f"{HDF}: expected a group 'test' (--split), got ['validation']"


@pytest.mark.parametrize("split", ["", "validation/uids", "validation/labels", "VALIDATION"])
def test_a_split_that_is_none(split: str, tmp_path: Path) -> None:
    assert str(HDF) in refusal(str(HDF), tmp_path / "out", split)


def test_no_such_file(tmp_path: Path) -> None:
    assert "was not found; check the location" in refusal(str(tmp_path / "none.hdf"), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not HDF5" * 500, HDF.read_bytes()[:1000]], ids=["empty", "text", "half"])
def test_what_is_not_hdf5(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "x.hdf"
    source.write_bytes(content)
    assert refusal(str(source), tmp_path / "out").startswith(f"{source}: expected an HDF5 file: ")


@pytest.mark.parametrize("name", ["features", "uids", "labels/action", "feature_dim"])
def test_a_missing_part_is_named(name: str, tmp_path: Path) -> None:
    source = write_hdf(tmp_path / "x.hdf", **{name: None})
    message = refusal(source, tmp_path / "out")
    assert message.startswith(
        f"{source}, group train: expected features (attribute feature_dim), uids and labels/action"
    )
    assert f"missing ['{name}']" in message


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels/action": np.array([1.0, 2.0, 3.0])},
        {"labels/action": np.array([1, 2])},
        {"features": [[1, 2]]},
        {"uids": ["a", "b", "c", "d"]},
    ],
    ids=["labels are no integers", "labels short", "features short", "uids long"],
)
def test_parts_that_do_not_fit_together(wrong: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(write_hdf(tmp_path / "x.hdf", **wrong), tmp_path / "out")
    assert "whole-number labels and" in message


@pytest.mark.parametrize("name", ["train", "train/features", "train/uids", "train/labels", "train/labels/action"])
@pytest.mark.parametrize("external", [True, False], ids=["external", "soft"])
def test_links_are_not_followed(name: str, external: bool, tmp_path: Path) -> None:
    """They lead to other files of this machine."""
    secret = write_hdf(tmp_path / "secret.hdf")
    source = write_hdf(tmp_path / "x.hdf")
    with h5py.File(source, "a") as hdf:
        hdf.move(name, "moved")
        hdf[name] = h5py.ExternalLink(secret, name) if external else h5py.SoftLink("/moved")
    assert "in the file itself, got a link, " in refusal(source, tmp_path / "out")


def test_numbers_in_another_file_are_not_read(tmp_path: Path) -> None:
    source = write_hdf(tmp_path / "x.hdf", **{"labels/action": None})
    np.zeros(3, np.int64).tofile(tmp_path / "raw")
    with h5py.File(source, "a") as hdf:
        hdf.create_dataset("train/labels/action", (3,), "i8", external=[(str(tmp_path / "raw"), 0, 24)])
    assert "expected labels/action in the file itself, got numbers in another file" in refusal(source, tmp_path / "out")


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    message = refusal(write_hdf(tmp_path / "x.hdf", features=[[1, 2], [3], [4, 5]]), tmp_path / "out")
    assert "1 of 3 videos" in message
    assert "1: expected T * 2 numbers: b (got 1); correct them, or set --max-skipped 0.34" in message


def test_a_folder_that_holds_a_table_is_left_alone(tmp_path: Path) -> None:
    imported(str(HDF), split="validation", out=str(tmp_path))
    before = (tmp_path / "part-00000.parquet").read_bytes()
    source = write_hdf(tmp_path / "x.hdf")
    with pytest.raises(DataError) as caught:
        imported(source, split="train", out=str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: the import there is complete, and differs from this request in: --split (")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["_import.json", "part-00000.parquet", "x.hdf"]
    assert (tmp_path / "part-00000.parquet").read_bytes() == before


def test_only_hidden_files_may_be_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".hidden").write_text("")
    (out / "readme.md").write_text("features")
    with pytest.raises(DataError, match=r"expected an empty or absent folder for the output, found readme\.md; choose"):
        imported(str(HDF), split="validation", out=str(out))
    (out / "readme.md").unlink()
    assert imported(str(HDF), split="validation", out=str(out)) == 6
    assert_recorded(str(out))


# Found and mended -----------------------------------------------------------------------------------------------------

Broken = Callable[[Path], str]


def _fixed_width(path: Path) -> str:
    with h5py.File(write_hdf(path), "a") as hdf:
        del hdf["train/features"]
        hdf["train/features"] = np.zeros((3, 2, 2), np.float32)
        hdf["train/features"].attrs["feature_dim"] = 2
    return str(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: write_hdf(path, feature_dim=0),
        lambda path: write_hdf(path, feature_dim=-2),
        lambda path: write_hdf(path, feature_dim=[2, 2]),
        lambda path: write_hdf(path, uids=np.array([b"a", b"\xff\xfe", b"c"])),
        lambda path: write_hdf(path, **{"labels/action": np.array([0, 2**64 - 1, 1], np.uint64)}),
        lambda path: write_hdf(path, **{"labels/action": np.zeros((3, 2), np.int64)}),
        _fixed_width,
    ],
    ids=[
        "no feature_dim",
        "negative feature_dim",
        "two feature_dims",
        "uids that are no text",
        "a label beyond int64",
        "labels in columns",
        "features in a block",
    ],
)
def test_a_file_of_another_structure_is_refused(make: Broken, tmp_path: Path) -> None:
    refusal(make(tmp_path / "x.hdf"), tmp_path / "out")
