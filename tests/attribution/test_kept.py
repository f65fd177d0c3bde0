"""The classes whose ESVs are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray.attribution.classes import choose_classes

SCORES = np.array([0.1, 0.4, 0.1, 0.3, 0.1], np.float32)


def chosen(choices: Sequence[int | str], scores: npt.NDArray[np.float32], label: int | None) -> list[int]:
    """The classes kept of a video, which stands between two others."""
    three = np.stack([np.full_like(scores, 1), scores, scores[::-1]])
    labels, labelled = np.array([0, label or 0, 0], np.int32), np.array([True, label is not None, False])
    pairs = choose_classes(choices, three, labels, labelled)
    assert pairs.tolist() == sorted(pairs.tolist())
    return [int(kept) for video, kept in pairs.tolist() if video == 1]


@pytest.mark.parametrize(
    ("choices", "label", "expected"),
    [
        (["label"], 2, [2]),
        (["label"], None, []),
        (["label"], 0, [0]),
        (["predicted"], 2, [1]),
        (["label", "predicted"], 3, [1, 3]),
        (["label", "predicted"], 1, [1]),
        (["predicted", "label"], 0, [0, 1]),
        (["label", "predicted"], None, [1]),
        (["top:1"], None, [1]),
        (["top:2"], None, [1, 3]),
        (["top:3"], None, [0, 1, 3]),
        (["top:4"], None, [0, 1, 2, 3]),
        (["top:5"], None, [0, 1, 2, 3, 4]),
        (["top:99"], None, [0, 1, 2, 3, 4]),
        (["all"], None, [0, 1, 2, 3, 4]),
        (["all", 3, "label"], 2, [0, 1, 2, 3, 4]),
        ([3, "all"], 2, [0, 1, 2, 3, 4]),
        ([4, 0], 2, [0, 4]),
        ([4, 0, 4], None, [0, 4]),
        ([2, "label", "predicted", "top:2"], 2, [1, 2, 3]),
    ],
)
def test_choose_classes(choices: list[int | str], label: int | None, expected: list[int]) -> None:
    assert chosen(choices, SCORES, label) == expected


@pytest.mark.parametrize("scores", [[0.5, 0.5], [0.2, 0.4, 0.4], [0.25] * 4])
def test_of_equal_scores_the_first_is_predicted(scores: list[float]) -> None:
    predicted = [chosen([choice], np.array(scores, np.float32), None) for choice in ("predicted", "top:1")]
    assert predicted == [[scores.index(max(scores))]] * 2


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    k=st.integers(1, 9),
    choices=st.lists(st.sampled_from(["label", "predicted"]), max_size=3),
    label=st.none() | st.just(0),
)
def test_the_best_classes(scores: list[int], k: int, choices: list[str], label: int | None) -> None:
    array: npt.NDArray[np.float32] = np.array(scores, np.float32)
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:k]
    given_label = {label} if label is not None and "label" in choices else set()
    expected = sorted({*best, *given_label, *([best[0]] if "predicted" in choices else [])})
    assert chosen([*choices, f"top:{k}"], array, label) == expected
