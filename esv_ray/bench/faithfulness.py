"""Faithfulness of ESVs and of other methods: which elements they rank first, and what the score does without these.

python -m esv_ray.bench.faithfulness
python -m esv_ray.bench.faithfulness --train jobs/demo/train.parquet --test jobs/demo/test.parquet

The first command makes two sets of videos whose class is decided by an event in known frames (`made_up`): `event`,
which every method finds, and `order`, which is harder. Any table that has the columns key_start and key_end is
measured likewise. Heads are trained with the code of `esv train`; every method explains the score of the label.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from esv_ray.bench.made_up import KeyEvents, World, write_made_up
from esv_ray.bench.measured import Measured, differences_table, intervals_table, means_table
from esv_ray.core.attribution import Attribution, Extras
from esv_ray.core.discards import FIXED_ORDERS, by_contribution, fixed_order, kept_after, random_orders
from esv_ray.core.engine import Engine
from esv_ray.core.exact.values import values_at
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, derive_key
from esv_ray.core.methods.attribution import attribute_method
from esv_ray.core.methods.score import score_function
from esv_ray.errors import DataError, EsvError
from esv_ray.estimator import Estimator, Method
from esv_ray.input.features import Video
from esv_ray.input.frames import sample_frames
from esv_ray.input.videos import read_videos
from esv_ray.machine import spare_memory
from esv_ray.models.bundle import load_model
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

METHODS: tuple[str, ...] = ("esv", *get_args(Method))
ORDERS: tuple[str, ...] = (*FIXED_ORDERS, "random")
"""Orders that need no attribution: the paper's baselines."""
_SHARES = (1, 5, 10, 20, 50)  # % of the elements (DeYoung et al. 2020)
_MAX_ELEMENTS = 16
WORLDS: dict[KeyEvents, tuple[World, int]] = {
    "event": (World(feature_dim=32, n_classes=6, events=8), 200),
    "order": (World(feature_dim=32, n_classes=6, events=6), 1000),
}
"""Made-up data sets, and their videos per class to train on."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Labeled videos of n elements each.

    Attributes:
        ids: B names.
        features: (B, n, D).
        labels: (B,) int64.
        key: (B, n) whether an element is one of the deciding frames; None: unknown.
    """

    ids: list[str]
    features: torch.Tensor
    labels: torch.Tensor
    key: BoolArray | None

    def take(self, rows: list[int]) -> Cases:
        """Return some of the videos."""
        key = None if self.key is None else self.key[rows]
        return Cases([self.ids[row] for row in rows], self.features[rows], self.labels[rows], key)


def read_cases(url: str, model: VideoModel, n: int, count: int) -> tuple[Cases, torch.Tensor]:
    """Read the first labeled videos of at least n frames, n evenly spaced elements of each, and the mean element.

    Raises:
        DataError: there is none, or a video lacks key_start or key_end in a table that has them.
    """
    videos, _ = read_videos(url)
    mean = torch.from_numpy(np.concatenate([video.features for video in videos]).mean(axis=0, dtype=np.float64))
    chosen = [video for video in videos if video.label is not None and len(video.features) >= n][:count]
    if not chosen:
        raise DataError(f"{url}: expected labeled videos of at least {n} frames, found none; take fewer elements")
    frames = sample_frames(np.array([len(video.features) for video in chosen]), n)  # (B, n)
    elements = np.stack([video.features[at] for video, at in zip(chosen, frames, strict=True)])
    features = torch.from_numpy(elements).to(model.device, model.dtype)
    labels = torch.tensor([video.label for video in chosen])
    key = _deciding(url, chosen, frames)
    return Cases([video.video_id for video in chosen], features, labels, key), mean.to(features)


def _deciding(url: str, videos: Sequence[Video], frames: Int64Array) -> BoolArray | None:
    """Return which sampled frames are deciding ones, (B, n); None: the table does not say."""
    if not {"key_start", "key_end"} <= set(pq.read_schema(url).names):
        return None
    table = pq.read_table(url, columns=["video_id", "key_start", "key_end"]).to_pylist()
    known = {row["video_id"]: (row["key_start"], row["key_end"]) for row in table}
    try:
        bounds = np.array([known[video.video_id] for video in videos], dtype=np.int64)
    except (KeyError, TypeError) as error:
        raise DataError(f"{url}: expected whole numbers in key_start and key_end for every video") from error
    numbers = np.stack([video.frame_index[at] for video, at in zip(videos, frames, strict=True)])
    return np.asarray((numbers >= bounds[:, :1]) & (numbers <= bounds[:, 1:]))


