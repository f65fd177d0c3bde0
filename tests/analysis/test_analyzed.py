"""What an analysis refuses to take for the results of a job: files of others, and videos that are there twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.compare import compare
from esv_ray.analysis.sql import open_outputs
from esv_ray.analysis.tables import analyze
from esv_ray.errors import DataError, JobError
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of two models over the same features, so that their units have the same names."""
    place = tmp_path_factory.mktemp("analyzed")
    pq.write_table(make_table([4] * 12), place / "f.parquet")
    for name, seed in (("a", 0), ("b", 1)):
        save_heads(str(place / f"model-{name}"), make_heads(seed=seed), make_prior(3))
        run(str(place / "f.parquet"), str(place / f"model-{name}"), place / name, "compute.unit=4", "tables=marginals")
    return place


@pytest.mark.parametrize("table", ["videos", "attributions", "marginals"])
def test_files_of_another_job_are_refused(table: str, folder: Path, tmp_path: Path) -> None:
    """As after two outputs were copied into one folder."""
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "a", mixed)
    name = sorted(path.name for path in (mixed / table).iterdir())[1]
    shutil.copy(folder / "b" / table / name, mixed / table / name)
    for read in (lambda: analyze(str(mixed)), lambda: open_outputs({"": str(mixed)})):
        with pytest.raises(JobError, match=r"expected a file of this job .*, got one of another job"):
            read()


def test_files_of_another_unit_are_refused(folder: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    shutil.copytree(folder / "a", swapped)
    for table in ("videos", "attributions", "marginals"):
        one, other, *_ = sorted((swapped / table).iterdir())
        shutil.copy(other, one)
    for read in (lambda: analyze(str(swapped), ["summary"]), lambda: open_outputs({"": str(swapped)})):
        with pytest.raises(JobError, match="expected the rows"):
            read()


def test_videos_of_several_files_with_one_id_are_refused(folder: Path, tmp_path: Path) -> None:
    """Joins by id would count each of them several times."""
    features, table = tmp_path / "features", make_table([4] * 12)
    features.mkdir()
    pq.write_table(table, features / "a.parquet")
    pq.write_table(pa.concat_tables([table.slice(3, 2), make_table([5], prefix="new")]), features / "b.parquet")
    run(str(features), str(folder / "model-a"), tmp_path / "out", "tables=marginals")
    for names in (None, ["marginals"], ["summary"]):
        with pytest.raises(
            DataError, match="expected every video_id once in the feature table, got 2 in several files"
        ):
            analyze(str(tmp_path / "out"), names)
    with pytest.raises(DataError, match="expected every video_id once"):
        compare(str(folder / "a"), str(tmp_path / "out"))
    opened = open_outputs({"": str(tmp_path / "out")})  # who looks for the reason may look at the rows
    assert opened.con.execute("SELECT count(*) FROM videos").fetchall() == [(15,)]
