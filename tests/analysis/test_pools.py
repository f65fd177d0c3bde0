"""Means of many groups: brute force over groups, batches, and fewer resamples where there are many groups."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from esv_ray.analysis import statistics
from esv_ray.analysis.pools import Pool, add_rows, table_of
from esv_ray.analysis.statistics import mean_of

TYPES = {"class": pa.int32(), "n": pa.int32()}
RNG = np.random.default_rng(0)
CLASS, N = RNG.integers(0, 5, 3000), RNG.integers(2, 4, 3000)
VALUES = [RNG.standard_normal(n) for n in N]


def rows(start: int, stop: int) -> pa.Table:
    """Videos start..stop, whose lists are as long as n."""
    lists = pa.array([list(values) for values in VALUES[start:stop]], pa.list_(pa.float64()))
    ids = pa.array([f"v{place}" for place in range(start, stop)])
    columns = {"class": pa.array(CLASS[start:stop], pa.int32()), "n": pa.array(N[start:stop], pa.int32())}
    return pa.table({"video_id": ids, **columns, "values": lists})


def filled(*steps: int) -> list[Pool]:
    """A pool of classes and lengths, and one of lengths."""
    pools = [Pool(("class", "n")), Pool(("n",))]
    for start, stop in pairwise(steps):
        add_rows(pools, rows(start, stop))
    return pools


def test_groups_against_single_means() -> None:
    """Each group, and all classes together, have the means and intervals that `mean_of` gives its videos."""
    tables = [table_of(pool, TYPES) for pool in filled(0, 1000, 1001, 3000)]
    for row in pa.concat_tables(tables).to_pylist():
        chosen = [p for p in range(3000) if N[p] == row["n"] and row["class"] in (None, CLASS[p])]
        expected = mean_of([f"v{place}" for place in chosen], np.stack([VALUES[place] for place in chosen]))
        assert row["videos"] == len(chosen)
        for name in ("mean", "low", "high"):
            assert row[name] == pytest.approx(getattr(expected, name), abs=1e-5)


def test_many_groups_have_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded, and the resamples that are kept are the first ones; at last, there are no intervals."""
    whole, _ = filled(0, 3000)
    monkeypatch.setattr(statistics, "_MOST_SUMS", 200 * 25)  # 25 means: two or three values of ten groups
    few, larger = filled(0, 500, 3000)
    assert (few.replicates, larger.replicates) == (200, 1000)
    for key, sums in few.groups.items():
        assert sums.weighted == pytest.approx(whole.groups[key].weighted[:, :200], abs=1e-3)
    monkeypatch.setattr(statistics, "_MOST_SUMS", 99 * 25)
    none, _ = filled(0, 3000)
    assert none.replicates == 0
    for row, full in zip(table_of(none, TYPES).to_pylist(), table_of(whole, TYPES).to_pylist(), strict=True):
        assert row["mean"] == pytest.approx(full["mean"])
        assert set(row["low"]) == set(row["high"]) == {None}


def test_no_rows() -> None:
    for none, some in zip(filled(0, 0), filled(0, 9), strict=True):
        assert table_of(none, TYPES).num_rows == 0
        assert table_of(none, TYPES).schema == table_of(some, TYPES).schema
