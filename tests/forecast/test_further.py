"""What a forecast says of the further tables of a job: rows, bytes and evaluations, against the job itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray.attribution.work import run_job
from esv_ray.core.cost import PlanCost
from esv_ray.core.engine import Engine
from esv_ray.forecast.forecast import forecast
from esv_ray.forecast.further import by_other_methods
from esv_ray.forecast.report import as_json
from esv_ray.output.unit_files import rows_of
from esv_ray.spec import JobSpec, load_spec
from tests.forecast.test_forecast import bytes_of
from tests.support.forecasts import job, same_lengths

TABLES = ["marginals", "interactions", "discards", "replacements", "smoothness", "order", "sanity"]


def spec_of(bundle: str, folder: Path, *overrides: str) -> JobSpec:
    return job(same_lengths(folder / "f.parquet", lengths=(6, 11), rows=64), bundle, folder / "out", *overrides)


@pytest.mark.slow
@pytest.mark.parametrize("tables", [TABLES, *([table] for table in TABLES)], ids=str)
def test_rows_and_bytes(tables: list[str], bundle: str, tmp_path: Path) -> None:
    names = ",".join(tables)
    spec = spec_of(
        bundle, tmp_path, "estimator.kind=exact", f"tables=[{names}]", "frames=[3,5]", "variations.shuffles=2"
    )
    result = forecast(spec)
    size, written = result.output_size, run_job(spec).counts.written
    assert list(size.further_rows_least) == tables
    for table in tables:
        rows = written[rows_of(table)]
        assert size.further_rows_least[table] <= rows <= size.further_rows_most[table]
    assert size.bytes_least <= bytes_of(tmp_path / "out") <= size.bytes_most
    assert size.files == len(list((tmp_path / "out").glob("*/part-*")))
    assert [each["table"] for each in as_json(result)["write"]["further"]] == tables
    assert {each["discard_evaluations"] for each in as_json(result)["by_length"]} == {0}


def counted_evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list to which every later use of a plain engine adds its head evaluations."""
    spent: list[int] = []
    scoring = Engine.plain

    def counting(engine: Engine) -> Engine:
        alone = scoring(engine)
        attributions = alone.attributions

        def counted(*arguments: object) -> object:
            for selected, attribution in attributions(*arguments):  # type: ignore[arg-type]
                spent.append(len(selected) * attribution.evaluations)
                yield selected, attribution

        monkeypatch.setattr(alone, "attributions", counted)
        return alone

    monkeypatch.setattr(Engine, "plain", counting)
    return spent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adjusted", "algorithm1"])
def test_evaluations_of_what_is_left(kind: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as foretold: orders share subsequences, each of which is evaluated once."""
    spec = spec_of(
        bundle, tmp_path, f"estimator.kind={kind}", "estimator.m=16", "estimator.iterations=1", "tables=discards"
    )
    result = forecast(spec)
    spent = counted_evaluations(monkeypatch)
    run_job(spec)
    expected = sum(length.work.videos * length.work.shorter_evaluations for length in result.by_length)
    assert 0.6 * expected < sum(spent) <= expected
    own = sum(length.work.videos * length.work.evaluations for length in result.by_length)
    assert expected > own


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "adjusted"])
def test_evaluations_of_replacements(kind: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as foretold: orders share sequences, each of which is evaluated once."""
    settings = (f"estimator.kind={kind}", "estimator.m=16", "estimator.iterations=1", "methods=[esv,random]")
    spec = spec_of(bundle, tmp_path, *settings, "tables=replacements")
    result = forecast(spec)
    spent = counted_evaluations(monkeypatch)
    run_job(spec)
    foretold = [each["replacement_evaluations"] for each in as_json(result)["by_length"]]
    expected = sum(length.work.videos * count for length, count in zip(result.by_length, foretold, strict=True))
    assert 0.6 * expected < sum(spent) <= expected
    assert all(length.work.evaluations * 20 < count for length, count in zip(result.by_length, foretold, strict=True))


@pytest.mark.slow
def test_rows_of_other_methods(bundle: str, tmp_path: Path) -> None:
    methods = "methods=[esv,integrated_gradients,grad_cam,random]"
    spec = spec_of(
        bundle, tmp_path, "estimator.kind=exact", methods, "tables=discards", "frames=3", "variations.steps=4"
    )
    result = forecast(spec)
    size, written = result.output_size, run_job(spec).counts.written
    assert size.attribution_rows_least <= written["attribution_rows"] <= size.attribution_rows_most
    assert written["discard_rows"] == size.further_rows_most["discards"]
    assert size.bytes_least <= bytes_of(tmp_path / "out") <= size.bytes_most
    (length,) = as_json(result)["by_length"]
    assert length["method_evaluations"] == length["evaluations"] * (3 * 4 * 2 + 1 + 2 * 2)


def test_evaluations_of_other_methods() -> None:
    """A model of any length takes one evaluation of the whole sequence, and one without each element."""
    spec = load_spec({"features": "f", "model": "m", "output": "o", "methods": ["esv", "occlusion", "grad_cam"]})
    exact = PlanCost("exact", 12, 4095, True, 924, 1, 0.0)
    assert by_other_methods(spec, exact, 2, any_length=True) == 13 + 5
    assert by_other_methods(spec, exact, 2, any_length=False) == 4095 * (1 + 5)
    drawn = PlanCost("algorithm1", 6, 18, True, 6, 1, 0.0)
    assert by_other_methods(spec, drawn, 1, any_length=False) == 18 * (7 + 3)