def measure(model: VideoModel, cases: Cases, mean: torch.Tensor, *, steps: int, seed: int) -> dict[str, Measured]:
    """Measure every method on each video, and the deletion area of the orders that are none.

    Args:
        model: the model.
        cases: videos of n elements, few enough that exact ESVs fit in memory.
        mean: (D,) baseline element of integrated gradients.
        steps: of integrated gradients.
        seed: of `random`.
    """
    n, rows = cases.features.shape[1], dict[str, list[FloatArray]]()
    engine = Engine(
        model, Estimator("exact", seed=seed), memory_budget=spare_memory(model.device), extras=Extras(values=True)
    )
    seconds, ids = dict.fromkeys(METHODS, 0.0), list[str]()
    batches = engine.attributions([n] * len(cases.ids), cases.ids, lambda some: cases.features[some])
    started = time.perf_counter()
    for indices, result in batches:
        seconds["esv"] += time.perf_counter() - started
        part = cases.take(indices)
        ids += part.ids
        values = {"esv": result.esv.take_along_dim(part.labels.to(result.esv.device)[:, None, None], dim=2)[..., 0]}
        for method in get_args(Method):
            started = time.perf_counter()
            values[method] = _values(engine, method, part, mean, steps)
            seconds[method] += time.perf_counter() - started
        for name, measures in _measures(engine, part, result, values).items():
            rows.setdefault(name, []).append(measures)
        started = time.perf_counter()
    return {
        name: Measured(ids, np.concatenate(parts), seconds.get(name, np.nan) / len(ids) * 1e3)
        for name, parts in rows.items()
    }


