"""The results of a batch that are kept: of the chosen classes, for videos whose values are in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.attribution.further import Further
from esv_ray.attribution.requests import Requests
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import Computed, Missing
from esv_ray.output.layout import ORDER
from esv_ray.output.ranges import ranges_of, value_faults


class Batch(NamedTuple):
    """Attributed requests of one length.

    Attributes:
        numbers: (B,) numbers of the requests.
        attribution: in host memory.
        scores: (B, C) class probabilities.
        pairs: (M, 2) place of a video and class, for the classes that are kept.
        further: what further tables hold.
    """

    numbers: npt.NDArray[np.int64]
    attribution: Attribution
    scores: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.int64]
    further: Further


def kept_results(
    place: Workplace,
    rows: FeatureRows,
    requests: Requests,
    batches: Sequence[Batch],
) -> tuple[list[Computed], list[Missing]]:
    """Return the chosen classes of each batch, and the videos whose values are out of range (`output.ranges`)."""
    results, missing = [], []
    for numbers, attribution, scores, chosen, further in batches:
        faults = {**_further_faults(further, chosen), **_faults(place, attribution, scores)}
        for position, reason in sorted(faults.items()):
            number = int(numbers[position])
            missing.append(Missing(int(requests.rows[number]), int(requests.lengths[number]), "failed", reason))
        valid = np.delete(np.arange(len(numbers)), list(faults))
        if not len(valid):
            continue
        kept = numbers[valid]
        indices = requests.rows[kept]
        pair = np.flatnonzero(np.isin(chosen[:, 0], valid))
        video, classes = chosen[pair, 0], chosen[pair, 1]
        stderr = None if attribution.stderr is None else attribution.stderr.float().numpy()[video, :, classes]
        differs = rows.labelled[indices] & (rows.labels[indices] != scores[valid].argmax(axis=1))
        difference = attribution.difference_stderr
        results.append(
            Computed(
                rows=indices,
                scores=scores[valid],
                gaps=attribution.gaps.float().numpy()[valid],
                frame_index=rows.frame_index(indices, requests.frames(kept, rows)),
                pairs=np.stack([np.searchsorted(valid, video), classes], axis=1),
                esv=attribution.esv.float().numpy()[video, :, classes],
                stderr=stderr,
                difference_stderr=None if difference is None else difference.float().numpy()[valid],
                differs=differs,
                exact=attribution.exact,
                evaluations=attribution.evaluations,
                iterations=attribution.iterations,
                met=None if attribution.met is None else attribution.met.numpy()[valid],
                marginals=None if further.marginals is None else further.marginals[pair],
                interactions=None if further.interactions is None else further.interactions[pair],
                discarded=None if further.discarded is None else further.discarded.take(valid),
                replaced=None if further.replaced is None else further.replaced.take(valid),
                others={method: values.take(pair) for method, values in further.others.items()},
                varied={folder: varied.take(valid) for folder, varied in further.varied.items()},
            )
        )
    return results, missing


def _further_faults(further: Further, pairs: npt.NDArray[np.int64]) -> dict[int, str]:
    """Return the videos of a batch whose values by other methods or in further tables are not finite, and which."""
    by_pair = {method: values.values for method, values in further.others.items()}
    if further.interactions is not None:
        by_pair["interactions"] = further.interactions
    faults: dict[int, str] = {}
    for name, values in by_pair.items():
        wrong = pairs[~np.isfinite(values).all(axis=1), 0]
        faults |= {int(video): f"{name}: values are not finite" for video in wrong}
    if further.discarded is not None:
        wrong = np.flatnonzero(~np.isfinite(further.discarded.scores).all(axis=(1, 2)))
        faults |= {int(video): "discards: scores are not finite" for video in wrong}
    if further.replaced is not None:
        wrong = np.flatnonzero(~np.isfinite(further.replaced.scores).all(axis=1))
        faults |= {int(video): "replacements: scores are not finite" for video in wrong}
    order = further.varied.get(ORDER)
    if order is not None:
        wrong = order.videos[~np.isfinite(order.values["shuffled_score"])]
        faults |= {int(video): "order: scores of shuffled elements are not finite" for video in wrong}
    return faults


def _faults(place: Workplace, attribution: Attribution, scores: npt.NDArray[np.float32]) -> dict[int, str]:
    """Return the videos of a batch with values out of range, and why."""
    estimator = place.spec.estimator
    return value_faults(
        ranges_of(estimator.output, estimator.kind, place.spec.compute.matmul),
        esv=attribution.esv.float().numpy(),
        stderr=None if attribution.stderr is None else attribution.stderr.float().numpy(),
        values=attribution.scores.float().numpy(),
        empty=place.model.empty_value(estimator.output).cpu().numpy(),
        scores=scores,
        gaps=attribution.gaps.float().numpy(),
        exact=attribution.exact,
    )
