"""Other methods beside ESVs in a job: the values of `core.methods`, in the same tables, with the same guarantees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.attribution.recompute import recompute
from esv_ray.core.discards import by_contribution
from esv_ray.core.methods import attribution
from esv_ray.core.methods.attribution import attribute_method
from esv_ray.core.methods.score import score_function
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator
from esv_ray.models.bundle import load_model
from esv_ray.models.saving import save_heads
from esv_ray.output.computed import METHODS
from esv_ray.output.manifest import existing_manifest
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.bundles import python_bundle
from tests.support.jobs import files_of, run
from tests.support.oracle import multiscale_game

LENGTHS = [5, 3, 6, 1]
ALL = f"methods=[{','.join(METHODS)}]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("methods")
    (place / "features").mkdir()
    for part, seed in (("a", 0), ("b", 1)):
        pq.write_table(make_table(LENGTHS, seed=seed, prefix=part), place / "features" / f"part-{part}.parquet")
    save_heads(str(place / "model"), make_heads(), make_prior(3))
    return place


def attributed(folder: Path, output: Path, *overrides: str) -> None:
    result = run(str(folder / "features"), str(folder / "model"), output, *overrides)
    assert (result.quarantined, result.counts.failed) == ({}, 0)


@pytest.fixture(scope="module", params=["exact", "adjusted"])
def done(folder: Path, request: pytest.FixtureRequest) -> Path:
    output = folder / str(request.param)
    sampling = [f"estimator.kind={request.param}", "estimator.m=6", "estimator.iterations=1"]
    attributed(folder, output, *sampling, ALL, "tables=discards", "variations.steps=20")
    return output


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(output / name).to_pylist())


def features_of(folder: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / "features").to_pylist()
    return {row["video_id"]: np.array(row["features"], np.float32) for row in table}


def values_of(output: Path, video: str, method: str, kept: int) -> np.ndarray:
    found = [row for row in rows(output, "attributions") if (row["video_id"], row["method"]) == (video, method)]
    return np.array([row["esv"] for row in found if row["class"] == kept])


@pytest.mark.slow
def test_the_baseline_is_the_mean_element_of_the_table(folder: Path, done: Path) -> None:
    baseline = existing_manifest(str(done)).baseline
    everything = np.concatenate([*features_of(folder).values()]).astype(np.float64)
    assert baseline is not None
    np.testing.assert_allclose(np.array(baseline), everything.mean(axis=0), atol=1e-6)


def test_values_are_those_of_each_video_alone(folder: Path, done: Path) -> None:
    model = load_model(str(folder / "model"))
    estimator = Estimator(kind=done.name, m=6, iterations=1)  # type: ignore[arg-type]
    baseline = torch.tensor(existing_manifest(str(done)).baseline)
    found = rows(done, "attributions")
    for video, features in features_of(folder).items():
        function = score_function(model, estimator, len(features))
        kept = sorted({row["class"] for row in found if row["video_id"] == video})
        for method in METHODS[1:]:
            expected = attribute_method(
                method,  # type: ignore[arg-type]
                function,
                torch.from_numpy(features[None]),
                torch.tensor([kept]),
                video_ids=[video],
                baseline=baseline,
                steps=20,
            )
            for place, class_ in enumerate(kept):
                np.testing.assert_allclose(
                    values_of(done, video, method, class_), expected.values[0, :, place], atol=1e-6
                )
                deltas = {
                    row["delta"]
                    for row in found
                    if (row["video_id"], row["method"], row["class"]) == (video, method, class_)
                }
                assert len(deltas) == 1
                if method == "integrated_gradients":
                    assert expected.delta is not None
                    assert deltas.pop() == pytest.approx(float(expected.delta[0, place]), abs=1e-6)
                else:
                    assert deltas == {None}


def test_integrated_gradients_are_complete(folder: Path, done: Path) -> None:
    """They sum to the score less that of the baseline sequence, by plain code; where the score is exact."""
    exact = {row["video_id"] for row in rows(done, "videos") if row["exact"]}
    assert len(exact) >= 4, "sequences of up to three elements are, with either estimator"
    baseline = np.array(existing_manifest(str(done)).baseline, np.float32)
    found = rows(done, "attributions")
    for video, features in features_of(folder).items():
        if video not in exact:
            continue
        everything = tuple(range(len(features)))
        game = multiscale_game(make_heads(), torch.from_numpy(features), make_prior(3))
        still = np.tile(baseline, (len(features), 1))
        start = multiscale_game(make_heads(), torch.from_numpy(still), make_prior(3))
        for class_ in {row["class"] for row in found if row["video_id"] == video}:
            change = game(everything)[class_] - start(everything)[class_]
            assert values_of(done, video, "integrated_gradients", class_).sum() == pytest.approx(change, abs=0.02)


@pytest.mark.slow
def test_discards_of_each_method(folder: Path, done: Path) -> None:
    found = rows(done, "discards")
    label = {row["video_id"]: row["label"] for row in rows(done, "videos")}
    for video, features in features_of(folder).items():
        game = multiscale_game(make_heads(), torch.from_numpy(features), make_prior(3))
        own = [row for row in found if row["video_id"] == video]
        orders = {(row["method"], row["order"]) for row in own}
        assert orders == {("esv", order) for order in ("center", "edges", "uniform", "random")} | {
            (method, order) for method in METHODS for order in ("descending", "ascending")
        }
        for row in own:
            if row["order"] not in ("descending", "ascending") or (done.name != "exact" and row["discarded"] < 3):
                continue
            values = values_of(done, video, row["method"], label[video])[None]
            order = by_contribution(values, descending=row["order"] == "descending")[0]
            left = tuple(sorted(order[row["discarded"] :].tolist()))
            assert row["score"] == pytest.approx(game(left)[label[video]], abs=2e-6)


@pytest.mark.slow
def test_they_are_verified_recomputed_and_resumed(folder: Path, done: Path, tmp_path: Path) -> None:
    assert verify_output(str(done)).problems == ()
    assert recompute(str(done), 8).problems == ()
    settings = [ALL, "estimator.kind=exact", "variations.steps=5", "compute.unit=2"]
    attributed(folder, tmp_path / "out", *settings)
    before = files_of(tmp_path / "out")
    for path in sorted((tmp_path / "out" / "videos").iterdir())[::2]:
        path.unlink()
    attributed(folder, tmp_path / "out", *settings)
    assert files_of(tmp_path / "out") == before


def test_verification_finds_values_that_are_missing(folder: Path, tmp_path: Path) -> None:
    attributed(folder, tmp_path / "out", "methods=[esv,occlusion]", "estimator.kind=exact")
    path = sorted((tmp_path / "out" / "attributions").iterdir())[0]
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    problems = verify_output(str(tmp_path / "out")).problems
    assert any("expected a value of occlusion beside each ESV" in problem for problem in problems)


def test_esvs_do_not_depend_on_the_methods_beside_them(folder: Path, done: Path, tmp_path: Path) -> None:
    attributed(folder, tmp_path / "out", f"estimator.kind={done.name}", "estimator.m=6", "estimator.iterations=1")
    beside = [row for row in rows(done, "attributions") if row["method"] == "esv"]
    assert beside == rows(tmp_path / "out", "attributions")
    assert existing_manifest(str(tmp_path / "out")).baseline is None


def test_methods_that_cannot_be(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="methods: expected esv among the methods, got occlusion"):
        load_spec({"features": "a", "model": "b", "output": "c", "methods": "occlusion"})
    monkeypatch.setattr(attribution, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"^integrated gradients need captum, which is not installed: pip install"):
        attributed(folder, tmp_path / "out", ALL)
    assert not (tmp_path / "out").exists()


def test_a_video_without_a_finite_gradient_fails_alone(folder: Path, tmp_path: Path) -> None:
    """Of one element, the module's gradient is not finite; found by a review."""
    bundle = python_bundle(tmp_path / "model", "weightless")
    settings = "methods=[esv,integrated_gradients,grad_cam]", "variations.steps=3", "max_failed=1", "tables=sanity"
    result = run(str(folder / "features"), bundle, tmp_path / "out", *settings)
    assert (result.quarantined, result.counts.ok, result.counts.failed) == ({}, 6, 2)
    failed = {row["video_id"]: row["reason"] for row in rows(tmp_path / "out", "videos") if row["status"] == "failed"}
    assert set(failed) == {"a3", "b3"}, "those of one frame"
    assert all(reason.endswith("values are not finite") for reason in failed.values())
    assert verify_output(str(tmp_path / "out")).problems == ()
    assert rows(tmp_path / "out", "sanity") == [], "the model has no weights"
