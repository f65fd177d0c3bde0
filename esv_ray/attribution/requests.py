"""What a job asks of the rows of a unit: at which lengths each is attributed, and which frames are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esv_ray.input.features import FeatureRows
from esv_ray.input.frames import sample_frames
from esv_ray.output.results import Missing
from esv_ray.spec import JobSpec


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is asked of a unit: K times an input row at a number of elements.

    Attributes:
        rows: (K,) input rows.
        lengths: (K,) elements n <= T.
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def places(self, some: npt.NDArray[np.int64], n_frames: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """(len(some), n): the frames that are looked at, of some that are asked at one length."""
        return sample_frames(n_frames[self.rows[some]].astype(np.int64), int(self.lengths[some[0]]))


def requested(
    spec: JobSpec,
    rows: FeatureRows,
    *,
    condemned: Mapping[int, str] | None = None,
    only: npt.NDArray[np.int64] | None = None,
) -> tuple[Wanted, list[Missing]]:
    """The lengths at which the rows of a unit are attributed; and those of bad rows, and those above T to be skipped.

    With `short: all`, lengths above T collapse into one: all T frames.

    Args:
        spec: the job.
        rows: of the unit.
        condemned: rows that fail, and why, beside those that break the contract.
        only: the rows that are asked for; None: all.
    """
    faults = {**(condemned or {}), **rows.faults}
    asked_for = np.arange(len(rows.ids)) if only is None else only
    missing = []
    for row in asked_for[np.isin(asked_for, list(faults))].tolist():
        asked = (int(rows.n_frames[row]),) if spec.frames == "all" else spec.frames
        missing += [Missing(row, n, "failed", faults[row]) for n in asked]
    good = asked_for[~np.isin(asked_for, list(faults))]
    frames = rows.n_frames[good].astype(np.int64)
    if spec.frames == "all":
        return Wanted(good, frames), missing
    asked_lengths = np.array(spec.frames, dtype=np.int64)  # ascending
    lengths = np.minimum(asked_lengths, frames[:, None])  # (G, k)
    beyond = asked_lengths > frames[:, None]
    if spec.short == "skip":
        for place, index in np.argwhere(beyond):
            row, n = int(good[place]), int(asked_lengths[index])
            missing.append(Missing(row, n, "skipped", f"{frames[place]} frames, {n} asked for"))
        kept = ~beyond
    else:
        kept = np.diff(lengths, axis=1, prepend=0) > 0
    place, index = kept.nonzero()
    return Wanted(good[place], lengths[place, index]), missing
