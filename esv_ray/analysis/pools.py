"""Means over the videos of many groups at once, with intervals, from rows that arrive in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.statistics import REPLICATES, ROWS, FloatArray, Sums, means, replicates_for, resampling_weights

Key = tuple[object, ...]
SUFFIXES = ("mean", "low", "high")


@dataclass(eq=False)
class Pool:
    """Sums of a number of values per video, by group.

    Attributes:
        keys: names of the columns that make a group.
        groups: their sums.
        replicates: resamples that are kept: fewer than at first if there are so many groups that memory would not
            suffice.
    """

    keys: tuple[str, ...]
    groups: dict[Key, Sums] = field(default_factory=dict)
    replicates: int = REPLICATES

    @property
    def sizes(self) -> int:
        """Number of means: values times groups."""
        return sum(len(sums.total) for sums in self.groups.values())


def add_rows(pools: Sequence[Pool], rows: pa.Table) -> None:
    """Add the rows of a batch to pools of different groups.

    Args:
        pools: to be changed.
        rows: columns video_id, those of the keys, and `values`, a list of as many numbers in each row of a group; a
            null or NaN among them counts as 0. Rows of one video that follow each other share their weights.
    """
    for batch in rows.combine_chunks().to_batches(max_chunksize=ROWS):
        _add_chunk(pools, pa.Table.from_batches([batch]))
        for pool in pools:
            affordable = replicates_for(pool.sizes)
            if affordable < pool.replicates:
                pool.replicates = affordable
                for sums in pool.groups.values():
                    sums.keep_replicates(affordable)


def _add_chunk(pools: Sequence[Pool], rows: pa.Table) -> None:
    ids = rows.column("video_id").combine_chunks().dictionary_encode()
    drawn = resampling_weights(ids.dictionary.to_pylist(), max(pool.replicates for pool in pools))
    video = ids.indices.to_numpy()
    lists = rows.column("values").combine_chunks()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    flat = np.nan_to_num(lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64, copy=False))
    first = np.cumsum(sizes) - sizes
    for pool in pools:
        for key, chosen in _groups(rows, pool.keys):
            values = flat[first[chosen][:, None] + np.arange(sizes[chosen[0]])]  # (V, K)
            if key not in pool.groups:
                pool.groups[key] = Sums.empty(values.shape[1], pool.replicates)
            pool.groups[key].add(values, drawn[video[chosen], : pool.replicates])


def _groups(rows: pa.Table, keys: Sequence[str]) -> Iterator[tuple[Key, npt.NDArray[np.int64]]]:
    """Yield the groups of rows with equal keys, and the numbers of their rows."""
    columns = [rows.column(name).to_pylist() for name in keys]
    numbers: dict[Key, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in zip(*columns, strict=True)], np.int64)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=len(numbers)))
    for key, start, end in zip(numbers, [0, *ends[:-1]], ends, strict=True):
        yield key, order[start:end]


def table_of(pool: Pool, schema: Mapping[str, pa.DataType]) -> pa.Table:
    """Return one row per group: its keys, videos, and lists of the means and their ends (`SUFFIXES`).

    Args:
        pool: all rows were added.
        schema: types of the keys; those that the pool does not have are null.
    """
    found = [means(sums) for sums in pool.groups.values()]
    keys = list(zip(*pool.groups, strict=True)) or [()] * len(pool.keys)
    known = dict(zip(pool.keys, keys, strict=True))
    columns = {name: pa.array(known.get(name, [None] * len(found)), kind) for name, kind in schema.items()}
    columns["videos"] = pa.array([sums.videos for sums in pool.groups.values()], pa.int64())
    for suffix in SUFFIXES:
        lists = [_without_nan(getattr(each, suffix)) for each in found]
        columns[suffix] = pa.array(lists, pa.list_(pa.float64()))
    return pa.table(columns)


def _without_nan(values: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
