"""Requests of a job for the rows of a unit: the lengths at which each row is attributed, and its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esv_ray.input.features import FeatureRows
from esv_ray.input.frames import sample_frames
from esv_ray.output.computed import Missing
from esv_ray.spec import JobSpec


@dataclass(frozen=True, eq=False)
class Requests:
    """K requests, each for one input row at one number of elements.

    Attributes:
        rows: (K,) input rows.
        lengths: (K,) elements n <= T.
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def frames(self, indices: npt.NDArray[np.int64], n_frames: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the positions (len(indices), n) of the sampled frames, for requests of one length."""
        return sample_frames(n_frames[self.rows[indices]].astype(np.int64), int(self.lengths[indices[0]]))


def plan_requests(
    spec: JobSpec,
    rows: FeatureRows,
    *,
    poisoned: Mapping[int, str] | None = None,
    only: npt.NDArray[np.int64] | None = None,
) -> tuple[Requests, list[Missing]]:
    """Plan the lengths at which the rows of a unit are attributed.

    With `short: all`, lengths above T collapse into one: all T frames.

    Args:
        spec: the job.
        rows: rows of the unit.
        poisoned: rows that fail, and why, in addition to those that break the contract.
        only: the rows to attribute; None: all.

    Returns:
        The requests; and the rows and lengths without one: invalid rows, and with `short: skip` lengths above T.
    """
    faults = {**(poisoned or {}), **rows.faults}
    chosen = np.arange(len(rows.ids)) if only is None else only
    faulty = np.isin(chosen, list(faults))
    missing = []
    for row in chosen[faulty].tolist():
        lengths = {*spec.frame_numbers, *([int(rows.n_frames[row])] if spec.all_frames else [])}
        missing += [Missing(row, n, "failed", faults[row]) for n in sorted(lengths)]
    valid = chosen[~faulty]
    frames = rows.n_frames[valid].astype(np.int64)
    requested_lengths = np.array(spec.frame_numbers, dtype=np.int64)  # (k,) ascending
    capped = np.minimum(requested_lengths, frames[:, None])  # (G, k)
    beyond = requested_lengths > frames[:, None]
    if spec.short == "skip":
        for place, index in np.argwhere(beyond):
            row, n = int(valid[place]), int(requested_lengths[index])
            missing.append(Missing(row, n, "skipped", f"{frames[place]} frames, {n} asked for"))
        kept = ~beyond
    else:
        kept = np.diff(capped, axis=1, prepend=0) > 0
    if spec.all_frames:
        new = ~(kept & (capped == frames[:, None])).any(axis=1)
        capped, kept = np.column_stack([capped, frames]), np.column_stack([kept, new])
    place, index = kept.nonzero()
    return Requests(valid[place], capped[place, index]), missing
