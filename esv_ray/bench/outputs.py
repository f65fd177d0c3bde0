"""Synthetic outputs of jobs, of any size: for measurements and tests of what reads outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.input.files import InputFile
from esv_ray.input.units import RowRange, Unit
from esv_ray.output.computed import ORDERS, Computed, Discarded, InputRows, Replaced, replaced_places
from esv_ray.output.finish import finish_job
from esv_ray.output.layout import table_url, videos_url
from esv_ray.output.manifest import Manifest, commit_manifest
from esv_ray.output.origin import origin_for
from esv_ray.output.results import UnitTables, unit_tables
from esv_ray.output.unit_files import unit_files
from esv_ray.spec import fingerprint, job_keys, load_spec

ROWS = 1024
"""Videos per unit."""
_DOING = "write a synthetic output"
_BENDS = {"descending": 3.0, "ascending": 0.4}  # of the curves: a score falls first, or last


@dataclass(frozen=True)
class Shape:
    """Sizes of a synthetic output: the defaults are those of Something-Something V2's validation set.

    Attributes:
        videos: number of videos.
        elements: of each sequence, n.
        n_classes: C.
        accuracy: share of videos whose predicted class is the label.
        sampled: whether ESVs have standard errors.
        tables: further tables to write (`tables` of a spec).
        rows: videos per unit.
    """

    videos: int = 24_777
    elements: int = 16
    n_classes: int = 174
    accuracy: float = 0.5
    sampled: bool = True
    tables: Sequence[str] = ()
    rows: int = ROWS


class _Videos(NamedTuple):
    """B videos: their classes, and the score of the label (B,)."""

    label: npt.NDArray[np.int32]
    predicted: npt.NDArray[np.int32]
    own: npt.NDArray[np.float32]


def write_output(
    output: str,
    shape: Shape,
    *,
    seed: int = 0,
    tables_of: Callable[[Shape, Unit, np.random.Generator], UnitTables] | None = None,
) -> None:
    """Write a finished output with random ESVs, whose sums are score minus prior; without a job.

    Args:
        output: location.
        shape: sizes.
        seed: of all numbers.
        tables_of: makes the tables of a unit; None: as above.

    Raises:
        DataError: it cannot be written.
    """
    manifest = _manifest(output, shape)
    commit_manifest(output, manifest)
    rng = np.random.default_rng(seed)
    for unit in manifest.units:
        files = unit_files((tables_of or _tables)(shape, unit, rng), unit.rows, origin_for(unit, manifest.job))
        for folder, data in files.tables.items():
            storage.commit_new(table_url(output, folder, unit), data, _DOING)
        storage.commit_new(videos_url(output, unit), files.videos, _DOING)
    finish_job(output, manifest, [unit.name for unit in manifest.units])


def _manifest(output: str, shape: Shape) -> Manifest:
    file = InputFile("memory://features/part-0.parquet", 1, "version", "footer")
    units = tuple(
        Unit(index, (RowRange(file, index, 0, min(shape.rows, shape.videos - start), start),))
        for index, start in enumerate(range(0, shape.videos, shape.rows))
    )
    spec = load_spec(
        {
            "features": "memory://features",
            "model": "memory://model",
            "output": output,
            "frames": shape.elements,
            "tables": list(shape.tables),
            "estimator": {"kind": "adjusted" if shape.sampled else "exact"},
        }
    )
    keys = {**job_keys(spec), "model": "digest"}
    model = {
        "digest": "digest",
        "feature_dim": 256,
        "n_classes": shape.n_classes,
        "n_max": 8,
        "prior": [1 / shape.n_classes] * shape.n_classes,
        "classes": [f"{index}: moving [something] away from [something]" for index in range(shape.n_classes)],
    }
    return Manifest(spec.model_dump(mode="json"), keys, fingerprint(keys), {}, model, (file,), units)


def _tables(shape: Shape, unit: Unit, rng: np.random.Generator) -> UnitTables:
    count, n = unit.rows, shape.elements
    label = rng.integers(0, shape.n_classes, count).astype(np.int32)
    right = rng.random(count) < shape.accuracy
    predicted = np.where(right, label, (label + rng.integers(1, min(9, shape.n_classes), count)) % shape.n_classes)
    scores = rng.gamma(0.2, 1.0, (count, shape.n_classes)).astype(np.float32)
    scores[np.arange(count), predicted] = scores.max(axis=1) * 1.5 + 0.1
    scores /= scores.sum(axis=1, keepdims=True)
    pairs = np.stack([np.repeat(np.arange(count), 2), np.stack([label, predicted], axis=1).ravel()], axis=1)
    pairs = np.unique(pairs, axis=0).astype(np.int64)  # label and predicted class, once if they are equal
    esv = 0.05 * rng.standard_normal((len(pairs), n))
    due = scores[pairs[:, 0], pairs[:, 1]] - 1 / shape.n_classes
    esv += (due - esv.sum(axis=1))[:, None] / n
    videos = _Videos(label, predicted, scores[np.arange(count), label])
    computed = Computed(
        rows=np.arange(count),
        scores=scores,
        gaps=np.full(count, 1e-6, np.float32),
        frame_index=np.tile(np.arange(n, dtype=np.int32), (count, 1)),
        pairs=pairs,
        esv=esv.astype(np.float32),
        stderr=_errors(rng, esv.shape) if shape.sampled else None,
        difference_stderr=_errors(rng, (count, n)) if shape.sampled else None,
        differs=~right,
        exact=not shape.sampled,
        evaluations=2 ** min(n, 40) - 1,
        iterations=1 if shape.sampled else 0,
        met=None,
        marginals=_marginals(rng, esv) if "marginals" in shape.tables else None,
        interactions=_interactions(rng, len(pairs), n) if "interactions" in shape.tables else None,
        discarded=_discarded(rng, videos, n, shape.n_classes) if "discards" in shape.tables else None,
        replaced=_replaced(rng, videos, n, shape.n_classes) if "replacements" in shape.tables else None,
    )
    ids = [f"video-{unit.ranges[0].first_row + row:08d}" for row in range(count)]
    inputs = InputRows(ids, label, np.ones(count, bool), np.full(count, 2 * n, np.int32))
    return unit_tables(inputs, [computed], [], shape.tables)


def _errors(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return (0.001 * rng.gamma(4, 0.25, shape)).astype(np.float32)


def _marginals(rng: np.random.Generator, esv: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return (M, n, n) by scale and element, whose means over scales are the ESVs."""
    pairs, n = esv.shape
    values = 0.1 * rng.standard_normal((pairs, n, n))
    values += (esv - values.mean(axis=1))[:, None]
    return values.astype(np.float32)


