"""Many small files of a disk in one step: the same as one by one, and an error names the file."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.errors import DataError


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes(range(10 * number)))
    return [str(tmp_path / f"{number}") for number in range(5)]


def test_the_ends_of_files(urls: list[str]) -> None:
    assert storage.read_ends(urls, "read", 25) == [Path(url).read_bytes()[-25:] for url in urls]


def test_ends_that_cannot_be_read_together(urls: list[str]) -> None:
    """A file alone says why."""
    Path(urls[3]).unlink()
    assert storage.read_ends(urls, "read", 25) is None
    place = f"memory://{uuid.uuid4().hex}/a"
    storage.replace(place, b"a", "write")
    assert storage.read_ends([place], "read", 25) is None


def test_the_states_of_objects(urls: list[str]) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    objects = [f"{folder}/{number}" for number in range(3)]
    for place in objects:
        storage.replace(place, place.encode(), "write")
    for places in (urls, urls[:1], objects, [*urls, *objects]):
        assert storage.states_of(places, "read") == [storage.state(place, "read") for place in places]
    assert storage.states_of([], "read") == []


def test_a_missing_file_is_named(urls: list[str]) -> None:
    Path(urls[3]).unlink()
    with pytest.raises(DataError, match=f"{urls[3]} was not found"):
        storage.states_of(urls, "read the feature table")
