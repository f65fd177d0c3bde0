"""Laws of the training of a head: optima, weights, rates, precision, streaming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from esv_ray.spec_train import TrainSpec
from esv_ray.training.data import read_train_data
from esv_ray.training.fitting import FitTask, FittedHead, fit_head, rate_factor, seed_of
from esv_ray.training.windows import Windows
from tests.support.training import separable


def fitted(table: pa.Table, folder: Path, *, scale: int = 1, fits: bool | None = None, **keys: Any) -> FittedHead:
    """Train one head of a table; `fits` says where its videos are read, in place of their size."""
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(table, path, row_group_size=20)
    spec = TrainSpec(features=str(path), output="none", **{"n_max": scale, "validation": 0.2, "dropout": 0.0, **keys})
    data = read_train_data(spec)
    training, validation = (Windows(rows, spec.shuffle_buffer) for rows in (data.training, data.held))
    if fits is not None:
        training.fits = validation.fits = fits
    weights = None if data.weights is None else torch.tensor(data.weights)
    return fit_head(FitTask(spec, scale, spec.seed, training, validation, data.n_classes, weights))


def bits(head: FittedHead) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in head.head.state_dict().values()]


def noisy(count: int, seed: int = 0) -> pa.Table:
    """Videos of one frame of two overlapping classes."""
    return separable([1] * count, [number % 2 for number in range(count)], noise=2.5, seed=seed)


def frames_of(table: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    features = np.array([row[0] for row in table.column("features").to_pylist()], np.float64)
    return torch.from_numpy(features), torch.tensor(table.column("label").to_pylist())


def test_a_linear_head_reaches_the_optimum_that_newton_finds(tmp_path: Path) -> None:
    """Logistic regression is convex: L-BFGS in float64 gives the least training loss."""
    table = noisy(120)
    held = tmp_path / "held.parquet"
    pq.write_table(noisy(40, seed=1), held)
    folder = tmp_path / "tables"
    folder.mkdir()
    keys: dict[str, Any] = {"hidden_layers": 0, "epochs": 250, "patience": 250, "batch": 120, "learning_rate": 0.1}
    head = fitted(table, folder, validation=str(held), schedule="cosine", weight_decay=0, **keys)
    inputs, labels = frames_of(table)
    weight, bias = (
        torch.zeros((2, 4), dtype=torch.float64, requires_grad=True),
        torch.zeros(2, dtype=torch.float64, requires_grad=True),
    )
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(inputs @ weight.T + bias, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    optimum = float(closure().detach())
    assert head.history[-1].training_loss == pytest.approx(optimum, abs=2e-4)
    assert head.history[0].training_loss > optimum + 0.05


def test_a_weight_of_two_is_that_of_a_video_given_twice(tmp_path: Path) -> None:
    """Whole batches of videos of one frame: nothing is random but the order, which does not change the sum."""
    keys: dict[str, Any] = {"hidden": 8, "epochs": 20, "patience": 20, "batch": 1000, "learning_rate": 0.01}
    held = tmp_path / "held.parquet"
    pq.write_table(noisy(40, seed=1), held)
    folder = tmp_path / "tables"
    folder.mkdir()
    table = noisy(60)
    twice = [row for row in table.to_pylist() if row["label"] == 1]
    again = [{**row, "video_id": f"again-{row['video_id']}"} for row in twice]
    doubled = pa.concat_tables([table, pa.Table.from_pylist(again, schema=table.schema)])
    weighted = fitted(table, folder, validation=str(held), class_weights=[1, 2], **keys)
    repeated = fitted(doubled, folder, validation=str(held), **keys)
    plain = fitted(table, folder, validation=str(held), **keys)
    losses = [[epoch.training_loss for epoch in each.history] for each in (weighted, repeated, plain)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][-1] != pytest.approx(losses[2][-1], abs=1e-3)


def test_balanced_weights_are_inverse_to_the_number_of_videos(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(separable([2] * 60, [0] * 40 + [2] * 20), path)
    spec = TrainSpec(features=str(path), output="none", validation=0.5, n_max=1, n_classes=3, class_weights="balanced")
    assert read_train_data(spec).weights == pytest.approx((30 / (2 * 20), 1.0, 30 / (2 * 10)))


@pytest.mark.parametrize("buffer", [500, 2000])
def test_streaming_gives_the_bits_of_memory(tmp_path: Path, buffer: int) -> None:
    table = separable([2 + number % 4 for number in range(100)])
    keys: dict[str, Any] = {"scale": 2, "hidden": 8, "epochs": 3, "batch": 16, "dropout": 0.2, "shuffle_buffer": buffer}
    kept, streamed = (fitted(table, tmp_path, fits=fits, **keys) for fits in (True, False))
    assert bits(kept) == bits(streamed)
    assert kept.history == streamed.history
    whole = fitted(table, tmp_path, **{**keys, "shuffle_buffer": 10**9})
    assert bits(whole) != bits(kept), "the buffer changes the order"
    assert bits(whole) == bits(fitted(table, tmp_path, fits=False, **{**keys, "shuffle_buffer": 10**9}))


def test_bfloat16_is_close_to_float32(tmp_path: Path) -> None:
    table = separable([3] * 90, noise=1.0)
    keys: dict[str, Any] = {"hidden": 16, "epochs": 8, "batch": 16, "learning_rate": 0.01}
    full, mixed = (fitted(table, tmp_path, precision=name, **keys) for name in ("float32", "bfloat16"))
    assert bits(full) == bits(fitted(table, tmp_path, precision="auto", **keys)), "auto: float32 on a CPU"
    assert bits(full) != bits(mixed)
    assert {weight.dtype for weight in mixed.head.state_dict().values()} == {torch.float32}
    assert mixed.best.validation_loss == pytest.approx(full.best.validation_loss, abs=0.05)


def test_widths_of_the_hidden_layers(tmp_path: Path) -> None:
    head = fitted(separable([2] * 60), tmp_path, hidden=[12, 5], epochs=1).head
    assert [tuple(weight.shape) for weight, _ in head.layers()] == [(12, 4), (5, 12), (3, 5)]


def rates(**keys: Any) -> list[float]:
    """Factors at the ends of ten steps of an epoch each."""
    spec = TrainSpec(features="f", output="o", epochs=10, **keys)
    return [rate_factor(spec, number, number + 1) for number in range(10)]


def test_schedules() -> None:
    assert rates() == [1.0] * 10
    assert rates(schedule="step", step_epochs=4, step_factor=0.5) == [1.0] * 4 + [0.5] * 4 + [0.25] * 2
    cosine = rates(schedule="cosine")
    assert cosine == pytest.approx([(1 + math.cos(math.pi * number / 10)) / 2 for number in range(10)])
    assert rates(warmup=4) == [0.25, 0.5, 0.75] + [1.0] * 7
    both = rates(schedule="cosine", warmup=5)
    assert both[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert both[5:] == pytest.approx([(1 + math.cos(math.pi * number / 5)) / 2 for number in range(5)])
    spec = TrainSpec(features="f", output="o", epochs=1, warmup=1)
    assert rate_factor(spec, 0.0, 0.25) == 0.25, "within an epoch, too"


def test_the_learning_rate_of_each_epoch_is_recorded(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"epochs": 4, "schedule": "step", "step_epochs": 2, "learning_rate": 0.02, "hidden": 4}
    found = [epoch.learning_rate for epoch in fitted(separable([2] * 60), tmp_path, **keys).history]
    assert found == pytest.approx([0.02, 0.02, 0.002, 0.002])


def test_seeds_of_parts_differ() -> None:
    assert len({seed_of(seed, part) for seed in (-1, 0, 1) for part in range(-8, 1010)}) == 3 * 1018