def _interactions(rng: np.random.Generator, pairs: int, n: int) -> npt.NDArray[np.float32]:
    return 0.02 * rng.standard_normal((pairs, n * (n - 1) // 2), np.float32)


def _discarded(rng: np.random.Generator, videos: _Videos, n: int, n_classes: int) -> Discarded:
    """Return scores of random curves from each video's own score to the prior, of every order by ESV."""
    left = np.linspace(1.0, 0.0, n + 1)
    scores, predicted = _curves(rng, videos, np.stack([left ** _BENDS.get(order, 1.0) for order in ORDERS]), n_classes)
    scores[..., -1] = 1 / n_classes
    predicted[..., -1] = 0  # of equal scores the first
    best = np.maximum.accumulate(scores.max(axis=1)[:, ::-1], axis=1)[:, ::-1]
    best[:, 0], best[:, -1] = videos.own, 1 / n_classes
    return Discarded(videos.label.astype(np.int64), [0] * len(ORDERS), range(len(ORDERS)), scores, predicted, best)


def _replaced(rng: np.random.Generator, videos: _Videos, n: int, n_classes: int) -> Replaced:
    """Return scores of random curves from each video's own score, of three orders by ESV."""
    orders = ("descending", "ascending", "random")
    places = replaced_places([("esv", order) for order in orders], n)
    bends = np.array([_BENDS.get(ORDERS[order], 1.0) for order in places["order"]])
    scores, predicted = _curves(rng, videos, (1 - places["discarded"] / n) ** bends, n_classes)
    everything = places["discarded"] == n  # by the mean element: the same sequence in all orders
    scores[:, everything], predicted[:, everything] = scores[:, everything][:, :1], predicted[:, everything][:, :1]
    return Replaced(videos.label.astype(np.int64), places, scores, predicted)


def _curves(
    rng: np.random.Generator, videos: _Videos, left: npt.NDArray[np.float64], n_classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return scores between each video's own and the prior, and predicted classes.

    Args:
        rng: source of the noise.
        videos: B videos.
        left: (...) share of the way from the prior to the video's own score; 1: all elements are there.
        n_classes: C.

    Returns:
        Scores (B, ...), and predicted classes (B, ...), which are the label or class 0.
    """
    own, prior = videos.own.reshape(-1, *(1,) * left.ndim), 1 / n_classes
    noise = 0.1 * rng.standard_normal((len(own), *left.shape)) * left * (1 - left)
    scores = np.clip(prior + (own - prior) * left + noise, 0, 1).astype(np.float32)
    label, predicted = (each.astype(np.int64).reshape(own.shape) for each in (videos.label, videos.predicted))
    stays, whole = rng.random(scores.shape) < left, left == 1
    scores = np.where(whole, videos.own.reshape(own.shape), scores)
    return scores, np.where(whole, predicted, np.where(stays, label, 0))
