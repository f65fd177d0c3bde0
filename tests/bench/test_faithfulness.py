"""Made-up videos whose deciding frames are known: ESVs find them, and the score falls fastest without them."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.bench.faithfulness import METHODS, ORDERS, key_auc, measure, read_cases
from esv_ray.bench.made_up import World, key_event_videos, write_made_up
from esv_ray.models.bundle import load_model
from esv_ray.models.train import train
from esv_ray.spec import load_train_spec

WORLD = World(feature_dim=24, n_classes=4, events=6)


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


def test_esvs_find_the_deciding_frames_and_discards_fall_fastest(tmp_path: Path) -> None:
    for name, count, seed in (("train", 1000, 1), ("test", 24, 2)):
        write_made_up(tmp_path / f"{name}.parquet", WORLD, count, seed=seed, key_events=True)
    keys = {"features": str(tmp_path / "train.parquet"), "output": str(tmp_path / "model"), "n_max": 3, "hidden": 32}
    result = train(load_train_spec({**keys, "epochs": 25, "threads": 1}))
    assert result.accuracy_f > 0.6
    model = load_model(result.output)
    cases, mean = read_cases(str(tmp_path / "test.parquet"), model, 9, 24)
    measured = measure(model, cases, mean, steps=8, seed=0)
    assert list(measured) == [*METHODS, *(f"{order} order" for order in ORDERS)]
    esv = measured["esv"]
    assert esv.key_auc > 0.95
    assert abs(measured["random"].key_auc - 0.5) < 0.15
    for baseline in ("random", *(f"{order} order" for order in ORDERS)):
        assert esv.deletion < 0.9 * measured[baseline].deletion, baseline
    assert esv.insertion > 1.1 * measured["random"].insertion
    assert esv.comprehensiveness > measured["random"].comprehensiveness
    assert esv.sufficiency < measured["random"].sufficiency
    assert torch.isfinite(mean).all()


def test_the_command_measures_a_table_without_key_frames(tmp_path: Path) -> None:
    """JapaneseVowels: no deciding frames are known."""
    demo = Path(__file__).parents[2] / "jobs" / "demo"
    pq.write_table(pq.read_table(demo / "train.parquet").slice(0, 90), tmp_path / "train.parquet")
    command = [sys.executable, "-m", "esv_ray.bench.faithfulness", "--test", str(demo / "test.parquet")]
    options = ["--elements", "5", "--videos", "6", "--n-max", "2", "--epochs", "3", "--steps", "4"]
    ran = subprocess.run(
        [*command, "--train", str(tmp_path / "train.parquet"), *options], capture_output=True, text=True, check=True
    )
    first, head, *rows = ran.stdout.splitlines()
    assert first.startswith("6 videos of 5 elements; heads up to 2, accuracy of F on held-out videos ")
    assert head.split()[:2] == ["key", "AUC"]
    assert len(rows) == len(METHODS) + len(ORDERS)
    assert rows[0].split()[:2] == ["esv", "-"]
    assert max(map(len, ran.stdout.splitlines())) <= 80


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