def _values(engine: Engine, method: Method, cases: Cases, mean: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the values (B, n) of a method for the labels."""
    function = score_function(engine.model, engine.estimator, cases.features.shape[1])
    result = attribute_method(
        method, function, cases.features, cases.labels[:, None], video_ids=cases.ids, baseline=mean, steps=steps
    )
    return result.values[:, :, 0]


def _measures(
    engine: Engine, cases: Cases, result: Attribution, values: Mapping[str, torch.Tensor]
) -> dict[str, FloatArray]:
    """Return the measures of each method's values (B, n), and of the other orders, as in `Measured`: (B, 5)."""
    batch, n, _ = cases.features.shape
    empty, labels = engine.model.empty_value("probability").to(result.esv), cases.labels[:, None, None]

    def curve(orders: Int64Array) -> FloatArray:
        """Return the label's score (B, n + 1) while elements are taken away in an order (B, n)."""
        assert result.values is not None, "the engine returns what is asked for"
        kept = torch.from_numpy(kept_after(orders)).to(result.esv.device)
        scores = values_at(result.values, empty, kept).cpu()  # (B, n + 1, C)
        return np.asarray(scores.take_along_dim(labels, dim=2)[..., 0].double())

    out = {name: _of_contributions(own.double().cpu().numpy(), cases.key, curve) for name, own in values.items()}
    keys = [derive_key(engine.estimator.seed, "discards", name) for name in cases.ids]
    for order in ORDERS:
        taken = random_orders(keys, n) if order == "random" else np.tile(fixed_order(order, n), (batch, 1))
        out[f"{order} order"] = np.full((batch, 5), np.nan)
        out[f"{order} order"][:, 1] = _area(curve(taken))
    return out


def _of_contributions(
    contributions: FloatArray, key: BoolArray | None, curve: Callable[[Int64Array], FloatArray]
) -> FloatArray:
    """Return the measures of contributions (B, n), in the order of `Measured`: (B, 5)."""
    batch, n = contributions.shape
    without = curve(by_contribution(contributions, descending=True))  # (B, n + 1)
    alone = curve(by_contribution(contributions, descending=False))[:, ::-1]
    counts = [-(-share * n // 100) for share in _SHARES]
    whole = without[:, :1]
    auc = np.full(batch, np.nan) if key is None else key_auc(contributions, key)
    comprehensiveness, sufficiency = ((whole - part[:, counts]).mean(axis=1) for part in (without, alone))
    return np.stack([auc, _area(without), _area(alone), comprehensiveness, sufficiency], axis=1)


def key_auc(contributions: FloatArray, key: BoolArray) -> FloatArray:
    """Return the share of pairs of a deciding and another element that are ranked right, (B,); of ties one half.

    Args:
        contributions: (B, n).
        key: (B, n) whether an element is a deciding one. NaN where all elements are, or none.
    """
    higher = np.sign(contributions[:, :, None] - contributions[:, None]) / 2 + 0.5  # (B, n, n)
    pairs = key[:, :, None] & ~key[:, None]
    count = pairs.sum(axis=(1, 2))
    return np.asarray(np.where(count > 0, (higher * pairs).sum(axis=(1, 2)) / np.maximum(count, 1), np.nan))


def _area(curve: FloatArray) -> FloatArray:
    """Return the area under each curve (B, n + 1) over the share of elements, by trapezoids."""
    return np.asarray((curve.sum(axis=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1))


def main() -> None:
    """Train a model, measure all methods on it, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.faithfulness", description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="feature table to train on, and --test another one (default: made-up videos)")
    parser.add_argument("--test", help="feature table to measure on")
    parser.add_argument("--made-up", choices=("event", "order", "both"), default="both", help="set (default: both)")
    parser.add_argument(
        "--elements", type=int, default=12, help=f"elements per video, 2 to {_MAX_ELEMENTS} (default: 12)"
    )
    parser.add_argument("--videos", type=int, default=100, help="most videos to measure (default: 100)")
    parser.add_argument("--n-max", type=int, default=4, help="longest head (default: 4)")
    parser.add_argument("--epochs", type=int, default=40, help="most epochs of the training (default: 40)")
    parser.add_argument("--steps", type=int, default=50, help="steps of integrated gradients (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of random (default: 0)")
    options = parser.parse_args()
    if (options.train is None) != (options.test is None):
        parser.error("expected both --train and --test, or none of them")
    if not 2 <= options.elements <= _MAX_ELEMENTS or min(options.videos, options.n_max, options.steps) < 1:
        parser.error(f"expected 2 to {_MAX_ELEMENTS} elements, and numbers of 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        try:
            for line in _run(options, Path(folder)):
                print(line, flush=True)
        except EsvError as error:
            parser.exit(2, f"error: {error}\n")


def _run(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines that are printed."""
    if options.train is not None:
        yield from _of_tables(options, options.train, options.test, folder)
        return
    kinds: list[KeyEvents] = ["event", "order"] if options.made_up == "both" else [options.made_up]
    for kind in kinds:
        world, per_class = WORLDS[kind]
        train_table, test_table = (folder / f"{kind}-{name}.parquet" for name in ("train", "test"))
        write_made_up(train_table, world, per_class * world.n_classes, seed=1, key_events=kind)
        write_made_up(test_table, world, options.videos, seed=2, key_events=kind)
        yield f"made-up videos: {kind}"
        yield from _of_tables(options, str(train_table), str(test_table), folder / kind)
        yield ""


def _of_tables(options: argparse.Namespace, train_table: str, test_table: str, folder: Path) -> Iterator[str]:
    """Yield the lines about one pair of tables."""
    keys = {"features": train_table, "output": str(folder / "model"), "n_max": options.n_max, "seed": options.seed}
    result = train(load_train_spec({**keys, "epochs": options.epochs}))
    model = load_model(result.output)
    cases, mean = read_cases(test_table, model, options.elements, options.videos)
    measured = measure(model, cases, mean, steps=options.steps, seed=options.seed)
    yield (
        f"{len(cases.ids)} videos of {options.elements} elements; heads up to {options.n_max}, accuracy of F on "
        f"held-out videos {result.accuracy_f:.2f}"
    )
    for lines in (means_table(measured), intervals_table(measured), differences_table(measured, "esv")):
        yield from lines


if __name__ == "__main__":
    main()
