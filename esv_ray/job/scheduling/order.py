"""The order in which a run takes its units."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from random import Random

from esv_ray.input.units import Unit

_RUN = 8  # units of a row group that stay together: an actor that skips rows of a row group decodes them all the same


def own_order(units: Iterable[Unit], random: Random) -> list[Unit]:
    """Shuffle units so that several drivers of one job begin at different places (issue 15).

    In plan order all drivers compute the same unit at the same time: five of them took six times as long as one. What
    is cheap to read together stays together: files are shuffled, and within a file runs of consecutive units of a row
    group.

    Args:
        units: in plan order.
        random: differs from driver to driver; no result depends on it.
    """
    files = [list(group) for _, group in groupby(units, key=lambda unit: unit.file)]
    random.shuffle(files)
    ordered: list[Unit] = []
    for file in files:
        runs = []
        for _, row_group in groupby(file, key=lambda unit: unit.row_group):
            consecutive = list(row_group)
            runs += [consecutive[start : start + _RUN] for start in range(0, len(consecutive), _RUN)]
        random.shuffle(runs)
        ordered += [unit for run in runs for unit in run]
    return ordered
