"""Tables of variations: against `explain` of the varied sequence or model, one video at a time."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.attribution.recompute import recompute
from esv_ray.core.correlation import ranks, spearman
from esv_ray.core.games.model import multiscale_model, variable_length_model
from esv_ray.core.games.randomised import count_layers, randomised
from esv_ray.core.keyed import derive_key, permutation
from esv_ray.errors import ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import verify_output
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run

N, LENGTHS = 4, [17, 9, 4, 2, 12]
TABLES = "tables=[smoothness,order,sanity]"
OFFSETS = (-3, -2, -1, 1, 2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("variations")
    (place / "features").mkdir()
    pq.write_table(make_table(LENGTHS), place / "features" / "part-0.parquet")
    save_heads(str(place / "model"), make_heads(), make_prior(3))
    return place


@pytest.fixture(scope="module", params=["exact", "adjusted"])
def done(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A job of four elements; sampled, the two-element subsequences are half of all."""
    output = folder / request.param
    settings = [f"estimator.kind={request.param}", "estimator.m=3", "estimator.iterations=1"]
    attributed(folder, output, *settings, f"frames={N}", TABLES, "variations.shuffles=3")
    return Path(output)


def attributed(folder: Path, output: Path, *overrides: str) -> None:
    result = run(str(folder / "features"), str(folder / "model"), output, *overrides)
    assert (result.quarantined, result.counts.failed) == ({}, 0)


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(output / name).to_pylist())


