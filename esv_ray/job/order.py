"""The order in which a run computes its units."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from random import Random
from typing import TypeVar

from esv_ray.job.work import Unit

_Unit = TypeVar("_Unit", bound=Unit)

_RUN = 8  # units of a group that are not parted: an actor that skips rows of a row group decodes them all the same


def shuffled(units: Iterable[_Unit], random: Random) -> list[_Unit]:
    """Shuffle units so that several drivers of one job begin at different places (issue 15).

    In plan order all drivers compute the same unit at the same time: five of them took six times as long as one driver.
    Units that are cheap to read together stay together: sources are shuffled, within a source its groups, and a large
    group is parted once, at any place.

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
            place = random.randrange(0, max(1, len(consecutive) - _RUN), _RUN)
            runs += [consecutive[place:], consecutive[:place]]
        random.shuffle(runs)
        ordered += [unit for run in runs for unit in run]
    return ordered
