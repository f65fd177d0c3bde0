"""Ids in several files of a feature table, found at the end of a job from the marks of its units.

Within a file a repeated id is a failed row, and so it is within a unit of several small files, which counts as one file
here, named by its first. No unit can see a repetition in another file. So each mark has hashes of
the unit's ids, and the end of the job compares them; only units with equal hashes are read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from esv_ray.input.units import Unit
from esv_ray.output.files import read_output
from esv_ray.output.layout import VIDEOS, videos_url
from esv_ray.output.schemas import SCHEMAS
from esv_ray.output.unit_files import HASH_BYTES, UnitFooter
from esv_ray.parallel import READERS, in_parallel

_HASH = np.dtype(f">u{HASH_BYTES}")
_MOST_CONFIRMED = 1000  # equal hashes; more are not accidental
_NAMED = 3


class Repeats(NamedTuple):
    """Ids in several files.

    Attributes:
        number: number of such ids.
        examples: the first of them, with the files.
    """

    number: int
    examples: Mapping[str, Sequence[str]]

    def describe(self) -> str:
        """Return one line that names the ids and says what to do; empty if there are none."""
        if not self.number:
            return ""
        examples = "; ".join(f"{video_id!r} in {' and '.join(files)}" for video_id, files in self.examples.items())
        return (
            f"expected every video_id once in the feature table, got {self.number} in several files ({examples}): "
            "the tables hold each of them several times, so _SUCCESS is not written; remove them from the feature "
            "table and use a new output"
        )


NO_REPEATS = Repeats(0, MappingProxyType({}))


def find_repeats(output: str, units: Sequence[Unit], footers: Sequence[UnitFooter]) -> Repeats:
    """Find ids that are in several files of the feature table.

    Args:
        output: location of the job's output.
        units: committed ones.
        footers: footers of their videos files.

    Raises:
        DataError: a videos file with equal hashes cannot be read.
    """
    hashes = [np.frombuffer(footer.ids, _HASH).astype(np.uint64) for footer in footers]
    by_file: dict[str, list[npt.NDArray[np.uint64]]] = {}
    for unit, unit_hashes in zip(units, hashes, strict=True):
        by_file.setdefault(unit.source, []).append(unit_hashes)
    if len(by_file) < 2:
        return NO_REPEATS
    different = np.sort(np.concatenate([np.unique(np.concatenate(parts)) for parts in by_file.values()]))
    equal = np.unique(different[1:][different[1:] == different[:-1]])
    if not len(equal):
        return NO_REPEATS
    looked_at = equal[:_MOST_CONFIRMED]
    suspects = [unit for unit, unit_hashes in zip(units, hashes, strict=True) if np.isin(looked_at, unit_hashes).any()]
    files: dict[str, set[str]] = {}
    for unit, ids in zip(suspects, in_parallel(partial(_ids_of, output), suspects, threads=READERS), strict=True):
        for video_id in ids:
            files.setdefault(video_id, set()).add(unit.source)
    repeated = sorted(video_id for video_id, places in files.items() if len(places) > 1)
    count = len(repeated) if len(equal) <= _MOST_CONFIRMED else len(equal)
    return Repeats(count, {video_id: sorted(files[video_id]) for video_id in repeated[:_NAMED]})


def _ids_of(output: str, unit: Unit) -> set[str]:
    table, _, _ = read_output(videos_url(output, unit), SCHEMAS[VIDEOS], f"videos/{unit.name}")
    return set(pc.unique(table.column("video_id")).to_pylist()) - {"", None}