def frames_of(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """All frames of each video, the places of its elements, and its label."""
    table = pq.read_table(folder / "features").to_pylist()
    found = {}
    for row in table:
        frames = np.array(row["features"], np.float32)
        n = min(N, len(frames))
        places = np.array([int((i + 0.5) * len(frames) / n) for i in range(n)])
        found[row["video_id"]] = frames, places, row["label"]
    return found


class Explained:
    """ESVs and scores as the job's estimator gives them."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.model = load_model(str(folder / "model"))
        self.settings: dict[str, Any] = {"estimator": output.name, "m": 3, "iterations": 1, "seed": 0}

    def __call__(self, video: str, features: np.ndarray, model: Any = None) -> tuple[np.ndarray, np.ndarray]:
        result = explain(model or self.model, torch.from_numpy(features), video_id=video, **self.settings)
        return np.asarray(result.esv), np.asarray(result.scores)


def share(esv: np.ndarray) -> np.ndarray:
    return np.asarray(esv / np.abs(esv).sum())


@pytest.mark.slow
def test_smoothness(folder: Path, done: Path) -> None:
    explained, expected = Explained(folder, done), {}
    for video, (frames, places, label) in frames_of(folder).items():
        esv, _ = explained(video, frames[places])
        for element in range(len(places)):
            for offset in OFFSETS:
                moved = places.copy()
                moved[element] += offset
                if not 0 <= moved[element] < len(frames) or (np.diff(moved) < 0).any():
                    continue
                now, _ = explained(video, frames[moved])
                change = share(now[:, label])[element] - share(esv[:, label])[element]
                expected[video, len(places), label, element, offset] = change
    found = {tuple(row.values())[:5]: row["change"] for row in rows(done, "smoothness")}
    assert list(found) == sorted(expected, key=lambda key: (key[0], key[3], key[4]))
    assert len(found) > 40
    for key, change in found.items():
        assert change == pytest.approx(expected[key], abs=2e-5)


def test_order(folder: Path, done: Path) -> None:
    explained, found = Explained(folder, done), rows(done, "order")
    assert [row["video_id"] for row in found] == list(frames_of(folder))
    for row in found:
        frames, places, label = frames_of(folder)[row["video_id"]]
        esv, scores = explained(row["video_id"], frames[places])
        esvs, shuffled_scores = [], []
        for turn in range(3):
            order = permutation(derive_key(0, "order", row["video_id"], turn), len(places))
            now, score = explained(row["video_id"], frames[places[order]])
            esvs.append(now[np.argsort(order), label])
            shuffled_scores.append(score[label])
        assert row["class"] == label
        assert row["score"] == pytest.approx(scores[label], abs=1e-6)
        assert row["shuffled_score"] == pytest.approx(np.mean(shuffled_scores), abs=1e-6)
        expected = spearman(esv[None, :, label], np.mean(esvs, axis=0)[None])[0]
        assert row["spearman"] == pytest.approx(expected, abs=1e-6)


def test_sanity(folder: Path, done: Path) -> None:
    explained, found = Explained(folder, done), rows(done, "sanity")
    assert [(row["video_id"], row["layers_randomised"]) for row in found] == [
        (video, layers) for video in frames_of(folder) for layers in (1, 2)
    ]
    for row in found:
        frames, places, label = frames_of(folder)[row["video_id"]]
        esv, _ = explained(row["video_id"], frames[places])
        other = randomised(explained.model, row["layers_randomised"], seed=0)
        now, _ = explained(row["video_id"], frames[places], other)
        assert row["spearman"] == pytest.approx(spearman(esv[None, :, label], now[None, :, label])[0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"), [("order", "a row of each video that is ok"), ("sanity", "layers 1 to 2")]
)
def test_verification_finds_rows_that_are_missing(done: Path, tmp_path: Path, name: str, expected: str) -> None:
    output = Path(shutil.copytree(done, tmp_path / "out"))
    (path,) = (output / name).iterdir()
    pq.write_table(pq.read_table(path).slice(1), path)
    assert any(expected in problem for problem in verify_output(str(output)).problems)


def test_they_are_verified_and_recomputed(done: Path) -> None:
    assert verify_output(str(done)).problems == ()
    assert recompute(str(done), 5).problems == ()


def test_randomised_models_differ_more_and_more() -> None:
    """Layers below the randomised ones stay; idle columns stay idle; the model itself is not changed."""
    for n_classes in (3, 70):
        heads = make_heads(n_classes=n_classes)
        model = multiscale_model(heads, make_prior(n_classes), feature_dim=4)
        before = {name: tensor.clone() for name, tensor in model.scorer.state_dict().items()}
        assert count_layers(model) == 2
        one, two = (randomised(model, layers, seed=0).scorer.state_dict() for layers in (1, 2))
        changed = [
            {name.split(".")[-1] for name in before if not torch.equal(other[name], before[name])}
            for other in (one, two)
        ]
        assert changed == [{"weight_0", "bias_0"}, {"weight_0", "bias_0", "first", "first_bias"}]
        assert all(torch.equal(one[name], two[name]) for name in before if name.endswith("weight_0"))
        for name, tensor in before.items():
            idle = tensor == -torch.inf
            assert torch.equal(two[name] == -torch.inf, idle)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.scorer.state_dict().items())


def test_ranks_of_equal_values_are_their_mean() -> None:
    assert ranks(np.array([[3.0, 1.0, 3.0, 0.0]])).tolist() == [[3.5, 2.0, 3.5, 1.0]]
    rows_a, rows_b = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert spearman(rows_a, rows_b)[0] == pytest.approx(-1)
    assert np.isnan(spearman(rows_a, rows_b)[1])
    assert np.isnan(spearman(np.array([[1.0, np.nan, 3.0]]), rows_b[:1])).all()


class Locked(torch.nn.Module):
    """A module that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.out = threading.Lock(), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(x.mean(1))
        return logits


def test_a_module_that_cannot_be_copied_is_refused_in_one_line() -> None:
    model = variable_length_model(Locked().eval(), make_prior(3), feature_dim=4)
    with pytest.raises(ModelError, match=r"^sanity re-initializes a copy of the model, but its module cannot"):
        randomised(model, 1, seed=0)


def test_moves_onto_frames_that_are_too_large_are_left_out(folder: Path, tmp_path: Path) -> None:
    """The sequence itself is fine, and so are the other moves; found by a review."""
    table = make_table([30] * 3)
    features = table.column("features").to_pylist()
    features[1][4] = [3e38, -3e38, 3e38, 3e38]
    column = pa.array(features, table.schema.field("features").type)
    (tmp_path / "features").mkdir()
    place = table.schema.get_field_index("features")
    pq.write_table(table.set_column(place, table.schema.field(place), column), tmp_path / "features" / "a.parquet")
    save_heads(str(tmp_path / "model"), make_heads(gain=8), make_prior(3))
    attributed(tmp_path, tmp_path / "out", "frames=4", "estimator.kind=exact", "tables=smoothness")
    found = {(row["video_id"], row["element"], row["offset"]) for row in rows(tmp_path / "out", "smoothness")}
    everything = {(f"v{video}", element, offset) for video in range(3) for element in range(4) for offset in OFFSETS}
    assert everything - found == {("v1", 0, 1)}
    assert verify_output(str(tmp_path / "out")).problems == ()
