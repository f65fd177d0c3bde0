"""esv export --to csv: what the tables hold, as text that spreadsheets may open."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.errors import DataError, SpecError
from tests.export.conftest import IDS, NAMES, Out, write


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def test_the_files_hold_the_tables(plain: Out, tmp_path: Path) -> None:
    notes = write("csv", plain.folder, tmp_path / "csv", exact_text=True)
    assert notes == []
    files = {path.name for path in (tmp_path / "csv").iterdir()}
    assert files == {"classes.csv", "videos.csv", "attributions.csv", "discards.csv"}
    for table in ("videos", "attributions", "discards"):
        found, expected = read(tmp_path / "csv" / f"{table}.csv"), plain.rows(table)
        assert len(found) == len(expected) > 0
        for row, want in zip(found, expected, strict=True):
            assert list(row) == list(want)
            for name, value in want.items():
                if isinstance(value, float):
                    assert np.float32(row[name]) == np.float32(value)
                elif isinstance(value, list):
                    got = np.array(json.loads(row[name]), np.float32)
                    np.testing.assert_array_equal(got, np.array(value, np.float32))
                else:
                    assert row[name] == text(value)
    assert [row["name"] for row in read(tmp_path / "csv" / "classes.csv")] == list(NAMES)


def test_no_text_is_a_formula(plain: Out, tmp_path: Path) -> None:
    (note,) = write("csv", plain.folder, tmp_path / "csv")
    assert "changed so that spreadsheets do not read them as formulas; --exact-text" in note
    names = [row["name"] for row in read(tmp_path / "csv" / "classes.csv")]
    assert names == [f"'{NAMES[0]}", 'jump, "high"\\x1b[31m', NAMES[2]]
    ids = {row["video_id"] for row in read(tmp_path / "csv" / "videos.csv")}
    assert ids == {f"'{each}" if each[0] in "-@" else each for each in IDS}


def test_existing_files_stay(plain: Out, tmp_path: Path) -> None:
    place = tmp_path / "csv"
    place.mkdir()
    (place / "videos.csv").write_text("mine")
    with pytest.raises(DataError, match=r"videos\.csv: expected no file there, found one; .*--overwrite"):
        write("csv", plain.folder, place)
    assert [(path.name, path.read_text()) for path in place.iterdir()] == [("videos.csv", "mine")]
    write("csv", plain.folder, place, overwrite=True)
    assert len(read(place / "videos.csv")) == 12


def test_the_output_itself_is_no_place(plain: Out) -> None:
    with pytest.raises(SpecError, match="would be a file of the output"):
        write("csv", plain.folder, plain.folder / "videos")


def test_options_of_other_formats(plain: Out, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--exact-text has an effect only with --to csv, got npz; leave it out"):
        write("npz", plain.folder, tmp_path / "x.npz", exact_text=True)
    with pytest.raises(SpecError, match=r"format: expected one of csv, npz, play-fair.*got 'xls'"):
        write("xls", plain.folder, tmp_path / "x")
