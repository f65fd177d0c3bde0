"""Trials before long work: a location that cannot be written is refused in one line, whatever the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import DataError

ONLY_READ = r"cannot save it: https://example\.invalid.*: https?:// locations are only read; choose a folder on a disk"


@pytest.mark.parametrize(
    "write",
    [
        lambda url: storage.check_writable(url, "save it", ["x.html"]),
        lambda url: storage.replace(f"{url}/x.html", b"x", "save it"),
        lambda url: storage.remove(f"{url}/x.html", "save it"),
    ],
)
def test_a_store_whose_client_only_reads(write: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match=ONLY_READ):
        write("https://example.invalid/folder")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot save it: /.*File name too long"):
        storage.check_writable(str(tmp_path), "save it", ["x" * 300 + ".html"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder of processes")
def test_a_folder_that_creates_no_files() -> None:
    with pytest.raises(DataError, match=r"cannot save it: /proc: no file can be created in /proc; choose another"):
        storage.check_writable("/proc", "save it", ["x.html"])
