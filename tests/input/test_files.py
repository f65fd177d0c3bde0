"""Planned files: what counts as another content, links, and what is no ordinary file."""

from __future__ import annotations

import io
import os
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray import cli, storage
from esv_ray.errors import DataError, JobError
from esv_ray.input.files import check_unchanged, list_files, list_files_if_any
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.units import Unit, plan_units
from esv_ray.output.manifest import Manifest, check_same_job
from esv_ray.storage import states
from tests.conftest import make_table
from tests.support.feature_tables import read_unit
from tests.support.s3_server import S3Server
from tests.support.units import only


def table(seed: int) -> bytes:
    """A file of 30 videos: with any seed one of the same size, with other features."""
    sink = io.BytesIO()
    pq.write_table(make_table([3] * 30, seed=seed), sink, compression="none", row_group_size=10)
    return sink.getvalue()


def planned(url: str) -> list[Unit]:
    """Units as a job plans them."""
    return plan_units(read_footers(list_files(url)), 10)


def written_over(path: Path, data: bytes) -> None:
    """As ``rsync --inplace -t`` does: the same inode."""
    path.write_bytes(data)


def moved_over(path: Path, data: bytes) -> None:
    """As ``rsync -t`` does: another file of that name."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(data)
    fresh.replace(path)


@pytest.mark.parametrize("replaced", [written_over, moved_over])
def test_a_file_of_the_same_size_and_time_is_another(replaced: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(table(number))
    units = planned(str(tmp_path))
    assert units == planned(str(tmp_path)), "planned twice, it is the same job"
    before = paths[1].stat()
    read_unit(units[3])
    replaced(paths[1], table(7))
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = paths[1].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    read_unit(units[1])
    with pytest.raises(DataError, match=f"^{paths[1]}: changed since the job was planned"):
        read_unit(units[4])
    manifest = Manifest({}, {}, "", {}, {}, tuple(only(unit).file for unit in units), tuple(units))
    with pytest.raises(JobError, match=rf"the feature table changed since this job was planned: {paths[1]} \("):
        check_same_job(manifest, {}, list_files(str(tmp_path)), "out")


def test_where_the_store_tells_nothing_the_footer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FUSE inodes and their times are made up anew by each mount."""
    monkeypatch.setattr(states, "_made_up", lambda device: True)
    path = tmp_path / "a.parquet"
    path.write_bytes(table(0))
    units = planned(str(tmp_path))
    before = path.stat()
    moved_over(path, table(1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_unchanged([only(units[0]).file])
    with pytest.raises(DataError, match=rf"^{path}: changed since the job was planned \(its footer differs, or "):
        read_unit(units[0])


def test_which_file_systems_make_inodes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = (
        "36 35 0:46 / /data rw shared:1 - fuse.mountpoint-s3 mountpoint-s3 rw\n"
        "37 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *arguments, **options: mounts)
    states._made_up.cache_clear()
    try:
        assert states._made_up(os.makedev(0, 46))
        assert not states._made_up(os.makedev(8, 1))
        assert not states._made_up(os.makedev(9, 9))
    finally:
        states._made_up.cache_clear()


def test_an_object_of_the_same_size_is_another(s3: S3Server) -> None:
    place = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    for number in range(2):
        storage.replace(f"{place}/{number}.parquet", table(number), "write")
    units = planned(place)
    for file in list_files(place):
        assert storage.state(file.url, "look") == (file.size, file.version)
    storage.replace(f"{place}/1.parquet", table(7), "write")
    assert read_unit(units[0])[0].num_rows == 10
    with pytest.raises(DataError, match=f"^{place}/1.parquet: changed since the job was planned"):
        read_unit(units[3])


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(table(0))
    unit = planned(str(path))[0]
    from esv_ray.input.parquet.row_groups import RowGroupReader

    def row_group(*arguments: object) -> object:
        written_over(path, table(1))
        return None

    monkeypatch.setattr(RowGroupReader, "take", row_group)
    with pytest.raises(DataError, match="changed since the job was planned"):
        read_unit(unit)


# Links ----------------------------------------------------------------------------------------------------------------


def test_a_table_of_links_is_attributed_and_verified(
    features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in Path(features).iterdir():
        (linked / path.name).symlink_to(path)

    def esv(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["esv", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, output.out + output.err

    job = ["attribute", "--features", str(linked), "--model", bundle, "--output", str(tmp_path / "out")]
    job += ["--set", "cluster.actors=0", "--set", "frames=4"]
    assert esv(*job)[0] == 0
    code, output = esv("verify", str(tmp_path / "out"))
    assert (code, "no problems" in output, "not compared" in output) == (0, True, False), output
    assert esv(*job)[0] == 0, "nothing changed"
    (linked / "part-0.parquet").unlink()
    (linked / "part-0.parquet").symlink_to(Path(features) / "part-1.parquet")
    code, output = esv(*job)
    assert code == 2
    assert f"the feature table changed since this job was planned: {linked}/part-0.parquet" in output


def test_a_link_to_another_file_is_another(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"target-{number}").write_bytes(table(number))
        os.utime(tmp_path / f"target-{number}", ns=(1, 1))
    link = tmp_path / "a.parquet"
    link.symlink_to(tmp_path / "target-0")
    (unit, *_) = planned(str(tmp_path))
    assert read_unit(unit)[0].num_rows == 10
    link.unlink()
    link.symlink_to(tmp_path / "target-1")
    with pytest.raises(DataError, match=f"^{link}: changed since the job was planned"):
        read_unit(unit)


def test_links_are_followed_and_every_file_is_found_once(tmp_path: Path) -> None:
    root = tmp_path / "table"
    (root / "there").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / ".cache").mkdir()
    for number, path in enumerate(("table/there/a", "elsewhere/b", "elsewhere/deep/c", ".cache/d")):
        (tmp_path / f"{path}.parquet").write_bytes(table(number))
    (root / "latest").symlink_to("there")
    (root / "latest.parquet").symlink_to("there/a.parquet")
    (root / "shard").symlink_to(tmp_path / "elsewhere")
    (root / "z.parquet").symlink_to(tmp_path / ".cache" / "d.parquet")
    (root / "again.parquet").symlink_to("z.parquet")
    (root / "there" / "around").symlink_to(root)
    (root / "there" / "again").symlink_to("../there")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (root / "notes.txt").symlink_to("nowhere")
    (root / "_gone").symlink_to("nowhere")
    for pattern, expected in {
        "": ["again.parquet", "shard/b.parquet", "shard/deep/c.parquet", "there/a.parquet"],
        "*.parquet": ["again.parquet", "latest.parquet"],
        "shard": ["shard/b.parquet", "shard/deep/c.parquet"],
        "l*/*.parquet": ["latest/a.parquet"],
        "**/*.parquet": ["again.parquet", "shard/b.parquet", "shard/deep/c.parquet", "there/a.parquet"],
    }.items():
        urls = [file.url for file in list_files(f"{root}/{pattern}")]
        assert urls == [f"{root}/{name}" for name in expected], pattern


def test_links_to_nowhere_and_round_about(tmp_path: Path) -> None:
    root = tmp_path / "table"
    root.mkdir()
    (root / "a.parquet").write_bytes(table(0))
    (root / "shard").symlink_to(tmp_path / "unmounted")
    with pytest.raises(DataError, match=rf"{root}/shard: expected a folder, got a broken link"):
        list_files(str(root))
    (root / "shard").unlink()
    (root / "up").symlink_to(tmp_path)
    with pytest.raises(DataError, match=f"{root}/up: .* got a link to {tmp_path}, which contains it"):
        list_files(str(root))
    (root / "up").unlink()
    (root / "x.parquet").symlink_to("y.parquet")
    (root / "y.parquet").symlink_to("x.parquet")
    with pytest.raises(DataError, match=f"{root}/x.parquet: expected a file, got a broken link"):
        list_files(str(root))


def test_links_of_other_labels_to_one_folder_are_different_inputs(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.parquet").write_bytes(table(0))
    root = tmp_path / "table"
    root.mkdir()
    for name in ("label=1", "label=2"):
        (root / name).symlink_to(tmp_path / "shared")
    urls = [file.url for file in list_files(str(root))]
    assert urls == [f"{root}/label=1/a.parquet", f"{root}/label=2/a.parquet"]


def test_a_link_of_another_name_to_a_labelled_directory_is_no_further_input(tmp_path: Path) -> None:
    (tmp_path / "label=1").mkdir()
    (tmp_path / "label=1" / "a.parquet").write_bytes(table(0))
    for name in ("current", "z"):
        (tmp_path / name).symlink_to("label=1")
    assert [file.url for file in list_files(str(tmp_path))] == [f"{tmp_path}/label=1/a.parquet"]


NO_PARQUET = {
    "nothing": (b"", "got an empty file; write or download it again"),
    "a few bytes": (b"PAR1PAR", "got a file of 7 bytes; write or download it again"),
    "cut short": (table(0)[:-100], "got one that is cut short; write or download it again"),
    "LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "got a Git LFS pointer in place of the file; ",
    ),
    "CSV": (b"video_id,label\na,1\n", "got something else, which begins with 'video_id,label'; "),
    "bytes": (bytes(range(200, 256)), "got something else, which begins with "),
    "an encrypted footer": (table(0)[:-4] + b"PARE", "got one with an encrypted footer; "),
    "gzip": (b"\x1f\x8b" + bytes(20), "got a gzip file; unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "got an HDF5 file; see esv import features"),
    "an Arrow file": (b"ARROW1\0\0" + bytes(20), "got an Arrow IPC (Feather) file; write it as Parquet"),
    "HTML": (
        b"<!doctype html><html>",
        "got an HTML page, probably a login or ",
    ),
}


@pytest.mark.parametrize(("content", "message"), NO_PARQUET.values(), ids=NO_PARQUET)
def test_what_is_no_parquet_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(table(0))
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(DataError) as caught:
        plan_units(read_footers(list_files(str(tmp_path))), 100)
    assert str(caught.value).startswith(f"{tmp_path}/b.parquet: expected a Parquet file, {message}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_cache_of_hugging_face(tmp_path: Path) -> None:
    """Names are links to blobs; revisions share them."""
    (tmp_path / "blobs").mkdir()
    for number in range(3):
        (tmp_path / "blobs" / f"{number:064x}").write_bytes(table(number))
    for revision, blobs in {"aaa": (0, 1), "bbb": (0, 2)}.items():
        folder = tmp_path / "snapshots" / revision / "data"
        folder.mkdir(parents=True)
        for place, blob in enumerate(blobs):
            (folder / f"train-{place}.parquet").symlink_to(f"../../../blobs/{blob:064x}")
    files = list_files(str(tmp_path / "snapshots" / "bbb"))
    assert [Path(file.url).name for file in files] == ["train-0.parquet", "train-1.parquet"]
    assert [read_unit(unit)[0].num_rows for unit in plan_units(read_footers(files), 100)] == [10] * 6
    assert len(list_files(str(tmp_path))) == 3


@pytest.mark.parametrize("name", ["P.PARQUET", "p.Pq", "p.parq", "p.snappy.parquet"])
def test_names_of_parquet_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(table(0))
    (tmp_path / "_metadata.parquet").write_bytes(b"")
    assert [file.url for file in list_files(str(tmp_path))] == [f"{tmp_path}/{name}"]


# What is no ordinary file ---------------------------------------------------------------------------------------------


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))  # a socket's path is short


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link_to_a_folder(path: Path) -> None:
    path.symlink_to(path.parent)


def make_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def make_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: dict[Callable[[Path], None], str] = {
    make_pipe: "a pipe",
    make_socket: "a socket",
    make_folder: "a folder",
    make_link_to_a_folder: "a folder",
    make_link_to_nowhere: "a broken link",
    make_link_to_a_device: "a device",
}


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_ordinary_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(table(0))
    odd = tmp_path / "odd.parquet"
    make(odd)
    urls = [str(tmp_path), f"{tmp_path}/*.parquet"]
    if ODD[make] != "a folder":
        urls.append(str(odd))
    for url in urls:
        with pytest.raises(DataError) as caught:
            list_files_if_any(url)
        message = str(caught.value)
        assert str(odd) in message
        assert ODD[make] in message or "was not found" in message
        assert "\n" not in message
    odd.rename(tmp_path / "odd.lock")
    assert [file.url for file in list_files(str(tmp_path))] == [f"{tmp_path}/a.parquet"]


def test_a_folder_of_parts_is_one_of_files(tmp_path: Path) -> None:
    """As Spark writes a table."""
    (tmp_path / "clips.parquet").mkdir()
    (tmp_path / "clips.parquet" / "part-0.parquet").write_bytes(table(0))
    assert [file.url for file in list_files(str(tmp_path))] == [f"{tmp_path}/clips.parquet/part-0.parquet"]
    assert len(list_files(f"{tmp_path}/clips.parquet")) == 1
    with pytest.raises(DataError, match="expected a file, got a folder"):
        list_files(f"{tmp_path}/*.parquet")


def test_footers_are_no_part_of_a_name(tmp_path: Path) -> None:
    """A listing does not tell them, so that a planned file equals the listed one."""
    (tmp_path / "a.parquet").write_bytes(table(0))
    (file,) = list_files(str(tmp_path))
    assert read_footers([file])[0].file == file
    (unit, *_) = planned(str(tmp_path))
    assert only(unit).file.footer != ""
    assert unit.name == replace(unit, ranges=(replace(only(unit), file=file),)).name
