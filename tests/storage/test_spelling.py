"""file:// URLs are decoded, plain paths and other URLs are not, and an empty location is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.models.bundle import load_model
from esv_ray.spec import load_spec
from esv_ray.spec_train import load_train_spec

TAKEN = [
    ("file:///a%20b/c", "/a b/c"),
    ("file://localhost/a%20b", "/a b"),
    ("file://LocalHost/a", "/a"),
    ("file:/a%20b", "/a b"),
    ("file:a%20b", "a b"),
    ("local:///a%20b", "/a b"),
    ("file:///a b", "/a b"),
    ("file:///gr%C3%B6%C3%9Fe/größe", "/größe/größe"),
    ("file:///a%25b", "/a%b"),
    ("file:///a%2520b", "/a%20b"),
    ("file:///a%2Bb+c", "/a+b+c"),
    ("file:///part-?.parquet", "/part-?.parquet"),
    ("file:///a#b", "/a#b"),
    ("file:///a%23b%3Fc", "/a#b?c"),
    ("file:///x/*.parquet", "/x/*.parquet"),
    ("file:///", "/"),
    ("/a%20b", "/a%20b"),
    ("a%20b", "a%20b"),
    ("./file%3A", "./file%3A"),
    ("100%", "100%"),
    ("s3://bucket/a%20b", "s3://bucket/a%20b"),
    ("memory://a%20b", "memory://a%20b"),
    ("https://host/a%20b", "https://host/a%20b"),
    ("/a/file:/b%20c", "/a/file:/b%20c"),
    ("s3://bucket/file:b%20c", "s3://bucket/file:b%20c"),
]


@pytest.mark.parametrize(("url", "path"), TAKEN)
def test_spellings(url: str, path: str) -> None:
    assert storage.spelled(url) == path
    assert storage.spelled(path) == path, "once is enough"


@pytest.mark.parametrize(("url", "path"), [pair for pair in TAKEN if pair[1].startswith("/")])
def test_every_way_in_takes_them(url: str, path: str) -> None:
    spec = load_spec({"features": url, "model": url, "output": url})
    assert (spec.features, spec.model, spec.output) == (path, path, path)
    trained = load_train_spec({"features": url, "output": url, "validation": url, "classes": url})
    assert (trained.features, trained.output, trained.validation, trained.classes) == (path,) * 4
    assert storage.open_location(url)[1].rstrip("/") == path.rstrip("/")
    assert storage.absolute(url) == path


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("file://", "expected a path after file:, got none"),
        ("file:", "expected a path after file:, got none"),
        ("file://localhost", "expected a path after file:, got none"),
        ("file://host/a", "got the host 'host'"),
        ("file://data/a.parquet", "for a relative path leave file:// out"),
        ("file://~/a", "got the host '~'"),
        ("file:///a%2Fb", "got %2F"),
        ("file:///a%2fb", "got %2f"),
        ("file:///a%00b", "got %00"),
        ("file:///100%", "two hexadecimal digits"),
        ("file:///a%zz", "write %25 for a percent sign"),
        ("file:///a%ff", "escapes of UTF-8"),
        ("file:///a%3A%3Ab", "without ::"),
        ("file:///a%20", "without spaces around it"),
        ("file:///a%0A", "without spaces around it"),
        ("simplecache::file:///a%zz", "two hexadecimal digits"),
        ("", "a variable in it may be empty"),
        ("  ", "a variable in it may be empty"),
    ],
)
def test_urls_of_no_path_are_refused_in_one_line(url: str, part: str) -> None:
    for act in (storage.spelled, storage.open_location, storage.absolute):
        with pytest.raises(SpecError) as caught:
            act(url)
        assert part in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(SpecError, match="spec: output: "):
        load_spec({"features": "f", "model": "m", "output": url})


@pytest.mark.parametrize(
    "url",
    [
        *("dat::v2", "run::1", "/a/run::1", "./a::b", "/a::b/c", "s3://bucket/a::b", "memory://a::b", "zip://a::/b::c"),
        *("::a", "a::", "zip::", "zip://a::", "a::s3://bucket/b", "simplecache::/a::b", "http://host/a?b=c::d"),
    ],
)
def test_what_would_be_dropped_after_two_colons_is_refused(url: str) -> None:
    for act in (storage.spelled, storage.open_location, storage.absolute, storage.join, storage.local_path):
        with pytest.raises(SpecError, match=r"expected a location without ::.*rename it") as caught:
            act(url)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(SpecError, match=r"spec: output: .*without ::"):
        load_spec({"features": "f", "model": "m", "output": url})
    with pytest.raises(SpecError, match=r"spec: validation: .*without ::"):
        load_train_spec({"features": "f", "output": "o", "validation": url})


@pytest.mark.parametrize("url", ["zip://a.parquet::{}/x.zip", "simplecache::zip://a.parquet::file://{}/x.zip"])
def test_chains_are_read(tmp_path: Path, url: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("a.parquet", b"x")
    assert storage.read_bytes(storage.spelled(url.format(tmp_path)), "read") == b"x"


def test_a_file_with_two_colons_in_a_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"another")
    (tmp_path / "a::b").write_bytes(b"x")
    urls = [file.url for file in storage.find(str(tmp_path), "find", lambda name: "::" in name)]
    with pytest.raises(SpecError, match="a::b: expected a location without ::"):
        storage.read_bytes(urls[0], "read")


@pytest.mark.parametrize("url", ["file://me:secret@host/a", "s3://me:secret@bucket/a::b"])
def test_no_password_is_printed(url: str) -> None:
    for act in (storage.spelled, storage.open_location):
        with pytest.raises(SpecError) as caught:
            act(url)
        assert "secret" not in str(caught.value)


def test_a_chain_is_decoded_once(tmp_path: Path) -> None:
    (tmp_path / "a%20b").write_bytes(b"x")
    url = f"simplecache::file://{tmp_path}/a%2520b"
    assert storage.spelled(url) == url
    assert storage.read_bytes(url, "read") == b"x"


def test_what_is_written_lies_where_the_url_says(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/new%20folder"
    storage.replace(storage.join(url, "100%25", "a b"), b"x", "write")
    assert (tmp_path / "new folder" / "100%25" / "a b").read_bytes() == b"x", "names are not escapes"
    assert storage.list_names(url, "list") == ["100%25"]
    assert storage.find(url, "find", lambda name: True)[0].url == f"{tmp_path}/new folder/100%25/a b"
    assert [path.name for path in tmp_path.iterdir()] == ["new folder"]


def test_nothing_is_joined_to_an_empty_location() -> None:
    for url in ("", " "):
        with pytest.raises(SpecError, match="a variable in it may be empty"):
            storage.join(url, "model.json")
        with pytest.raises(SpecError, match="a variable in it may be empty"):
            load_model(url)


@pytest.mark.parametrize("text", ["s3://bucket/a", "memory://a", "https://host/a", "simplecache::s3://a", "s3:/a"])
def test_a_local_path_is_of_this_machine(text: str) -> None:
    with pytest.raises(SpecError, match="expected a local file or folder"):
        storage.local_path(text)


@pytest.mark.parametrize("text", ["a", "/a%20b", "./a:b", "/a/s3://b", "-"])
def test_local_paths(text: str) -> None:
    assert storage.local_path(text) == text
    assert storage.local_path("file:///a%20b") == "/a b"
