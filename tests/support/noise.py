"""Outputs in which nothing depends on anything: random labels, predictions, ESVs and scores."""

from __future__ import annotations

import numpy as np

from esv_ray.bench.outputs import Shape
from esv_ray.input.units import Unit
from esv_ray.output.computed import ORDERS, Computed, Discarded, InputRows, Replaced, replaced_places
from esv_ray.output.results import UnitTables, unit_tables
from tests.support.units import only

TABLES = ("marginals", "interactions", "discards", "replacements")


def noise(shape: Shape, unit: Unit, rng: np.random.Generator) -> UnitTables:
    """The tables of a unit, for `write_output`; `shape.tables` are `TABLES`, and there are 9 elements or fewer.

    Every element is needed for 90 % of the score, as by chance.
    """
    count, n, classes = unit.rows, shape.elements, shape.n_classes
    label, predicted = rng.integers(0, classes, (2, count)).astype(np.int32)
    pairs = np.stack([np.repeat(np.arange(count), 2), np.stack([label, predicted], axis=1).ravel()], axis=1)
    pairs = np.unique(pairs, axis=0).astype(np.int64)
    whole = rng.uniform(0.5, 1.0, count).astype(np.float32)
    scores = np.full((count, classes), 0.01, np.float32)
    scores[np.arange(count), predicted] = whole
    orders = ("descending", "ascending", "random")
    places = replaced_places([("esv", order) for order in orders], n)
    kept = rng.random((count, len(ORDERS), n + 1), np.float32)
    kept[..., 0], kept[..., -1] = whole[:, None], 1 / classes
    best = np.zeros((count, n + 1), np.float32)
    best[:, 0], best[:, -1] = whole, 1 / classes
    computed = Computed(
        rows=np.arange(count),
        scores=scores,
        gaps=np.full(count, 1e-6, np.float32),
        frame_index=np.tile(np.arange(n, dtype=np.int32), (count, 1)),
        pairs=pairs,
        esv=(rng.gamma(1.0, 0.1, (len(pairs), 1)) * rng.standard_normal((len(pairs), n))).astype(np.float32),
        stderr=None,
        difference_stderr=None,
        differs=label != predicted,
        exact=True,
        evaluations=2**n - 1,
        iterations=0,
        met=None,
        marginals=(0.1 * rng.standard_normal((len(pairs), n, n))).astype(np.float32),
        interactions=(0.1 * rng.standard_normal((len(pairs), n * (n - 1) // 2))).astype(np.float32),
        discarded=Discarded(
            label.astype(np.int64), [0] * len(ORDERS), range(len(ORDERS)), kept,
            rng.integers(0, classes, kept.shape), best,
        ),
        replaced=Replaced(
            label.astype(np.int64), places, rng.random((count, len(places["discarded"])), np.float32),
            rng.integers(0, classes, (count, len(places["discarded"]))),
        ),
    )  # fmt: skip
    ids = [f"video-{only(unit).first_row + row}-{rng.integers(2**60)}" for row in range(count)]
    inputs = InputRows(ids, label, np.ones(count, bool), np.full(count, 2 * n, np.int32))
    return unit_tables(inputs, [computed], [], shape.tables)
