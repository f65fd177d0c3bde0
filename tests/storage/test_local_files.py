"""Replacing files of this machine: links are followed; pipes and devices are written to, never replaced."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import DataError

Write = Callable[[Path, bytes, Path], None]


def _replace(path: Path, data: bytes, _: Path) -> None:
    storage.replace(str(path), data, "write")


def _replace_from(path: Path, data: bytes, folder: Path) -> None:
    (folder / "source").write_bytes(data)
    storage.replace_from(str(path), folder / "source", "write")


@pytest.fixture(params=[_replace, _replace_from])
def write(request: pytest.FixtureRequest) -> Write:
    function: Write = request.param
    return function


def test_the_file_that_a_link_leads_to_is_replaced(write: Write, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link, chain = tmp_path / "elsewhere" / "target", tmp_path / "link", tmp_path / "chain"
    target.write_bytes(b"before")
    link.symlink_to("elsewhere/target")
    chain.symlink_to(link)
    write(chain, b"after", tmp_path)
    assert (chain.is_symlink(), link.is_symlink(), target.read_bytes()) == (True, True, b"after")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["target"]


def test_a_link_to_a_file_that_is_not_there_yet(write: Write, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    write(link, b"new", tmp_path)
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_pipe_is_written_to(write: Write, tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    data = bytes(range(256)) * 4096  # more than a pipe holds
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            while len(b"".join(got)) < len(data):
                got.append(file.read(65536))

    thread = threading.Thread(target=read)
    thread.start()
    write(pipe, data, tmp_path)
    thread.join()
    assert b"".join(got) == data
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_refused(write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="expected a file, or a pipe that is being read"):
        write(tmp_path / "pipe", b"x", tmp_path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_an_open_descriptor_is_written_to(write: Write, tmp_path: Path) -> None:
    """As a shell gives them for `>(command)`."""
    reader, writer = os.pipe()
    write(Path(f"/dev/fd/{writer}"), b"some rows", tmp_path)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"some rows"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_stays_one(write: Write, tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write(device, b"x" * 100, tmp_path)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} <= {"null", "source"}
    storage.check_writable(str(tmp_path), "write", ["null"])
