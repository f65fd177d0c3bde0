"""Expected calibration error, against a loop over bins and predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esv_ray.training.calibration import BINS, NO_BINS, binned


def by_loop(probabilities: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for low in range(BINS):
        hits, sure = [], []
        for row, label in zip(probabilities, labels, strict=True):
            if low / BINS < row.max() <= (low + 1) / BINS:
                hits.append(row.argmax() == label)
                sure.append(row.max())
        if hits:
            total += len(hits) / len(labels) * abs(np.mean(hits) - np.mean(sure))
    return total


@pytest.mark.parametrize("seed", range(5))
def test_ece_is_that_of_a_loop_whole_or_in_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 200)), int(rng.integers(2, 9))
    probabilities = torch.from_numpy(rng.dirichlet(np.full(classes, 0.4), n))
    labels = torch.from_numpy(rng.integers(0, classes, n))
    bins = binned(probabilities, labels)
    assert bins.ece == pytest.approx(by_loop(probabilities.numpy(), labels.numpy()), abs=1e-12)
    assert bins.total == n
    assert bins.accuracy == pytest.approx(float((probabilities.argmax(1) == labels).double().mean()))
    parts = sum((binned(probabilities[k::3], labels[k::3]) for k in range(3)), NO_BINS)
    assert parts.count == bins.count
    assert parts.ece == pytest.approx(bins.ece, abs=1e-12)


def test_ends_of_the_range() -> None:
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert binned(sure, torch.tensor([0, 0, 1])).ece == 0
    assert binned(sure, torch.tensor([1, 1, 0])).ece == 1
    assert binned(sure, torch.tensor([0, 1, 1])).count[-1] == 3
    assert np.isnan(NO_BINS.ece)
    assert np.isnan(NO_BINS.accuracy)
