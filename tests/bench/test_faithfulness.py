"""Made-up videos whose deciding frames are known: ESVs find them, and the score falls fastest without them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.bench.faithfulness import METHODS, ORDERS, key_auc, measure, read_cases
from esv_ray.bench.made_up import KeyEvents, World, key_event_videos, order_videos, write_made_up
from esv_ray.bench.measured import Measured
from esv_ray.models.bundle import load_model
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train

WORLD = World(feature_dim=24, n_classes=4, events=6)
ORDER_WORLD = World(feature_dim=32, n_classes=6, events=6)


def test_key_frames_alone_depend_on_the_class() -> None:
    """The same draws with other classes: all frames but the deciding ones are the same."""
    one = list(key_event_videos(WORLD, 8, seed=5))
    other = list(key_event_videos(World(feature_dim=24, n_classes=3, events=6), 8, seed=5))
    different = 0
    for (_, label, features, start, end), (_, other_label, others, *bounds) in zip(one, other, strict=True):
        assert bounds == [start, end]
        assert 0 <= start < end < len(features)
        assert end - start + 1 >= 0.15 * len(features) - 1
        outside = np.r_[0:start, end + 1 : len(features)]
        assert np.array_equal(features[outside], others[outside])
        if label != other_label:
            different += 1
            assert not np.array_equal(features[start : end + 1], others[start : end + 1])
    assert different


def test_the_area_of_a_ranking_is_its_share_of_right_pairs() -> None:
    key = np.array([True, False, True, False])
    for values in permutations([1.0, 2.0, 2.0, 3.0]):
        pairs = [(values[i] > values[j]) + (values[i] == values[j]) / 2 for i in (0, 2) for j in (1, 3)]
        assert key_auc(np.array([values]), key[None])[0] == np.mean(pairs)
    assert np.isnan(key_auc(np.ones((1, 2)), np.zeros((1, 2), dtype=bool))[0])


def measured_on(folder: Path, kind: KeyEvents, world: World, count: int, **training: float) -> dict[str, Measured]:
    """Train heads on `count` videos, and measure all methods on sequences of 9 elements of 24 others."""
    for name, videos, seed in (("train", count, 1), ("test", 24, 2)):
        write_made_up(folder / f"{name}.parquet", world, videos, seed=seed, key_events=kind)
    keys = {"features": str(folder / "train.parquet"), "output": str(folder / "model"), "hidden": 32, "threads": 1}
    result = train(load_train_spec({**keys, **training}))
    assert result.accuracy_f > 0.6
    model = load_model(result.output)
    cases, mean = read_cases(str(folder / "test.parquet"), model, 9, 24)
    assert torch.isfinite(mean).all()
    measured = measure(model, cases, mean, steps=8, seed=0)
    assert list(measured) == [*METHODS, *(f"{order} order" for order in ORDERS)]
    return measured


@pytest.fixture(scope="module")
def by_event(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    return measured_on(tmp_path_factory.mktemp("event"), "event", WORLD, 1000, n_max=3, epochs=25)


@pytest.fixture(scope="module")
def by_order(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    return measured_on(
        tmp_path_factory.mktemp("order"), "order", ORDER_WORLD, 4000, n_max=3, epochs=20, learning_rate=0.005
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["event", "order"])
def test_esvs_find_the_deciding_frames(kind: str, request: pytest.FixtureRequest) -> None:
    measured = request.getfixturevalue(f"by_{kind}")
    found, by_chance = (measured[name].interval("key_auc") for name in ("esv", "random"))
    assert found.mean > 0.95
    assert by_chance.low < 0.5 < by_chance.high


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["event", "order"])
def test_discards_by_esv_fall_fastest(kind: str, request: pytest.FixtureRequest) -> None:
    """Faster than every baseline, paired by video."""
    measured = request.getfixturevalue(f"by_{kind}")
    esv, chance = measured["esv"], measured["random"]
    for baseline in ("random", *(f"{order} order" for order in ORDERS)):
        assert esv.less(measured[baseline], "deletion").high < 0, baseline
    assert esv.less(chance, "insertion").low > 0
    assert esv.less(chance, "comprehensiveness").low > 0
    assert esv.less(chance, "sufficiency").high < 0


@pytest.mark.slow
def test_the_harder_set_tells_the_methods_apart(by_order: dict[str, Measured]) -> None:
    """Gradients do not find frames that decide by their order; occlusion of such a model does.

    F is a mean over subsequences, so one frame less changes it even where the frame's evidence is seen again.
    """
    esv = by_order["esv"]
    for method in ("integrated_gradients", "grad_cam"):
        assert esv.less(by_order[method], "key_auc").low > 0, method
        assert esv.less(by_order[method], "insertion").low > 0, method
    assert by_order["grad_cam"].interval("key_auc").high < 0.9
    assert abs(esv.less(by_order["occlusion"], "key_auc").mean) < 0.03


def test_differences_are_paired_by_video() -> None:
    """Videos differ a lot and methods by a little: paired, the interval is narrow; a method less itself is 0."""
    rng = np.random.default_rng(0)
    ids, base = [f"v{i}" for i in range(50)], rng.random((50, 5))
    one = Measured(ids, base + 0.01 + 0.001 * rng.random((50, 5)), 1.0)
    other = Measured(ids, base, 1.0)
    difference = one.less(other, "deletion")
    assert 0.01 < difference.low < difference.mean < difference.high < 0.011
    assert one.interval("deletion").low < other.interval("deletion").mean
    alone = one.less(one, "key_auc")
    assert alone.mean == 0
    assert np.isnan([alone.low, alone.high]).all(), "values that are all equal have no interval"
    assert difference.mean == pytest.approx(one.interval("deletion").mean - other.interval("deletion").mean)


def test_videos_whose_deciding_frames_are_unknown_do_not_count() -> None:
    values = np.ones((3, 5))
    values[1, 0] = np.nan
    measured = Measured(["a", "b", "c"], values, 1.0)
    assert measured.interval("key_auc").mean == 1
    assert np.isnan(Measured(["a"], values[1:2], 1.0).interval("key_auc").mean)


def test_frames_alone_say_nothing_about_an_order() -> None:
    """The same draws with other classes: frames outside the event are the same, and the event is permuted."""
    videos, others = (list(order_videos(World(24, classes, 6), 12, seed=5)) for classes in (6, 5))
    different = 0
    for (_, label, features, start, end), (_, other_label, other, *bounds) in zip(videos, others, strict=True):
        assert bounds == [start, end]
        assert 0 <= start < end < len(features)
        assert 0.4 * len(features) - 1 <= end - start + 1 <= 0.55 * len(features)
        outside = np.r_[0:start, end + 1 : len(features)]
        assert np.array_equal(features[outside], other[outside])
        different += label != other_label and not np.array_equal(features[start : end + 1], other[start : end + 1])
    assert different > 3


@pytest.mark.slow
def test_the_command_measures_a_table_without_key_frames(tmp_path: Path) -> None:
    """JapaneseVowels: no deciding frames are known."""
    demo = Path(__file__).parents[2] / "jobs" / "demo"
    pq.write_table(pq.read_table(demo / "train.parquet").slice(0, 90), tmp_path / "train.parquet")
    command = [sys.executable, "-m", "esv_ray.bench.faithfulness", "--test", str(demo / "test.parquet")]
    options = ["--elements", "5", "--videos", "6", "--n-max", "2", "--epochs", "3", "--steps", "4"]
    ran = subprocess.run(
        [*command, "--train", str(tmp_path / "train.parquet"), *options], capture_output=True, text=True, check=True
    )
    first, head, *lines = ran.stdout.splitlines()
    assert first.startswith("6 videos of 5 elements; heads up to 2, accuracy of F on held-out videos ")
    assert head.split()[:2] == ["key", "AUC"]
    count = len(METHODS) + len(ORDERS)
    rows, (intervals, *means), (differences, *others) = lines[:count], lines[count : 2 * count + 1], lines[-count:]
    assert rows[0].split()[:2] == ["esv", "-"]
    assert intervals.startswith("mean (95 % interval)")
    assert [line.split()[0] for line in means] == [line.split()[0] for line in rows]
    assert re.fullmatch(r"esv +- +\.\d{3} \(\.\d{3} \.\d{3}\) +\.\d{3} \(\.\d{3} \.\d{3}\)", means[0])
    assert differences.startswith("esv minus")
    assert len(others) == count - 1
    assert re.match(r"integrated_gradients +- +[+-]\.\d{3} \([+-]\.\d{3} [+-]\.\d{3}\)", others[0])
    assert max(map(len, ran.stdout.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--elements", "17"], "expected 2 to 16 elements"),
        (["--train", "a"], "expected both --train and --test"),
        (["--train", "none.parquet", "--test", "none.parquet"], "none.parquet"),
    ],
)
def test_wrong_requests_are_one_line(options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "esv_ray.bench.faithfulness", *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
