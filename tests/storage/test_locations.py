"""Parts of a location that are nearly always a mistake: empty, `.`, `..`, a variable that nobody replaced."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from esv_ray import cli, storage
from esv_ray.errors import DataError, SpecError
from esv_ray.spec import load_spec
from tests.support.s3_server import S3Server

EMPTY = [
    "s3://bucket//x",
    "s3://bucket/a//x",
    "s3://bucket/a/x//",
    "s3:///a/x",
    "s3://",
    "s3a://bucket//x",
    "gs://bucket//x",
    "abfs://container@account.dfs.core.windows.net//x",
    "memory://a//x",
    "hdfs://host:8020//x",
    "simplecache::s3://bucket//x",
    "zip://a//b.parquet::s3://bucket/x.zip",
]
DOTS = ["s3://bucket/../x", "s3://bucket/a/./x", "s3://bucket/a/..", "s3://../a", "memory://a/../x"]
VARIABLES = ["s3://bucket/$RUN/x", "s3://$BUCKET/x", "s3://bucket/${RUN}", "data/$RUN/x", "/data/${RUN:-a}", "$HOME/x"]


@pytest.mark.parametrize(
    ("urls", "message"), [(EMPTY, "empty part"), (DOTS, "the part '."), (VARIABLES, "is not expanded")]
)
def test_such_parts_are_refused(urls: list[str], message: str) -> None:
    for url in urls:
        acts: list[Callable[[], object]] = [
            lambda url=url: storage.open_location(url),  # type: ignore[misc]
            lambda url=url: storage.absolute(url),  # type: ignore[misc]
            lambda url=url: load_spec({"features": "f", "model": "m", "output": url}),  # type: ignore[misc]
        ]
        for act in acts:
            with pytest.raises(SpecError) as caught:
                act()
            assert str(caught.value).startswith(f"{url}: expected "), url
            assert message in str(caught.value), url


@pytest.mark.parametrize("url", ["", " ", " s3://bucket/x", "s3://bucket/x\n", "data/x\r\n"])
def test_spaces_around_a_location(url: str) -> None:
    with pytest.raises(SpecError, match="expected a location without spaces around it"):
        storage.open_location(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/a b/c$d/e~/f...g/",
        "s3://bucket/x_$folder$",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/name/clips@50fps",
        "memory:///a/b",
        "memory://",
        "simplecache::s3://bucket/x",
        "http://host/web/2026/http://other//x?$filter=a//b",
    ],
)
def test_others_are_not(url: str) -> None:
    storage.open_location(url)


def test_a_disk_reads_them_as_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.replace("a//b/../c//object", b"x", "write")
    assert storage.read_bytes(f"{tmp_path}/a/c/object", "read") == b"x"
    assert storage.list_names("a//c/", "list") == ["object"]
    assert storage.list_names(f"file://{tmp_path}//a//c", "list") == ["object"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.list_names("~/a/c", "list") == ["object"]


def test_a_location_below_another() -> None:
    assert storage.join("s3://bucket/", "a", "b") == storage.join("s3://bucket", "a/b") == "s3://bucket/a/b"
    assert storage.join("/", "a") == "/a"
    assert storage.join("memory://", "a") == "memory://a"


def test_every_command_refuses_them_and_writes_nothing(
    s3: S3Server,
    bundle: str,
    features: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    wrong, here = f"{place}//x", ["--set", "cluster.actors=0"]
    (tmp_path / "table.h5").touch()
    for words in (
        ["attribute", "--features", features, "--model", bundle, "--output", wrong, *here],
        ["attribute", "--features", features, "--model", wrong, "--output", place, *here],
        ["attribute", "--features", wrong, "--model", bundle, "--output", place, *here],
        ["plan", "--features", features, "--model", bundle, "--output", wrong, *here],
        ["verify", wrong],
        ["analyze", wrong],
        ["status", wrong],
        ["train", "--features", features, "--output", wrong],
        ["train", "--features", features, "--output", f"{place}//"],
        ["import", "model", "--from", "play-fair", "--out", wrong, "--prior", f"{bundle}/prior.csv", wrong],
        ["import", "features", "--from", "play-fair", "--out", wrong, str(tmp_path / "table.h5")],
    ):
        monkeypatch.setattr(sys, "argv", ["esv", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        err = capsys.readouterr().err
        assert ended.value.code == 2, words
        assert err.count("\n") == 1, err
        assert f"{place}//" in err
        assert "an empty part (a variable in it may be empty)" in err
    assert storage.find(f"s3://{s3.bucket}/", "list", lambda below: place.rpartition("/")[2] in below) == []
    assert "AWS_ENDPOINT_URL" in os.environ, "or nothing would have been written anyway"


@pytest.mark.parametrize("chain", ["reference::{}", "reference://::{}", "simplecache::reference::{}"])
def test_a_location_runs_no_code(chain: str, tmp_path: Path) -> None:
    """Some versions of fsspec render such a file as a template of jinja2, without a sandbox."""
    run = f"{{{{ cycler.__init__.__globals__.os.system('touch {tmp_path}/ran') }}}}"
    refs = {"version": 1, "templates": {"u": run}, "refs": {"a": ["{{u}}", 0, 1]}}
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    with pytest.raises(SpecError, match=r"reference:: locations are not opened, since .* can run code"):
        storage.open_location(chain.format(tmp_path / "refs.json"))
    assert not (tmp_path / "ran").exists()
    assert storage.open_location(str(tmp_path / "reference"))[1].endswith("/reference"), "a folder of that name"


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_say_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    storage.replace("memory://locations/folder/file", b"x", "write")
    for read in (storage.read_bytes, storage.reader):
        for folder in (str(tmp_path), "memory://locations/folder"):
            with pytest.raises(DataError) as caught:
                read(folder, "read it")
            message = f"cannot read it: {folder}: expected a file, got a folder; give the location of a file in it"
            assert str(caught.value) == message
        with pytest.raises(DataError, match=r"expected a folder above it, got a file; check the location$"):
            read(str(tmp_path / "file" / "x"), "read it")
