"""An output among the features is told of before anything is written, by whatever name it is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.storage.inside import would_find

NAMES = ("videos/part.parquet",)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table" / "deep").mkdir(parents=True)
    (tmp_path / "table" / "deep" / "a.parquet").write_bytes(b"x")
    (tmp_path / "away").mkdir()
    return tmp_path / "table"


def is_found(location: Path | str, folder: Path | str) -> bool:
    """What the function says; and whether a listing finds what is then written."""
    found = would_find(str(location), str(folder), NAMES)
    for name in NAMES:
        storage.replace(storage.join(str(folder), name), b"x", "write")
    urls = storage.find(str(location), "list", lambda name: name.endswith(".parquet") and not storage.is_hidden(name))
    real = {Path(file.url).resolve() for file in urls}
    assert found == any((Path(folder) / name).resolve() in real for name in NAMES)
    return found


@pytest.mark.parametrize("name", ["", "out", "deep", "deep/new/out"])
def test_below(table: Path, name: str) -> None:
    assert is_found(table, table / name)


@pytest.mark.parametrize("name", ["../out", "../table2", "../away"])
def test_beside(table: Path, name: str) -> None:
    assert not is_found(table, f"{table}/{name}")


@pytest.mark.parametrize("output", ["away", "away/new"])
@pytest.mark.parametrize("place", ["outs", "deep/outs", "deep/label=1"])
def test_a_link_below_the_features_that_leads_to_the_output(table: Path, place: str, output: str) -> None:
    (table / place).symlink_to("../" * place.count("/") + "../away")
    assert is_found(table, table.parent / output)


def test_links_behind_links(table: Path) -> None:
    (table.parent / "far").mkdir()
    (table / "one").symlink_to(table.parent / "away")
    (table.parent / "away" / "two").symlink_to(table.parent / "far")
    assert is_found(table, table.parent / "far" / "out")


def test_a_hidden_link_is_not_followed(table: Path) -> None:
    (table / "_outs").symlink_to(table.parent / "away")
    assert not is_found(table, table.parent / "away")


def test_a_loop_ends(table: Path) -> None:
    (table / "deep" / "again").symlink_to(table / "deep")
    assert not is_found(table, table.parent / "away")


@pytest.mark.parametrize(("features", "output"), [("table", "alias/out"), ("alias", "table/out"), ("alias", "alias")])
def test_links_on_the_way(table: Path, features: str, output: str) -> None:
    (table.parent / "alias").symlink_to(table)
    assert is_found(table.parent / features, table.parent / output)


@pytest.mark.parametrize(
    ("pattern", "output", "expected"),
    [
        ("**/*.parquet", "out", True),
        ("*/*.parquet", "out", False),
        ("*/*/*.parquet", "out", True),
        ("deep/*.parquet", "deep", False),
        ("deep/*/*.parquet", "deep", True),
        ("*.parquet", ".", False),
        ("*/*/*.parquet", "../away", False),
    ],
)
def test_patterns(table: Path, pattern: str, output: str, expected: bool) -> None:
    assert is_found(table / pattern, f"{table}/{output}") is expected


@pytest.mark.parametrize("pattern", ["**/*.parquet", "*/*/*.parquet"])
def test_a_pattern_that_goes_through_a_link(table: Path, pattern: str) -> None:
    (table / "outs").symlink_to(table.parent / "away")
    assert is_found(table / pattern, table.parent / "away")


def test_stores() -> None:
    for location, folder in (("memory://t/x", "memory://t/x/out"), ("memory:///t/x", "memory://t/x")):
        assert would_find(location, folder, NAMES)
    assert would_find("memory://t/**/*.parquet", "memory://t/x", NAMES)
    assert not would_find("memory://t/x", "memory://t/x2", NAMES)
    assert not would_find("memory://t", "/t/out", NAMES)
    with pytest.raises(SpecError):
        would_find("memory://t", "", NAMES)
