"""The order in which a run computes its units."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from random import Random
from typing import TypeVar

from esv_ray.job.work import Unit

_Unit = TypeVar("_Unit", bound=Unit)

_RUN = 8  # units of a group that stay together: an actor that skips rows of a row group decodes them all the same


def shuffled(units: Iterable[_Unit], random: Random) -> list[_Unit]:
    """Shuffle units so that several drivers of one job begin at different places (issue 15).

    In plan order all drivers compute the same unit at the same time: five of them took six times as long as one driver.
    Units that are cheap to read together stay together: sources are shuffled, and within a source runs of consecutive
    units of a group.

    Args:
        units: units in plan order.
        random: differs from driver to driver; no result depends on it.
    """
    sources = [list(units_of_source) for _, units_of_source in groupby(units, key=lambda unit: unit.source)]
    random.shuffle(sources)
    ordered: list[_Unit] = []
    for source in sources:
        runs = []
        for _, units_of_group in groupby(source, key=lambda unit: unit.group):
            consecutive = list(units_of_group)
            runs += [consecutive[start : start + _RUN] for start in range(0, len(consecutive), _RUN)]
        random.shuffle(runs)
        ordered += [unit for run in runs for unit in run]
    return ordered
