"""Folders of .npy and .npz files as feature tables."""

from __future__ import annotations

import errno
import io
import pickle
import struct
import uuid
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.errors import DataError, SpecError
from tests.input.sources.imports import assert_holds, imported, put, random_videos, save_arrays, table
from tests.support.s3_server import S3Server

NAMES = ["_begins", "a", "b/c", "b/d.e"]


@pytest.mark.parametrize("kind", ["disk", "memory", "s3"])
def test_a_file_per_video(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    videos = random_videos(NAMES)
    source = str(save_arrays(tmp_path / "x", videos))
    out = str(tmp_path / "out")
    if kind != "disk":
        bucket = "" if kind == "memory" else f"{request.getfixturevalue('s3').bucket}/"
        source = put(f"{kind}://{bucket}{uuid.uuid4().hex}", tmp_path / "x")
        out = f"{kind}://{bucket}{uuid.uuid4().hex}"
    result = imported("numpy", source, out)
    assert (result.rows, result.frames, result.dim) == (4, sum(map(len, videos.values())), 4)
    assert_holds(out, videos)
    assert all(video.label is None for video in table(out).values())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_type_is_kept(dtype: str, order: Literal["<", ">"], tmp_path: Path) -> None:
    array = np.linspace(-1, 1, 12).reshape(4, 3).astype(np.dtype(dtype).newbyteorder(order))
    imported("numpy", save_arrays(tmp_path / "x", {"a": array}), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert rows.schema.field("features").type.value_type.value_type == pa.from_numpy_dtype(np.dtype(dtype))
    assert rows["features"].to_pylist()[0] == array.astype(dtype).tolist()


def test_other_types_are_cast_where_that_is_exact(tmp_path: Path) -> None:
    videos: dict[str, Any] = {
        "a": np.ones((2, 3), np.float32),
        "half": np.full((2, 3), 0.1, np.float16),
        "ints": np.array([[1, 2**24, -(2**24)]]),
        "bytes": np.full((1, 3), 255, np.uint8),
        "exact": np.full((1, 3), 0.5),
        "zz_large": np.array([[2**24 + 1, 0, 0]]),
        "zz_rounds": np.full((1, 3), 0.1),
    }
    source = save_arrays(tmp_path / "x", videos)
    result = imported("numpy", source, tmp_path / "out", max_skipped=0.5)
    ((reason, number, names),) = result.skipped.rows()
    assert (number, reason) == (2, "numbers that the type of the table cannot hold; give --dtype")
    assert names == "zz_large (int64; float32, the type of a), zz_rounds (float64; float32, the type of a)"
    kept = {name: array.astype(np.float32) for name, array in videos.items() if not name.startswith("zz")}
    assert_holds(tmp_path / "out", dict(sorted(kept.items())))
    result = imported("numpy", source, tmp_path / "wide", dtype="float64")
    assert (result.rows, result.dtype, result.skipped.total) == (7, "float64", 0)


def test_numbers_that_become_infinite_are_refused(tmp_path: Path) -> None:
    source = save_arrays(tmp_path / "x", {"a": [[1.0]], "b": [[1e6]]})
    result = imported("numpy", source, tmp_path / "out", dtype="float16", max_skipped=0.5)
    assert result.skipped.rows() == [("NaN or infinity", 1, "b")]


def test_columns_of_frames(tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    source = save_arrays(tmp_path / "x", {name: np.asfortranarray(array.T) for name, array in videos.items()})
    imported("numpy", source, tmp_path / "out", layout="DT")
    assert_holds(tmp_path / "out", videos)


def test_the_other_layout_is_suggested(tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    source = save_arrays(tmp_path / "x", {name: array.T for name, array in videos.items()})
    with pytest.raises(
        DataError, match=r"as many rows: b \(D = 4; 3 in a\); if the arrays are \(D, T\), give --layout DT$"
    ):
        imported("numpy", source, tmp_path / "out")
    upright = save_arrays(tmp_path / "y", videos)
    with pytest.raises(DataError, match=r"if the arrays are \(T, D\), leave --layout DT out$"):
        imported("numpy", upright, tmp_path / "out", layout="DT")


@pytest.mark.parametrize("match", [r"(?P<video_id>[^/]+)_rgb\.npy", r"^(?P<video_id>.+)_rgb"])
def test_a_pattern_picks_files_and_names_ids(match: str, tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    others = {f"{name}{suffix}": [1.0] for name in videos for suffix in ("_fps", "_timestamps_ms", "_flow")}
    rgb = {f"{name}_rgb": array for name, array in videos.items()}
    source = save_arrays(tmp_path / "x", {**others, **rgb})
    result = imported("numpy", source, tmp_path / "out", match=match)
    assert result.notes == ("6 names without a match of --match: not asked for",)
    assert_holds(tmp_path / "out", videos)


def test_a_pattern_that_names_something_else_is_refused(tmp_path: Path) -> None:
    source = save_arrays(tmp_path / "x", random_videos(["a"]))
    with pytest.raises(SpecError, match=r"no named group but \(\?P<video_id>...\), which names the ids, got id, view;"):
        imported("numpy", source, tmp_path / "out", match="(?P<id>.)(?P<view>_.*)?")


def test_labels_of_names_of_files_lack_a_header(tmp_path: Path) -> None:
    source = save_arrays(tmp_path / "x", random_videos(["a", "b"]))
    reason = r"2: a label without a video \(a name of a file: call the column path\): a.npy, b.npy;"
    with pytest.raises(DataError, match=reason):
        imported("numpy", source, tmp_path / "out", labels="video_id,label\na.npy,1\nb.npy,0\n")


def test_a_pattern_without_a_name_picks_files(tmp_path: Path) -> None:
    videos = random_videos(["a_rgb", "b_flow"])
    imported("numpy", save_arrays(tmp_path / "x", videos), tmp_path / "out", match="_rgb")
    assert list(table(tmp_path / "out")) == ["a_rgb"]


def test_a_pattern_that_matches_nothing(tmp_path: Path) -> None:
    source = save_arrays(tmp_path / "x", random_videos(["a"]))
    with pytest.raises(DataError, match=r"match 'rgb' \(--match\), got none among 1, such as 'a\.npy'"):
        imported("numpy", source, tmp_path / "out", match="rgb")
    with pytest.raises(SpecError, match=r"--match: expected a regular expression"):
        imported("numpy", source, tmp_path / "out", match="(rgb")


def test_archives(tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    (tmp_path / "x").mkdir()
    np.savez(tmp_path / "x" / "a.npz", feats=videos["a"], other=np.zeros(3))
    np.savez_compressed(tmp_path / "x" / "b.npz", feats=videos["b"])
    imported("numpy", tmp_path / "x", tmp_path / "out", key="feats")
    assert_holds(tmp_path / "out", videos)
    result = imported("numpy", tmp_path / "x", tmp_path / "only", max_skipped=0.5)
    assert result.skipped.rows() == [("several arrays in a file; give --key", 1, "a (feats, other)")]
    assert_holds(tmp_path / "only", {"b": videos["b"]})


class Opens:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self._path, "w"))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    folder = save_arrays(tmp_path / "x", random_videos(["good"]))
    np.save(folder / "object.npy", np.array([Opens(opened)], dtype=object), allow_pickle=True)
    np.savez(folder / "archive.npz", np.array([Opens(opened)], dtype=object))
    (folder / "pickle.npy").write_bytes(pickle.dumps(Opens(opened)))
    result = imported("numpy", folder, tmp_path / "out", max_skipped=0.9)
    assert result.skipped.rows() == [
        ("Python objects, which are never unpickled", 2, "archive, object"),
        ("damaged", 1, result.skipped.rows()[1][2]),
    ]
    assert list(table(tmp_path / "out")) == ["good"]
    assert not opened.exists()


def test_tensors_and_arrays_of_pickles(tmp_path: Path) -> None:
    videos = random_videos(["a", "b", "c", "d", "e", "f"])
    folder = tmp_path / "x"
    folder.mkdir()
    torch.save(torch.from_numpy(videos["a"]), folder / "a.pt")
    torch.save({"features": torch.from_numpy(videos["b"]), "fps": 25.0}, folder / "b.pth")
    (folder / "c.pkl").write_bytes(pickle.dumps(videos["c"]))
    (folder / "d.pickle").write_bytes(pickle.dumps({"features": videos["d"], "name": "d"}, protocol=2))
    torch.save(torch.nn.Parameter(torch.from_numpy(videos["e"])), folder / "e.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.from_numpy(videos["f"].T).T, folder / "f.pt")
    for key in (None, "features"):  # files of one tensor have no keys
        imported("numpy", folder, tmp_path / f"out-{key}", key=key)
        assert_holds(tmp_path / f"out-{key}", videos)
    torch.save(torch.full((2, 3), 0.1, dtype=torch.bfloat16), tmp_path / "half.pt")
    assert imported("numpy", tmp_path / "half.pt", tmp_path / "half").dtype == "float32"
    assert table(tmp_path / "half")["half"].features[0, 0] == np.float32(0.100097656)


def test_faults_of_pickles(tmp_path: Path) -> None:
    opened, folder = tmp_path / "opened", tmp_path / "x"
    folder.mkdir()
    torch.save({"features": torch.ones(2, 3)}, folder / "a.pt")
    contents: dict[str, Any] = {
        "calls.pkl": Opens(opened),
        "inner.pkl": {"features": Opens(opened)},
        "list.pkl": [1.0, 2.0],
        "objects.pkl": {"features": np.array([[Opens(opened)]], dtype=object)},
        "several.pkl": {"x": np.ones((2, 3)), "y": np.ones((2, 3))},
    }
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "cut.pt").write_bytes((folder / "a.pt").read_bytes()[:300])
    (folder / "text.pkl").write_bytes(b"text")
    torch.save(torch.ones(2, 3).to_sparse(), folder / "sparse.pt")
    result = imported("numpy", folder, tmp_path / "out", key="features", max_skipped=0.95)
    reasons = {reason: number for reason, number, _ in result.skipped.rows()}
    assert sum(reasons.values()) == 8
    assert reasons["damaged"] == 3  # cut off, text, and an array of objects
    assert list(table(tmp_path / "out")) == ["a"]
    assert not opened.exists()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


FAULTS: dict[str, tuple[bytes, str]] = {
    "vector": (npy(np.zeros(4)), "not a (T, D) array"),
    "cube": (npy(np.zeros((2, 4, 1))), "not a (T, D) array"),
    "scalar": (npy(np.float32(1)), "not a (T, D) array"),
    "no frames": (npy(np.zeros((0, 4))), "no frames or no features"),
    "no features": (npy(np.zeros((4, 0))), "no frames or no features"),
    "another D": (npy(np.zeros((2, 5))), "another D than the first video"),
    "NaN": (npy(np.full((2, 4), np.nan)), "NaN or infinity"),
    "infinity": (npy(np.array([[0, 0, 0, np.inf]])), "NaN or infinity"),
    "text": (npy(np.array([["a", "b", "c", "d"]])), "not numbers"),
    "empty text": (npy(np.array([[""] * 4])), "not numbers"),
    "complex": (npy(np.zeros((2, 4), complex)), "not numbers"),
    "bool": (npy(np.zeros((2, 4), bool)), "not numbers"),
    "dates": (npy(np.zeros((2, 4), "datetime64[s]")), "not numbers"),
    "records": (npy(np.zeros((2, 4), [("x", "f4"), ("y", "f4")])), "not numbers"),
    "empty": (b"", "damaged"),
    "half": (npy(np.zeros((9, 4)))[:-8], "damaged"),
    "head only": (npy(np.zeros((9, 4)))[:20], "damaged"),
    "huge": (npy(np.zeros((2, 4))).replace(b"(2, 4)", b"(2, 4" + b"0" * 12 + b")")[:200], "damaged"),
    "negative": (npy(np.zeros((2, 4))).replace(b"(2, 4), }", b"(-2, 4),}"), "damaged"),
    "all negative": (npy(np.zeros((2, 4))).replace(b"(2, 4), }", b"(-2,-4),}"), "damaged"),
    "unknown": (npy(np.zeros((2, 4))).replace(b"(2, 4), }  ", b"(-1,4,-2),}"), "damaged"),
    "truth": (npy(np.zeros((1, 4))).replace(b"(1, 4), }   ", b"(True, 4), }"), "damaged"),
    "none of many": (
        npy(np.zeros((2, 4))).replace(b"(2, 4), }" + b" " * 30, b"(0, 1" + b"0" * 30 + b"), }"),
        "no frames or no features",
    ),
    "dimensions": (
        npy(np.zeros((2, 4))).replace(b"'<f8'", b"('<f4',(2,))").replace(b" " * 8 + b"\n", b"\n"),
        "damaged",
    ),
    "code": (npy(np.zeros((2, 4))).replace(b"'<f8'", b"exit("), "damaged"),
    "text file": (b"1,2,3,4\n", "damaged"),
    "broken zip": (b"PK\x03\x04" + b"\0" * 100, "damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_counted_named_and_not_written(fault: str, tmp_path: Path) -> None:
    content, reason = FAULTS[fault]
    videos = random_videos(["a", "c"])
    folder = save_arrays(tmp_path / "x", videos)
    (folder / "b.npy").write_bytes(content)
    with pytest.raises(DataError) as caught:
        imported("numpy", folder, tmp_path / "out")
    message = str(caught.value)
    assert "1 of 3 videos, segments or labels cannot be written, more than --max-skipped 0.01 allows" in message
    assert f": 1: {reason}: b" in message
    assert "set --max-skipped 0.34" in message
    assert not (tmp_path / "out").exists()
    result = imported("numpy", folder, tmp_path / "out", max_skipped=0.34)
    assert [(row[0], row[1]) for row in result.skipped.rows()] == [(reason, 1)]
    assert_holds(tmp_path / "out", videos)


def test_two_files_of_one_id(tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    folder = save_arrays(tmp_path / "x", videos)
    np.savez(folder / "a.npz", videos["b"])
    result = imported("numpy", folder, tmp_path / "out", max_skipped=0.7)
    assert result.skipped.rows() == [("several files of one id", 2, "a (a.npy), a (a.npz)")]
    assert list(table(tmp_path / "out")) == ["b"]


def test_a_source_without_arrays(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "readme.txt").write_text("features")
    with pytest.raises(DataError, match=r"expected files \*\.npy, \*\.npz, .*found none"):
        imported("numpy", tmp_path / "x", tmp_path / "out")
    with pytest.raises(DataError, match="not found"):
        imported("numpy", tmp_path / "y", tmp_path / "out")


def test_one_file_and_globs(tmp_path: Path) -> None:
    videos = random_videos(["a", "b/c", "b/d"])
    folder = save_arrays(tmp_path / "x", videos)
    imported("numpy", folder / "a.npy", tmp_path / "one")
    assert_holds(tmp_path / "one", {"a": videos["a"]})
    imported("numpy", folder / "b" / "*.npy", tmp_path / "some")
    assert_holds(tmp_path / "some", {"c": videos["b/c"], "d": videos["b/d"]})


def test_hidden_files_of_a_mac_are_not_videos(tmp_path: Path) -> None:
    videos = random_videos(["_a"])
    folder = save_arrays(tmp_path / "x", videos)
    (folder / "._a.npy").write_bytes(b"\0\5\x16\7")
    imported("numpy", folder, tmp_path / "out")
    assert_holds(tmp_path / "out", videos)


def test_a_table_inside_its_source_is_refused(tmp_path: Path) -> None:
    folder = save_arrays(tmp_path / "x", random_videos(["a"]))
    with pytest.raises(SpecError, match="lies inside features"):
        imported("numpy", folder, folder / "table")


def test_a_table_on_s3_from_labels_on_s3(tmp_path: Path, s3: S3Server) -> None:
    videos = random_videos(["a", "b"])
    base = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    put(f"{base}/x", save_arrays(tmp_path / "x", videos))
    (tmp_path / "labels.csv").write_text("video_id,label\na,run\nb,jump\n")
    put(f"{base}/labels.csv", tmp_path / "labels.csv")
    imported("numpy", f"{base}/x", f"{base}/table", labels=f"{base}/labels.csv")
    assert [video.label for video in table(f"{base}/table").values()] == [1, 0]


def test_unreadable_archives_and_pickles_are_counted(tmp_path: Path) -> None:
    folder = save_arrays(tmp_path / "x", random_videos(["a"]))
    with zipfile.ZipFile(folder / "b.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(folder / "a.npy", "features.npy")
    data = bytearray((folder / "b.npz").read_bytes())
    start = data.index(b"features.npy") + len("features.npy")
    data[start + 4 : start + 9] = b"\xff" * 5  # the properties of the LZMA stream
    (folder / "b.npz").write_bytes(data)
    torch.save(torch.empty(3, 4, device="meta"), folder / "c.pt")
    (folder / "d.pkl").write_bytes(b"\x80\x02" + b"]" * 20000 + b"a" * 19999 + b".")
    result = imported("numpy", folder, tmp_path / "out", max_skipped=0.9)
    assert sum(count for _, count, _ in result.skipped.rows()) == 3
    assert list(table(tmp_path / "out")) == ["a"]


def _lzma_cut_in_its_header() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("features.npy", b"x" * 99)
    data = bytearray(stream.getvalue())
    central = data.index(b"PK\x01\x02")
    data[central + 20 : central + 24] = (3).to_bytes(4, "little")  # its compressed size
    data[data.index(b"features.npy") + 12 + 2 : data.index(b"features.npy") + 12 + 4] = b"\xff\xff"
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lzma.npz", _lzma_cut_in_its_header()),
        ("key.pkl", pickle.dumps({((((),),),): np.ones((2, 4)), "a": np.ones((2, 4)), "\ud800": np.ones((2, 4))})),
        ("key.pkl", b"\x80\x02}" + b")" + b"\x85" * 20000 + b"K\x01s."),
    ],
    ids=["lzma", "nested key", "deep key"],
)
def test_what_no_reader_foresaw_is_counted(name: str, content: bytes, tmp_path: Path) -> None:
    folder = save_arrays(tmp_path / "x", random_videos(["a"]))
    (folder / name).write_bytes(content)
    result = imported("numpy", folder, tmp_path / "out", max_skipped=0.5)
    assert result.skipped.total == 1
    assert result.skipped.text().isprintable()
    assert list(table(tmp_path / "out")) == ["a"]


@pytest.mark.parametrize("kind", ["npy", "npz", "lzma", "pt", "old.pt", "pkl"])
def test_files_with_wrong_bytes_are_counted(kind: str, tmp_path: Path) -> None:
    folder = save_arrays(tmp_path / "x", random_videos(["a"]))
    stream, array, rng = io.BytesIO(), np.ones((5, 4), np.float32), np.random.default_rng(0)
    if kind == "npy":
        np.save(stream, array)
    elif kind == "npz":
        np.savez_compressed(stream, array)
    elif kind == "lzma":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
            archive.write(folder / "a.npy", "features.npy")
    elif kind == "pkl":
        pickle.dump({"x": array}, stream)
    else:
        torch.save({"x": torch.from_numpy(array)}, stream, _use_new_zipfile_serialization=kind == "pt")
    data = stream.getvalue()
    for number in range(200):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 1 + number % 5):
            changed[place] = rng.integers(256)
        suffix = {"lzma": "npz"}.get(kind, kind.rpartition(".")[2])
        (folder / f"b{number}.{suffix}").write_bytes(changed)
    result = imported("numpy", folder, tmp_path / "out", max_skipped=1)
    assert result.rows + result.skipped.total == 201


def test_errors_of_the_system_are_no_faults_of_files() -> None:
    from esv_ray.input.faults import RecordError
    from esv_ray.input.sources.damage import parsing

    passed: list[BaseException] = [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), ImportError("torch")]
    for error in (*passed, DataError("refused")):
        with pytest.raises(type(error)), parsing("a .npz file"):
            raise error
    for damage in (struct.error("short"), MemoryError(), OSError("no HDF5 file"), AttributeError("None")):
        with pytest.raises(RecordError, match=r"damaged: expected a \.npz file"), parsing("a .npz file"):
            raise damage


@pytest.mark.parametrize("inside", ["f", "", "f/*.npy", "**/*.npy"])
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_folder_in_a_zip_archive(inside: str, kind: str, tmp_path: Path) -> None:
    videos = random_videos(["a", "b"])
    folder = save_arrays(tmp_path / "f", videos)
    archive = str(tmp_path / "x.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in folder.iterdir():
            target.write(file, f"f/{file.name}")
        target.writestr("other", "")
        target.writestr("labels.csv", "")
    if kind == "memory":
        archive = put(f"memory://{uuid.uuid4().hex}/x.zip", Path(archive))
    imported("numpy", f"zip://{inside}::{archive}", tmp_path / "out")
    prefix = "" if inside.startswith("f") else "f/"
    assert_holds(tmp_path / "out", {prefix + name: array for name, array in videos.items()})
    assert imported("numpy", f"zip://{inside}::{archive}", tmp_path / "out").was_complete
    with pytest.raises(DataError, match="damaged: other"):
        imported("numpy", f"zip://other::{archive}", tmp_path / "none")
    with pytest.raises(
        DataError, match=r"expected files \*.npy, .*, or a folder with some, got 'labels.csv'; check the"
    ):
        imported("numpy", f"zip://labels.csv::{archive}", tmp_path / "none")


def test_one_file_in_a_zip_archive_and_no_output_there(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    save_arrays(tmp_path / "f", random_videos(["a"]))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as target:
        target.write(tmp_path / "f" / "a.npy", "g/a.npy")
    imported("numpy", f"zip://g/a.npy::{tmp_path}/x.zip", tmp_path / "out")
    assert_holds(tmp_path / "out", random_videos(["a"]))
    content = (tmp_path / "x.zip").read_bytes()
    with pytest.raises(DataError, match="cannot write the feature table"):
        imported("numpy", tmp_path / "f", f"zip://out::{tmp_path}/x.zip")
    assert (tmp_path / "x.zip").read_bytes() == content
