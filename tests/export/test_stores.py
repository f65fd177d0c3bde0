"""Exports from and to a real S3 server: the same bytes as on a disk, once only."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import DataError
from tests.analysis.test_database import copy_to
from tests.export.conftest import IDS, Out, write
from tests.support.s3_server import S3Server, client


@pytest.mark.slow
@pytest.mark.parametrize("to", ["csv", "npz", "play-fair", "fiftyone"])
def test_a_store_gives_and_takes_the_same_bytes(to: str, sweep: Out, s3: S3Server, tmp_path: Path) -> None:
    source, place = f"s3://{s3.bucket}/export-{to}/out", f"s3://{s3.bucket}/export-{to}/made"
    copy_to(client(s3), sweep.folder, source)
    videos = tmp_path / "videos.csv"
    videos.write_text("video_id,path\n" + "".join(f'"{each}",{n}.mp4\n' for n, each in enumerate(IDS)), "utf-8")
    options = {"videos": str(videos)} if to == "fiftyone" else {}
    write(to, source, place, **options)
    write(to, sweep.folder, tmp_path / "made", **options)
    files = sorted((tmp_path / "made").iterdir()) if (tmp_path / "made").is_dir() else [tmp_path / "made"]
    for file in files:
        there = place if file.name == "made" else f"{place}/{file.name}"
        found, expected = storage.read_bytes(there, "read"), file.read_bytes()
        if file.name == "metadata.json":  # names the output
            found, expected = found.replace(source.encode(), b""), expected.replace(str(sweep.folder).encode(), b"")
        assert found == expected, file.name
    with pytest.raises(DataError, match="expected no file there"):
        write(to, source, place, **options)
