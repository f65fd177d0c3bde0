"""The results of a batch that are kept: of the chosen classes, for videos whose values are in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.attribution.requests import Requests
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.input.features import FeatureRows
from esv_ray.output.ranges import ranges_of, value_faults
from esv_ray.output.results import Computed, Missing


class Batch(NamedTuple):
    """Attributed requests of one length.

    Attributes:
        numbers: (B,) numbers of the requests.
        attribution: in host memory.
    """

    numbers: npt.NDArray[np.int64]
    attribution: Attribution


def choose_classes(
    choices: Sequence[int | str],
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    labelled: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Return the classes whose ESVs are kept.

    Args:
        choices: `label`, `predicted`, `top:K`, `all` or class ids.
        scores: (B, C).
        labels: (B,) int32.
        labelled: (B,) whether there is a label.

    Returns:
        (M, 2) pairs of video and class, ascending, without duplicates.
    """
    kept = np.zeros(scores.shape, dtype=bool)
    for choice in choices:
        if choice == "all":
            kept[:] = True
        elif choice == "label":
            kept[np.flatnonzero(labelled), labels[labelled]] = True
        elif choice == "predicted":
            kept[np.arange(len(scores)), scores.argmax(axis=1)] = True
        elif isinstance(choice, str):
            best = np.argsort(-scores, axis=1, kind="stable")[:, : int(choice.removeprefix("top:"))]
            np.put_along_axis(kept, best, True, axis=1)
        else:
            kept[:, choice] = True
    return np.argwhere(kept)


def kept_results(
    place: Workplace,
    rows: FeatureRows,
    requests: Requests,
    batches: Sequence[Batch],
) -> tuple[list[Computed], list[Missing]]:
    """Return the chosen classes of each batch, and the videos whose values are out of range (`output.ranges`)."""
    spec, results, missing = place.spec, [], []
    for numbers, attribution in batches:
        scores, faults = _checked(place, attribution)
        for position, reason in sorted(faults.items()):
            number = int(numbers[position])
            missing.append(Missing(int(requests.rows[number]), int(requests.lengths[number]), "failed", reason))
        valid = np.delete(np.arange(len(numbers)), list(faults))
        if not len(valid):
            continue
        kept = numbers[valid]
        indices = requests.rows[kept]
        pairs = choose_classes(spec.classes, scores[valid], rows.labels[indices], rows.labelled[indices])
        video, classes = valid[pairs[:, 0]], pairs[:, 1]
        stderr = None if attribution.stderr is None else attribution.stderr.float().numpy()[video, :, classes]
        differs = rows.labelled[indices] & (rows.labels[indices] != scores[valid].argmax(axis=1))
        difference = attribution.difference_stderr
        results.append(
            Computed(
                rows=indices,
                scores=scores[valid],
                gaps=attribution.gaps.float().numpy()[valid],
                frame_index=rows.frame_index(indices, requests.frames(kept, rows.n_frames)),
                pairs=pairs,
                esv=attribution.esv.float().numpy()[video, :, classes],
                stderr=stderr,
                difference_stderr=None if difference is None else difference.float().numpy()[valid],
                differs=differs,
                exact=attribution.exact,
                evaluations=attribution.evaluations,
                iterations=attribution.iterations,
                met=None if attribution.met is None else attribution.met.numpy()[valid],
            )
        )
    return results, missing


def _checked(place: Workplace, attribution: Attribution) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Return the class probabilities (B, C) of a batch, and its videos with values out of range."""
    estimator = place.spec.estimator
    full = attribution.scores.float()  # (B, C)
    scores = full.softmax(dim=1) if estimator.output == "logit" else full  # tables hold probabilities
    faults = value_faults(
        ranges_of(estimator.output, estimator.kind, place.spec.compute.matmul),
        esv=attribution.esv.float().numpy(),
        stderr=None if attribution.stderr is None else attribution.stderr.float().numpy(),
        values=full.numpy(),
        empty=place.model.empty_value(estimator.output).cpu().numpy(),
        scores=scores.numpy(),
        gaps=attribution.gaps.float().numpy(),
        exact=attribution.exact,
    )
    return scores.numpy(), faults
