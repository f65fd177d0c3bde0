"""The benchmark of reading: both sides read the same table, and what is measured is what a job does."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray.bench import reading
from esv_ray.bench.reading import Measured, measure, measure_files, write_table


def test_every_run_measures_both(tmp_path: Path) -> None:
    write_table(tmp_path / "t", 40, 4, rows_of_file=16)
    assert len(list((tmp_path / "t").iterdir())) == 3
    runs = measure(tmp_path / "t", 4, repeats=2)
    assert len(runs) == 2
    assert all(run.pyarrow > 0 and run.ours > 0 for run in runs)
    assert Measured(2.0, 3.0).ratio == 1.5


def test_small_files_are_measured_in_units_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "t", 600, 4, rows_of_file=1)
    read = []

    def counted(unit: object, reader: object) -> None:
        read.append(unit)

    monkeypatch.setattr(reading, "read_rows", counted)
    assert measure_files(tmp_path / "t", 4).planning > 0
    assert len(read) < 600


@pytest.mark.slow
def test_checks_take_at_most_half_of_the_time_of_decoding(tmp_path: Path) -> None:
    """The goal of issue 24; the best of a few runs, since other processes disturb both sides."""
    write_table(tmp_path / "t", 2048, 256)
    assert min(run.ratio for run in measure(tmp_path / "t", 256, repeats=4)) <= 1.5
