"""Jobs over tables of many small files: the same results as file by file; outputs of older plans are continued."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.planning import plan_job
from esv_ray.attribution.recompute import recompute
from esv_ray.attribution.work import run_job
from esv_ray.errors import JobError
from esv_ray.forecast.forecast import forecast
from esv_ray.input import units as units_module
from esv_ray.output.manifest import existing_manifest
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import JobSpec, load_spec
from tests.conftest import make_table

FILES = 24


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A table of 24 files of one video of two to seven frames."""
    (tmp_path / "t").mkdir()
    for number in range(FILES):
        video = make_table([2 + number % 6], seed=number, prefix=f"v{number}-")
        pq.write_table(video, tmp_path / "t" / f"{number:02}.parquet")
    return tmp_path / "t"


def spec_of(small: Path, bundle: str, output: Path) -> JobSpec:
    places = {"features": str(small), "model": bundle, "output": str(output)}
    return load_spec(places, ["cluster.actors=0", "frames=2", "classes=all"])


def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan units of several files from now on."""
    monkeypatch.setattr(units_module, "_MANY_UNITS", 8)


def values(output: Path) -> dict[tuple[str, int, int], float]:
    rows = ds.dataset(output / "attributions").to_table().to_pylist()
    return {(row["video_id"], row["class"], row["element"]): row["esv"] for row in rows}


def test_the_results_are_those_of_single_files_and_verify(
    small: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_job(spec_of(small, bundle, tmp_path / "apart")).exit_code == 0
    together(monkeypatch)
    spec = spec_of(small, bundle, tmp_path / "joined")
    estimate = forecast(spec)
    assert run_job(spec).exit_code == 0
    manifest = existing_manifest(str(tmp_path / "joined"))
    assert estimate.units == manifest.units
    assert len(manifest.units) < FILES
    assert manifest.rows == FILES
    verification = verify_output(str(tmp_path / "joined"))
    assert (verification.problems, verification.notes) == ((), ())
    checked = recompute(str(tmp_path / "joined"), FILES)
    assert (checked.videos, checked.same, checked.problems) == (FILES, FILES, ())
    apart, joined = values(tmp_path / "apart"), values(tmp_path / "joined")
    assert apart.keys() == joined.keys()
    assert all(joined[key] == pytest.approx(value, abs=1e-6) for key, value in apart.items())


def test_an_output_of_an_older_plan_is_continued_with_its_units(
    small: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run.json holds the plan, so a plan that is made differently today changes nothing."""
    spec = spec_of(small, bundle, tmp_path / "out")
    assert run_job(spec).exit_code == 0
    removed = sorted((tmp_path / "out" / "videos").iterdir())[5]
    removed.unlink()
    together(monkeypatch)
    assert [unit.rows for unit in plan_job(spec).pending] == [1]
    assert run_job(spec).exit_code == 0
    assert len(list((tmp_path / "out" / "videos").iterdir())) == FILES
    assert not verify_output(str(tmp_path / "out")).problems


def test_tables_of_an_older_plan_without_their_run_json_are_refused_in_words(
    small: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(small, bundle, tmp_path / "out")
    assert run_job(spec).exit_code == 0
    (tmp_path / "out" / "run.json").unlink()
    together(monkeypatch)
    with pytest.raises(JobError, match=r"found results without a run\.json that do not belong to this job"):
        plan_job(spec)


def test_a_broken_file_fails_its_video_and_the_job_counts_it(
    small: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small / "03.parquet"
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    together(monkeypatch)
    result = run_job(spec_of(small, bundle, tmp_path / "out"))
    assert (result.counts.ok, result.counts.failed, result.units_left) == (FILES - 1, 1, 0)
    (table,) = (
        row for row in ds.dataset(tmp_path / "out" / "videos").to_table().to_pylist() if row["status"] == "failed"
    )
    assert str(path) in table["reason"]
