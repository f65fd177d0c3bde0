"""Requests of a job for the rows of a unit: the lengths at which each row is attributed, and its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esv_ray.core.keyed import derive_key, mix64
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
        jitter: seed of a job with `sampling: jittered`; None: `uniform`.
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    jitter: int | None = None

    def frames(self, indices: npt.NDArray[np.int64], rows: FeatureRows) -> npt.NDArray[np.int64]:
        """Return the positions (len(indices), n) of the sampled frames, for requests of one length.

        Args:
            indices: numbers of the requests.
            rows: rows of the unit.
        """
        chosen, n = self.rows[indices], int(self.lengths[indices[0]])
        n_frames = rows.n_frames[chosen].astype(np.int64)
        if self.jitter is None:
            return sample_frames(n_frames, n)
        return jittered_frames(n_frames, n, [rows.ids[row] for row in chosen.tolist()], self.jitter)


def jittered_frames(n_frames: npt.NDArray[np.int64], n: int, ids: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Choose one frame at random in each of n equal segments of a video, as in the training of TSN (Wang et al. 2016).

    Args:
        n_frames: (K,) frames T of the videos.
        n: elements, n <= T.
        ids: ids of the videos; with the seed they fix the choice.
        seed: seed of the job.

    Returns:
        (K, n) positions, ascending; segment i holds the frames from floor(i * T / n) to before floor((i + 1) * T / n).
    """
    bounds = np.arange(n + 1, dtype=np.int64) * n_frames[:, None] // n  # (K, n + 1)
    keys = np.array([derive_key(seed, "jitter", name) for name in ids], np.uint64)
    words = mix64(np.arange(n, dtype=np.uint64) ^ keys[:, None])  # (K, n)
    share = (words >> np.uint64(11)).astype(np.float64) / 2.0**53  # [0, 1)
    return bounds[:, :-1] + (share * np.diff(bounds, axis=1)).astype(np.int64)


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
    jitter = spec.estimator.seed if spec.sampling == "jittered" else None
    return Requests(valid[place], capped[place, index], jitter), missing
