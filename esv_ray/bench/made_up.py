"""Synthetic videos at the paper's dimensions, whose class is the order of two events: to train a model for figures.

python -m esv_ray.bench.made_up made-up/
esv train --features made-up/train.parquet --output made-up/model --set n_max=8 --set epochs=25
esv convergence --features made-up/test.parquet --model made-up/model -n 16

With --key-events the class is decided by a short event in known frames, which the columns key_start and key_end of the
tables number (both are part of the event; jobs ignore them): `esv_ray.bench.faithfulness` uses them. --key-events order
makes it harder to find. --pictures shows the frames, for `esv report --media made-up/frames`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.bench.pictures import write_pictures
from esv_ray.errors import SpecError


@dataclass(frozen=True)
class World:
    """Parameters shared by the videos of one data set.

    Attributes:
        feature_dim: D.
        n_classes: C; class c is one ordered pair of events, of which the first fades into the second.
        events: number of kinds of events; the number of their ordered pairs limits the classes.
        frames: smallest number of frames, and one more than the largest.
    """

    feature_dim: int = 256
    n_classes: int = 174
    events: int = 24
    frames: tuple[int, int] = (16, 40)


Row = tuple[str, int, npt.NDArray[np.float16]]
KeyRow = tuple[str, int, npt.NDArray[np.float16], int, int]

_KEY_SHARE = (0.15, 0.3)  # of the frames of a video, in the deciding event; at least two frames
# Of `order_videos`: events whose order decides, shares of the frames in them and in the distraction, and strengths.
_IN_ORDER, _ORDER_SHARE, _OTHER_SHARE, _STRENGTHS = 3, (0.4, 0.55), (0.2, 0.3), (0.5, 1.5)


def made_up_videos(world: World, count: int, *, seed: int) -> Iterator[Row]:
    """Yield videos (video_id, label, (T, D) features): one event fades into another, a third distracts; noise."""
    shared = np.random.default_rng(1)
    looks = shared.standard_normal((world.events, world.feature_dim)).astype(np.float32)
    pairs = [(a, b) for a in range(world.events) for b in range(world.events) if a != b]
    classes = shared.permutation(pairs)[: world.n_classes]
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = index % world.n_classes
        before, after = looks[classes[label]]
        t = int(rng.integers(*world.frames))
        place = (np.arange(t)[:, None] + 0.5) / t
        turned = 1 / (1 + np.exp(-(place - rng.uniform(0.1, 0.9, 2).mean()) / 0.08))
        distraction = 0.8 * np.exp(-(((place - rng.uniform()) / 0.1) ** 2)) * looks[rng.integers(world.events)]
        shown = (1 - turned) * before + turned * after + distraction
        shown *= 0.8 * rng.gamma(4, 0.25, size=(t, 1))
        noise = 0.5 * rng.standard_normal((1, world.feature_dim)) + rng.standard_normal((t, world.feature_dim))
        yield f"made-{seed}-{index:05d}", label, np.maximum(0.6 * (shown + noise), 0).astype(np.float16)


def key_event_videos(world: World, count: int, *, seed: int) -> Iterator[KeyRow]:
    """Yield videos (video_id, label, (T, D) features, first and last deciding frame).

    Class c is one ordered pair of events, as in `made_up_videos`, but they take place in the deciding frames alone: in
    half of them the first event, in the others the second one. All other frames show a scene that every class shares,
    and two distractions, which are events of no class and as strong and long.
    """
    shared = np.random.default_rng(1)
    looks, others = shared.standard_normal((2, world.events, world.feature_dim)).astype(np.float32)
    pairs = [(a, b) for a in range(world.events) for b in range(world.events) if a != b]
    classes = shared.permutation(pairs)[: world.n_classes]
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = index % world.n_classes
        t = int(rng.integers(*world.frames))
        lengths = np.maximum(2, (rng.uniform(*_KEY_SHARE, 3) * t).astype(int))
        gaps = np.sort(rng.integers(0, t - lengths.sum() + 1, 3))  # frames of the scene before each event
        order = rng.permutation(3)  # place of the deciding event among the three
        starts = np.empty(3, dtype=int)
        starts[order] = gaps + np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
        shown = np.zeros((t, world.feature_dim), dtype=np.float32)
        for event, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            two = looks[classes[label]] if event == 0 else others[rng.permutation(world.events)[:2]]
            shown[start : start + length] = two[(2 * np.arange(length) >= length).astype(int)]
        noise = 0.2 * rng.standard_normal((1, world.feature_dim)) + 0.3 * rng.standard_normal((t, world.feature_dim))
        features = np.maximum(0.6 * (shown + noise), 0).astype(np.float16)
        yield f"key-{seed}-{index:05d}", label, features, int(starts[0]), int(starts[0] + lengths[0] - 1)


def order_videos(world: World, count: int, *, seed: int) -> Iterator[KeyRow]:
    """Yield videos as `key_event_videos`, whose deciding frames are harder to tell from the others.

    - Conjunction and order: every video shows the same three events, and class c is their order. No frame alone says
      anything about the class, nor do frames in a mirrored order.
    - Redundancy: the deciding event takes 40 to 55 % of the frames, a third for each of the three, so that a sequence
      shows each of them several times.
    - Strength: each frame's event has a strength of 0.5 to 1.5, whatever its part: some deciding frames are weak.
    - Distraction: the other frames show a scene that every class shares, and before or after the deciding event two
      events of no class, of the same strengths, which take 20 to 30 %.

    Lengths, places, strengths and distractions are drawn alike for every class. Hence all other frames are null:
    beside whatever frames a model sees them, they say nothing about the class.
    """
    shared = np.random.default_rng(1)
    looks, others = shared.standard_normal((2, world.events, world.feature_dim)).astype(np.float32)
    orders = shared.permutation(list(permutations(range(_IN_ORDER))))[: world.n_classes]
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = index % world.n_classes
        t = int(rng.integers(*world.frames))
        length, other = (max(_IN_ORDER, int(rng.uniform(*share) * t)) for share in (_ORDER_SHARE, _OTHER_SHARE))
        first, last = np.sort(rng.integers(0, t - length - other + 1, 2)).tolist()  # frames of the scene before each
        start, start_other = (first, last + length) if rng.random() < 0.5 else (last + other, first)
        shown = np.zeros((t, world.feature_dim), dtype=np.float32)
        shown[start : start + length] = looks[orders[label]][_IN_ORDER * np.arange(length) // length]
        two = others[rng.permutation(world.events)[:2]]
        shown[start_other : start_other + other] = two[2 * np.arange(other) // other]
        shown *= rng.uniform(*_STRENGTHS, (t, 1)).astype(np.float32)
        noise = 0.2 * rng.standard_normal((1, world.feature_dim)) + 0.3 * rng.standard_normal((t, world.feature_dim))
        features = np.maximum(0.6 * (shown + noise), 0).astype(np.float16)
        yield f"order-{seed}-{index:05d}", label, features, start, start + length - 1


KeyEvents = Literal["event", "order"]
_KEY_VIDEOS: dict[KeyEvents, Callable[..., Iterator[KeyRow]]] = {"event": key_event_videos, "order": order_videos}


def write_made_up(path: Path, world: World, count: int, *, seed: int, key_events: KeyEvents | None = None) -> None:
    """Write one feature table; with `key_events` of videos whose deciding frames key_start and key_end number."""
    keys: dict[str, pa.Array] = {}
    if key_events is not None:
        ids, labels, features, first, last = zip(*_KEY_VIDEOS[key_events](world, count, seed=seed), strict=True)
        keys = {"key_start": pa.array(first, pa.int32()), "key_end": pa.array(last, pa.int32())}
    else:
        ids, labels, features = zip(*made_up_videos(world, count, seed=seed), strict=True)
    ends = np.cumsum([0, *map(len, features)]).astype(np.int32)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(features).ravel()), world.feature_dim)
    columns = {
        "video_id": pa.array(ids),
        "label": pa.array(labels, pa.int32()),
        "features": pa.ListArray.from_arrays(pa.array(ends), frames),
        **keys,
    }
    pq.write_table(pa.table(columns), path, row_group_size=1024)


def main() -> None:
    """Write train.parquet and test.parquet into a folder; files of these names are replaced."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.made_up", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="to write train.parquet and test.parquet to")
    parser.add_argument("--per-class", type=int, default=40, help="videos of a class to train on (default: 40)")
    parser.add_argument("--classes", type=int, default=World.n_classes, help="(default: 174)")
    parser.add_argument("--feature-dim", type=int, default=World.feature_dim, help="(default: 256)")
    parser.add_argument(
        "--key-events",
        nargs="?",
        const="event",
        choices=_KEY_VIDEOS,
        help="classes are decided by a short event, whose frames are known: event (default), or order, which is harder",
    )
    parser.add_argument(
        "--pictures", action="store_true", help="also write the frames of test.parquet as pictures, to frames/"
    )
    options = parser.parse_args()
    key = options.key_events
    world = World(options.feature_dim, options.classes)
    most = factorial(_IN_ORDER) if key == "order" else world.events * (world.events - 1)
    if not (2 <= world.n_classes <= most and options.per_class >= 1 and world.feature_dim >= 1):
        parser.error(f"expected numbers of 1 or more, and 2 to {most} classes")
    if ":/" in str(options.folder):
        parser.error(f"{options.folder}: expected a local folder")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        write_made_up(
            options.folder / "train.parquet", world, options.per_class * world.n_classes, seed=1, key_events=key
        )
        write_made_up(options.folder / "test.parquet", world, 3 * world.n_classes, seed=2, key_events=key)
        if options.pictures:
            write_pictures(options.folder / "test.parquet", options.folder / "frames")
    except SpecError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{options.folder}: cannot be written: {error.strerror or error}")


if __name__ == "__main__":
    main()
