"""WebDataset shards as feature tables."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.errors import DataError
from esv_ray.input.sources import table_writer, tar_shards
from tests.input.sources.imports import assert_holds, imported, put, random_videos, table

VIDEOS = random_videos(["000", "001", "sub/002", "003"])


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write(path: Path, members: list[tuple[str, bytes]], mode: Any = "w") -> Path:
    """A tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as shard:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, array: Any, label: Any = None) -> list[tuple[str, bytes]]:
    members = [(f"{key}.npy", npy(array)), (f"{key}.jpg", b"picture" * 300)]
    return members if label is None else [*members, (f"{key}.json", json.dumps({"label": label}).encode())]


def shards(folder: Path, labels: list[Any]) -> Path:
    """Two shards of two samples each."""
    pairs = [sample(key, array, label) for (key, array), label in zip(VIDEOS.items(), labels, strict=True)]
    write(folder / "0.tar", pairs[0] + pairs[1])
    write(folder / "1.tar", pairs[2] + pairs[3])
    return folder


@pytest.mark.parametrize("kind", ["disk", "memory", "s3"])
def test_samples_of_several_shards(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, out = str(shards(tmp_path / "x", [2, 0, 1, 2])), str(tmp_path / "out")
    if kind != "disk":
        bucket = "" if kind == "memory" else f"{request.getfixturevalue('s3').bucket}/"
        source = put(f"{kind}://{bucket}{uuid.uuid4().hex}", tmp_path / "x")
        out = f"{kind}://{bucket}{uuid.uuid4().hex}"
    assert imported("tar", source, out).rows == 4
    assert_holds(out, VIDEOS)
    assert [video.label for video in table(out).values()] == [2, 0, 1, 2]


@pytest.mark.parametrize(("suffix", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")])
def test_compressed_shards(suffix: str, mode: str, tmp_path: Path) -> None:
    write(tmp_path / "x" / f"a.{suffix}", [each for key, array in VIDEOS.items() for each in sample(key, array)], mode)
    imported("tar", tmp_path / "x", tmp_path / "out")
    assert_holds(tmp_path / "out", VIDEOS)


def test_names_of_labels_get_ids_in_sorted_order(tmp_path: Path) -> None:
    source = shards(tmp_path / "x", ["walk", "jump", None, "run"])
    imported("tar", source, tmp_path / "out", keep_unlabelled=True)
    assert [video.label for video in table(tmp_path / "out").values()] == [2, 0, None, 1]
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\njump,0\nrun,1\nwalk,2\n"
    imported("tar", source, tmp_path / "given", classes="name,id\nwalk,0\nrun,1\njump,2\n", keep_unlabelled=True)
    assert [video.label for video in table(tmp_path / "given").values()] == [0, 2, None, 1]


def test_digits_among_names_are_names(tmp_path: Path) -> None:
    source = shards(tmp_path / "x", ["open", 1, 0, None])
    imported("tar", source, tmp_path / "out", keep_unlabelled=True)
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\n0,0\n1,1\nopen,2\n"
    assert [video.label for video in table(tmp_path / "out").values()] == [2, 1, 0, None]
    other = shards(tmp_path / "y", ["open", 7, 5, None])
    imported("tar", other, tmp_path / "other", keep_unlabelled=True)
    assert [video.label for video in table(tmp_path / "other").values()] == [2, 1, 0, None], "5, 7, open"


@pytest.mark.parametrize("labels", [[2, None, 0, 1], [None, "b", "a", "b"]])
def test_a_video_without_a_label_beside_labelled_ones_is_counted(labels: list[Any], tmp_path: Path) -> None:
    source = shards(tmp_path / "x", labels)
    (without,) = [key for key, label in zip(VIDEOS, labels, strict=True) if label is None]
    result = imported("tar", source, tmp_path / "out", max_skipped=0.5)
    assert list(result.skipped.rows()) == [("a video without a label", 1, without)]
    assert set(table(tmp_path / "out")) == VIDEOS.keys() - {without}
    with pytest.raises(DataError, match=f"a video without a label: {without}; .*--keep-unlabelled"):
        imported("tar", source, tmp_path / "refused")


def test_labels_take_one_pass_over_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[bool] = []
    read = tar_shards._samples

    def counted(file: Any, *, with_arrays: bool) -> Any:
        passes.append(with_arrays)
        return read(file, with_arrays=with_arrays)

    monkeypatch.setattr(tar_shards, "_samples", counted)
    for labels in (["walk", "jump", "walk", "run"], [None] * 4):
        passes.clear()
        source = shards(tmp_path / f"x{labels[0]}", labels)
        assert imported("tar", source, tmp_path / f"out{labels[0]}").rows == 4
        assert passes == [False, False, True, True], "two shards: once for the labels, once for the arrays"


def test_names_with_dots_lose_no_label(tmp_path: Path) -> None:
    """The key of a WebDataset sample ends at the first dot: `v1.5.npy` is the array `5` of `v1`, and has no label."""
    members = [
        member for key in ("v1", "v2") for member in ((f"{key}.5.npy", npy(np.ones((2, 4)))), (f"{key}.5.cls", b"1"))
    ]
    write(tmp_path / "x" / "a.tar", members)
    with pytest.raises(DataError, match="a name with dots: the key of a sample ends at the first one: v1"):
        imported("tar", tmp_path / "x", tmp_path / "out")
    more = [("v1.npy", npy(np.ones((2, 4)))), ("v1.meta.json", b"{}"), ("v1.cls", b"1")]
    write(tmp_path / "y" / "a.tar", more)
    imported("tar", tmp_path / "y", tmp_path / "other")
    assert table(tmp_path / "other")["v1"].label == 1


def test_labels_of_a_csv_take_precedence(tmp_path: Path) -> None:
    source = shards(tmp_path / "x", [7, 7, 7, 7])
    labels = "video_id,label\n" + "".join(f"{key},{index}\n" for index, key in enumerate(VIDEOS))
    imported("tar", source, tmp_path / "out", labels=labels)
    assert [video.label for video in table(tmp_path / "out").values()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ([("a.cls", b"3")], 3),
        ([("a.json", b'{"cls": 4}')], 4),
        ([("a.json", b'{"label": 5.0}')], 5),
        ([("a.json", b'{"label": null}')], None),
        ([("a.json", b"[1, 2]")], None),
        ([("a.json", b'{"label": 1}'), ("a.cls", b"2\n")], 2),
    ],
)
def test_forms_of_labels(members: list[tuple[str, bytes]], label: int | None, tmp_path: Path) -> None:
    write(tmp_path / "x.tar", [("a.npy", npy(np.ones((2, 3)))), *members])
    imported("tar", tmp_path / "x.tar", tmp_path / "out")
    assert table(tmp_path / "out")["a"].label == label


def test_arrays_of_several_names(tmp_path: Path) -> None:
    rgb, flow = VIDEOS["000"], VIDEOS["001"]
    write(tmp_path / "x.tar", [("d.1/a.rgb.npy", npy(rgb)), ("d.1/a.flow.npy", npy(flow))])
    imported("tar", tmp_path / "x.tar", tmp_path / "out", key="flow")
    assert_holds(tmp_path / "out", {"d.1/a": flow})
    with pytest.raises(DataError, match=r"several arrays in a file; give --key: d\.1/a \(flow, rgb\)"):
        imported("tar", tmp_path / "x.tar", tmp_path / "none")


def test_names_never_become_paths(tmp_path: Path) -> None:
    """Ids may look like paths; nothing is written but the table, and links and devices are not followed."""
    secret = tmp_path / "secret.npy"
    np.save(secret, np.zeros((2, 4), np.float32))
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for key, data in [("../../evil.npy", npy(VIDEOS["000"])), ("/abs/olute.npy", npy(VIDEOS["001"]))]:
            info = tarfile.TarInfo(key)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
        for name, kind in [
            ("link.npy", tarfile.SYMTYPE),
            ("hard.npy", tarfile.LNKTYPE),
            ("device.npy", tarfile.CHRTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            shard.addfile(info)
    before = sorted(tmp_path.rglob("*"))
    imported("tar", tmp_path / "x.tar", tmp_path / "out" / "deep")
    assert_holds(tmp_path / "out" / "deep", {"../../evil": VIDEOS["000"], "/abs/olute": VIDEOS["001"]})
    assert [path for path in sorted(tmp_path.rglob("*")) if "out" not in path.parts[len(tmp_path.parts) :]] == before


def test_faults(tmp_path: Path) -> None:
    members = [
        *sample("good", VIDEOS["000"], 1),
        ("none.json", b"{}"),
        ("broken.npy", b"broken"),
        *sample("odd", np.zeros((2, 9))),
        ("json.npy", npy(np.zeros((2, 4)))),
        ("json.json", b"{"),
        ("list.npy", npy(np.zeros((2, 4)))),
        ("list.json", b'{"label": [1]}'),
        *sample("good", VIDEOS["001"], 1),
        *sample("minus", VIDEOS["001"], -1),
    ]
    source = write(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match="7 of 8 videos"):
        imported("tar", source, tmp_path / "out")
    result = imported("tar", source, tmp_path / "out", max_skipped=0.9)
    assert {(reason, number) for reason, number, _ in result.skipped.rows()} == {
        ("no array", 1),
        ("damaged", 2),
        ("another D than the first video", 1),
        ("a label that is neither a number nor a name", 1),
        ("several files of one id", 1),
        ("a label that is no class", 1),
    }
    assert_holds(tmp_path / "out", {"good": VIDEOS["000"]})


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.5, 0.75, 0.9])
def test_a_shard_that_is_cut_off_is_refused(mode: str, share: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    members = [each for index in range(5) for each in sample(f"{index}", rng.standard_normal((90, 9)))]
    members = [(name, rng.bytes(9000) if name.endswith("jpg") else data) for name, data in members]
    source = write(tmp_path / "x.tar", members, mode)
    data = source.read_bytes()
    source.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match="expected a tar file, got a damaged one"):
        imported("tar", source, tmp_path / "out", max_skipped=1)


@pytest.mark.parametrize("blocks", [1, 2, 3, 9, 11, 13])
def test_a_shard_that_is_cut_off_between_blocks_is_refused(blocks: int, tmp_path: Path) -> None:
    members = [("a.npy", npy(np.zeros((3, 4)))), ("a.jpg", bytes(512 * 8)), ("b.npy", npy(np.zeros((3, 4))))]
    source = write(tmp_path / "x.tar", members)
    data = source.read_bytes()
    source.write_bytes(
        data[: 512 * blocks] if blocks < 20 else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)
    )
    with pytest.raises(DataError, match="expected a tar file, got a damaged one"):
        imported("tar", source, tmp_path / "out", max_skipped=1)


def test_an_interrupted_import_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from esv_ray.input.sources.importing import import_features
    from esv_ray.input.sources.outcome import ImportProgress
    from esv_ray.input.sources.request import ImportRequest

    monkeypatch.setattr(table_writer, "FILE_BYTES", 1)
    source = shards(tmp_path / "x", ["walk", "jump", "walk", "run"])
    imported("tar", source, tmp_path / "whole")

    def stop(now: ImportProgress) -> None:
        if now.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_features(ImportRequest("tar", str(source), str(tmp_path / "out")), stop)
    assert imported("tar", source, tmp_path / "out").rows == 4
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name


def test_damaged_tar_headers_are_named_and_end(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.npy")
    header.size = 10**18
    (tmp_path / "huge.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(DataError, match=r"huge\.tar: expected a tar file, got a damaged one"):
        imported("tar", tmp_path / "huge.tar", tmp_path / "out")
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2
    (tmp_path / "deep.tar").write_bytes((name.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 3000)
    with pytest.raises(DataError, match=r"deep\.tar: expected a tar file, got a damaged one"):
        imported("tar", tmp_path / "deep.tar", tmp_path / "out")


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    source = write(tmp_path / "x.tar", [(f"{key}.npy", npy(VIDEOS["000"])) for key in "abc"])
    data = bytearray(source.read_bytes())
    data[data.index(b"b.npy")] = ord("d")
    source.write_bytes(data)
    with pytest.raises(DataError, match=r"got a damaged one after 'a' \(bad checksum\)"):
        imported("tar", source, tmp_path / "out", max_skipped=1)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("size", [10**12, 2**62])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_sizes_beyond_the_end_of_a_shard_end_at_once(kind: bytes, size: int, suffix: str, tmp_path: Path) -> None:
    """Also behind random bytes, so that the file is as large as a compressed one may be that holds so much."""
    header = tarfile.TarInfo("a.jpg")
    header.type, header.size = kind, size
    data = header.tobuf(tarfile.GNU_FORMAT) + np.random.default_rng(0).bytes(2**20)
    source = tmp_path / f"x.{suffix}"
    source.write_bytes(gzip.compress(data) if suffix == "tar.gz" else data)
    with pytest.raises(DataError, match="expected a tar file, got a damaged one"):
        imported("tar", source, tmp_path / "out", max_skipped=1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_shard_with_wrong_bytes_is_read_or_refused(mode: str, tmp_path: Path) -> None:
    data = write(tmp_path / "good.tar", [each for key in "abc" for each in sample(key, VIDEOS["000"], 1)], mode)
    content, rng = data.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 1 + number % 9):
            changed[place] = rng.integers(256)
        (tmp_path / "x.tar").write_bytes(changed)
        with suppress(DataError):
            imported("tar", tmp_path / "x.tar", tmp_path / f"out{number}", max_skipped=1)


def test_labels_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    source = shards(tmp_path / "x", ["walk", "\ud800", "run", "run"])
    result = imported("tar", source, tmp_path / "out", max_skipped=0.5)
    assert [(reason, count) for reason, count, _ in result.skipped.rows()] == [("a label that is not UTF-8", 1)]
    assert result.rows == 3


def test_keys_and_plain_labels_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    members = [*sample("a", VIDEOS["000"]), *sample("b", VIDEOS["001"]), ("b.cls", b"\xff")]
    members += [("k\udcff.npy", npy(VIDEOS["000"])), ("l.\udcff.npy", npy(VIDEOS["000"])), ("l.c.npy", npy([1.0]))]
    result = imported("tar", write(tmp_path / "x.tar", members), tmp_path / "out", max_skipped=0.9)
    assert {(reason, count) for reason, count, _ in result.skipped.rows()} == {
        ("a label that is not UTF-8", 1),
        ("an id that is not UTF-8", 1),
        ("several arrays in a file; give --key", 1),
    }
    assert result.skipped.text().isprintable()
    assert_holds(tmp_path / "out", {"a": VIDEOS["000"]})
