"""`sampling: jittered`: one random frame in each of n segments of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.compare import compare
from esv_ray.attribution.requests import jittered_frames
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.saving import save_heads
from esv_ray.spec import fingerprint, job_keys, load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run

LENGTHS = [17, 9, 4, 2, 12]
SETTINGS = ["frames=4", "sampling=jittered", "estimator.kind=exact", "estimator.seed=7"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("jittered")
    (place / "features").mkdir()
    pq.write_table(make_table(LENGTHS), place / "features" / "part-0.parquet")
    save_heads(str(place / "model"), make_heads(), make_prior(3))
    return place


@pytest.mark.parametrize(("t", "n"), [(10, 4), (7, 7), (29, 8), (1, 1), (1000, 16), (5, 3)])
def test_each_segment_gives_one_of_its_frames(t: int, n: int) -> None:
    ids = [f"video {number}" for number in range(200)]
    frames = jittered_frames(np.full(len(ids), t), n, ids, 0)
    bounds = np.arange(n + 1) * t // n
    assert ((frames >= bounds[:-1]) & (frames < bounds[1:])).all()
    assert {(place, frame) for row in frames.tolist() for place, frame in enumerate(row)} >= {
        (place, frame) for place in range(n) for frame in range(bounds[place], bounds[place + 1]) if t <= 29
    }


def test_frames_of_a_segment_are_equally_likely() -> None:
    ids = [str(number) for number in range(6000)]
    frames = jittered_frames(np.full(len(ids), 12), 2, ids, 3)
    for place in range(2):
        counts = np.bincount(frames[:, place] - 6 * place, minlength=6)
        chi_square = ((counts - 1000) ** 2 / 1000).sum()
        assert chi_square < 25.7  # 5 degrees of freedom: 1 in 10,000; the seed is fixed
    together = np.histogram2d(frames[:, 0], frames[:, 1] - 6, bins=6)[0]
    assert ((together - 6000 / 36) ** 2 / (6000 / 36)).sum() < 76.1  # 35 degrees of freedom, 1 in 10,000


def test_the_choice_depends_on_seed_and_id_alone() -> None:
    ids = ["a", "b", "c"]
    whole = jittered_frames(np.array([50, 40, 30]), 5, ids, 0)
    alone = [jittered_frames(np.array([t]), 5, [name], 0)[0] for t, name in zip([50, 40, 30], ids, strict=True)]
    assert whole.tolist() == [row.tolist() for row in alone]
    assert jittered_frames(np.array([50, 40, 30]), 5, ids, 1).tolist() != whole.tolist()


def rows_of(output: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(output / name).to_pylist())


def test_a_job_explains_the_frames_that_it_names(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "a", tmp_path / "b"]
    for output, more in zip(outputs, ([], ["compute.unit=2"]), strict=True):
        assert not run(str(folder / "features"), str(folder / "model"), output, *SETTINGS, *more).quarantined
    pairs = list(zip(*(rows_of(output, "attributions") for output in outputs), strict=True))
    assert all({**one, "esv": None} == {**other, "esv": None} for one, other in pairs)
    assert [one["esv"] for one, _ in pairs] == pytest.approx([other["esv"] for _, other in pairs], abs=1e-6)  # batches
    model = load_model(str(folder / "model"))
    features = {row["video_id"]: np.array(row["features"], np.float32) for row in make_table(LENGTHS).to_pylist()}
    rows, moved = rows_of(outputs[0], "attributions"), False
    for name, own in features.items():
        n = min(4, len(own))
        predicted = [row for row in rows if row["video_id"] == name]
        class_id = predicted[0]["class"]
        esvs = {row["element"]: row for row in predicted if row["class"] == class_id}
        frames = [esvs[element]["frame_index"] for element in range(n)]
        expected = explain(model, own[frames], estimator="exact").esv[:, class_id]
        np.testing.assert_allclose([esvs[element]["esv"] for element in range(n)], expected, atol=1e-6)
        moved |= frames != [int((i + 0.5) * len(own) / n) for i in range(n)]
    assert moved


@pytest.mark.slow
def test_compare_tells_how_stable_esvs_are(folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        settings = [*SETTINGS, f"estimator.seed={seed}"]
        run(str(folder / "features"), str(folder / "model"), tmp_path / name, *settings)
    found = compare(str(tmp_path / "a"), str(tmp_path / "b")).compare.to_pylist()
    cosines = {row["n_elements"]: row["cosine"] for row in found}
    assert cosines[2] == pytest.approx(1)  # all frames of a short video
    assert cosines[4] < 0.9999


def test_uniform_sampling_is_the_job_of_before() -> None:
    """Outputs from before the key have no such key in their run.json, and are resumed."""
    needed = {"features": "f", "model": "m", "output": "o"}
    plain, uniform, jittered = (job_keys(load_spec(needed, more)) for more in ([], ["sampling=uniform"], SETTINGS[1:2]))
    assert "sampling" not in plain
    assert fingerprint(uniform) == fingerprint(plain) != fingerprint(jittered)
