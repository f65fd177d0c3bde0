"""What is computed of the rows of a unit: by columns, before it becomes tables (`results`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

METHODS = ("esv", "integrated_gradients", "grad_cam", "occlusion", "random")
"""Methods of attribution, by their numbers in `Block`s."""
ORDERS = ("descending", "ascending", "center", "edges", "uniform", "random")
"""Orders in which elements are taken away, likewise."""
REPLACED_BY = ("neighbor", "mean")
"""What takes the place of elements that are taken away, likewise."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InputRows:
    """The input rows of a unit, by columns.

    Attributes:
        ids: ids of the rows.
        labels: (rows,) int32.
        labelled: (rows,) whether there is a label.
        n_frames: (rows,) int32.
    """

    ids: Sequence[str]
    labels: npt.NDArray[np.int32]
    labelled: npt.NDArray[np.bool_]
    n_frames: npt.NDArray[np.int32]


class Discarded(NamedTuple):
    """Scores of B videos while elements are taken away: K methods and orders, and 0 to n elements.

    Attributes:
        classes: (B,) class id: the label, or the predicted class of a video without one.
        methods: (K,) place in `METHODS`.
        orders: (K,) place in `ORDERS`.
        scores: (B, K, n + 1) probability of the class.
        predicted: (B, K, n + 1) class of the largest score.
        best: (B, n + 1) largest probability of the class over all subsequences of as many elements; NaN if unknown.
    """

    classes: npt.NDArray[np.int64]
    methods: Sequence[int]
    orders: Sequence[int]
    scores: Float32Array
    predicted: npt.NDArray[np.int64]
    best: Float32Array

    def take(self, videos: npt.NDArray[np.int64]) -> Discarded:
        """Return the scores of some of the videos."""
        return Discarded(
            self.classes[videos],
            self.methods,
            self.orders,
            self.scores[videos],
            self.predicted[videos],
            self.best[videos],
        )


class Replaced(NamedTuple):
    """Scores of B videos while elements are replaced: P rows per video.

    Attributes:
        classes: (B,) class id: the label, or the predicted class of a video without one.
        places: by column, (P,): `method`, `order` and `replaced_by` by their numbers, and `discarded`.
        scores: (B, P) probability of the class.
        predicted: (B, P) class of the largest score.
    """

    classes: npt.NDArray[np.int64]
    places: Mapping[str, npt.NDArray[np.int64]]
    scores: Float32Array
    predicted: npt.NDArray[np.int64]

    def take(self, videos: npt.NDArray[np.int64]) -> Replaced:
        """Return the scores of some of the videos."""
        return Replaced(self.classes[videos], self.places, self.scores[videos], self.predicted[videos])


def replaced_places(curves: Sequence[tuple[str, str]], n: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the places of `Replaced`: of each curve, 0 to n - 1 elements replaced by neighbors, 0 to n by the mean.

    Args:
        curves: method and order of each.
        n: number of elements.
    """
    counts = [n, n + 1]  # without any element left there is no neighbor
    assert len(counts) == len(REPLACED_BY), "one count for each"
    return {
        "method": np.repeat([METHODS.index(method) for method, _ in curves], sum(counts)),
        "order": np.repeat([ORDERS.index(order) for _, order in curves], sum(counts)),
        "replaced_by": np.tile(np.repeat(np.arange(len(counts)), counts), len(curves)),
        "discarded": np.tile(np.concatenate([np.arange(count) for count in counts]), len(curves)),
    }


class MethodValues(NamedTuple):
    """Values of the elements by another method than ESVs.

    Attributes:
        values: (M, n) for the kept pairs of a video and a class.
        delta: (M,) error of the integration of integrated gradients; None for other methods.
    """

    values: Float32Array
    delta: Float32Array | None

    def take(self, pairs: npt.NDArray[np.int64]) -> MethodValues:
        """Return the values of some of the pairs."""
        return MethodValues(self.values[pairs], None if self.delta is None else self.delta[pairs])


@dataclass(frozen=True, eq=False)
class Varied:
    """Rows of a table of variations.

    Attributes:
        videos: (K,) place of a video in the batch.
        keys: by column, (K,) numbers that the rows of a video are sorted by.
        values: by column, (K,); NaN becomes null.
    """

    videos: npt.NDArray[np.int64]
    keys: Mapping[str, npt.NDArray[np.int64]]
    values: Mapping[str, Float32Array]

    def take(self, videos: npt.NDArray[np.int64]) -> Varied:
        """Return the rows of some of the videos (ascending), whose places are then those among them."""
        rows = np.flatnonzero(np.isin(self.videos, videos))
        return Varied(
            np.searchsorted(videos, self.videos[rows]),
            {name: column[rows] for name, column in self.keys.items()},
            {name: column[rows] for name, column in self.values.items()},
        )


@dataclass(frozen=True, eq=False)
class Computed:
    """The ESVs of B videos at one length n: M pairs of a video and a kept class.

    Attributes:
        rows: (B,) input rows.
        scores: (B, C) class probabilities of the full sequences.
        gaps: (B,) efficiency gaps: largest over all classes of |sum of ESVs - (scores - prior)|.
        frame_index: (B, n) int32.
        pairs: (M, 2) index of the video and class id; sorted.
        esv: (M, n).
        stderr: (M, n), or None.
        difference_stderr: (B, n) standard errors of the ESVs of the label minus those of the predicted class, or None.
        differs: (B,) whether there is a label, and it is not the predicted class.
        exact: whether every subsequence was evaluated.
        evaluations: head evaluations per video.
        iterations: iterations of the sampling; 0 if exact.
        met: (B,) bool, whether the estimator's tolerance was met; None without a tolerance.
        marginals: (M, n, n) by scale and element, NaN where the scale says nothing; None if not asked for.
        interactions: (M, n (n - 1) / 2) of the pairs i < j in the order of `numpy.triu_indices`; None if not asked for.
        discarded: scores while elements are taken away; None if not asked for.
        replaced: scores while elements are replaced; None if not asked for.
        varied: rows of the tables of variations that are asked for, by their folders.
        others: values by other methods, by their names.
    """

    rows: npt.NDArray[np.int64]
    scores: Float32Array
    gaps: Float32Array
    frame_index: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.int64]
    esv: Float32Array
    stderr: Float32Array | None
    difference_stderr: Float32Array | None
    differs: npt.NDArray[np.bool_]
    exact: bool
    evaluations: int
    iterations: int
    met: npt.NDArray[np.bool_] | None
    marginals: Float32Array | None = None
    interactions: Float32Array | None = None
    discarded: Discarded | None = None
    replaced: Replaced | None = None
    varied: Mapping[str, Varied] = field(default_factory=dict)
    others: Mapping[str, MethodValues] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of elements."""
        return int(self.frame_index.shape[1])


@dataclass(frozen=True)
class Missing:
    """An input row without ESVs at a length, and the reason."""

    row: int
    n_elements: int
    status: Literal["skipped", "failed"]
    reason: str
