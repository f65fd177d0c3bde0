"""The classes whose ESVs are kept, and the class probabilities that decide which class is predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esv_ray.core.attribution import Attribution
from esv_ray.estimator import Output


def table_scores(attribution: Attribution, output: Output) -> npt.NDArray[np.float32]:
    """Return the class probabilities (B, C) of the full sequences, as tables hold them."""
    return probabilities(attribution.scores, output)


def probabilities(values: Tensor, output: Output) -> npt.NDArray[np.float32]:
    """Return the class probabilities (..., C) of values of the game, computed in host memory."""
    values = values.cpu().float()
    found: npt.NDArray[np.float32] = (values.softmax(dim=-1) if output == "logit" else values).numpy()
    return found


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
