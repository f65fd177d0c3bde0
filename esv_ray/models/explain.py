"""ESVs of sequences in memory: the Python face, without Ray or tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator, Kind
from esv_ray.core.model import VideoModel
from esv_ray.errors import DataError
from esv_ray.machine import spare_memory

Sequence2d = Tensor | npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Explanation:
    """ESVs of one sequence of n elements.

    Attributes:
        esv: (n, C) how much each element contributed to each class score, in probability.
        stderr: (n, C) standard errors over iterations; None when exact or from a single iteration.
        scores: (C,) class probabilities of the full sequence; where sampled an estimate, the mean over iterations.
        prior: (C,) value of the empty sequence; the ESVs of a class sum to scores - prior.
        evaluations: head evaluations spent.
        exact: whether every subsequence was looked at.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    prior: Tensor
    evaluations: int
    exact: bool


@overload
def explain(
    model: VideoModel,
    features: Sequence2d,
    *,
    estimator: Kind = ...,
    m: int = ...,
    iterations: int = ...,
    seed: int = ...,
    video_id: str = ...,
    video_ids: None = ...,
    output: Literal["probability"] = ...,
    batch: int | None = ...,
    memory_budget: int | None = ...,
) -> Explanation: ...


@overload
def explain(
    model: VideoModel,
    features: Sequence[Sequence2d],
    *,
    estimator: Kind = ...,
    m: int = ...,
    iterations: int = ...,
    seed: int = ...,
    video_id: str = ...,
    video_ids: Sequence[str] | None = ...,
    output: Literal["probability"] = ...,
    batch: int | None = ...,
    memory_budget: int | None = ...,
) -> list[Explanation]: ...


def explain(
    model: VideoModel,
    features: Sequence2d | Sequence[Sequence2d],
    *,
    estimator: Kind = "auto",
    m: int = 1024,
    iterations: int = 4,
    seed: int = 0,
    video_id: str = "",
    video_ids: Sequence[str] | None = None,
    output: Literal["probability"] = "probability",
    batch: int | None = None,
    memory_budget: int | None = None,
) -> Explanation | list[Explanation]:
    """ESVs of one sequence, or of a list of sequences of any lengths; every element is used as it is.

    Args:
        model: a loaded model (`load_model`); its device and dtype are followed.
        features: (n, D) array or tensor, or a list of them.
        estimator: `exact`; `algorithm1`, the paper's sampling; `auto`: exact where it costs no more.
        m: most subsequences sampled per scale.
        iterations: independent repetitions of the sampling.
        seed: of the sampling.
        video_id: names the sequence: with the seed it fixes what is sampled for it.
        video_ids: the same for a list; default: its positions "0", "1", ...
        output: what the ESVs divide: class probabilities.
        batch: most sequences of equal length computed together; None: chosen by the length. Changes rounding only.
        memory_budget: bytes that the work may take; None: what the machine or device has to spare. `auto` samples
            what does not fit.

    Raises:
        DataError: features that are not finite (n, D) with n >= 1.
        SpecError: the ESVs of that many elements do not fit in memory.
    """
    if output != "probability":
        raise ValueError(f"output: expected 'probability', got {output!r}")
    for name, value in (
        ("m", m),
        ("iterations", iterations),
        ("seed", seed),
        ("batch", batch or 0),
        ("memory_budget", memory_budget or 0),
    ):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}: expected a whole number, got {value!r}")
    for name, given in (("batch", batch), ("memory_budget", memory_budget)):
        if given is not None and given < 1:
            raise ValueError(f"{name}: expected a whole number >= 1 or None, got {given}")
    single = isinstance(features, Tensor | np.ndarray)
    many: Sequence[Sequence2d] = [features] if single else features  # type: ignore[assignment,list-item]
    if video_id and not single:
        raise ValueError("video_id names one sequence; a list of sequences takes video_ids")
    ids = [video_id] if single else [str(i) for i in range(len(many))] if video_ids is None else list(video_ids)
    if len(ids) != len(many):
        raise ValueError(f"video_ids: expected {len(many)}, one a sequence, got {len(ids)}")
    sequences = [_checked(index, sequence, model) for index, sequence in enumerate(many)]
    results: dict[int, Explanation] = {}
    budget = memory_budget if memory_budget is not None else spare_memory(model.device)
    engine = Engine(model, Estimator(estimator, m, iterations, seed), memory_budget=budget, batch=batch)
    lengths = [len(sequence) for sequence in sequences]
    for indices, found in engine.attributions(lengths, ids, lambda some: torch.stack([sequences[i] for i in some])):
        for row, index in enumerate(indices):
            if not bool(found.scores[row].isfinite().all() and found.esv[row].isfinite().all()):
                raise DataError(
                    f"sequence {index}: the model's scores are not finite: features or weights are too large"
                )
            results[index] = Explanation(
                found.esv[row],
                None if found.stderr is None else found.stderr[row],
                found.scores[row],
                model.prior.to(found.scores, copy=True),
                found.evaluations,
                found.exact,
            )
    ordered = [results[index] for index in range(len(many))]
    return ordered[0] if single else ordered


def _checked(index: int, sequence: Sequence2d, model: VideoModel) -> Tensor:
    if isinstance(sequence, Tensor):
        tensor = sequence
        if tensor.is_complex():
            raise DataError(f"sequence {index}: features must be real numbers, got {tensor.dtype}")
    else:
        array = np.asarray(sequence)
        if array.dtype.kind not in "fiub":
            raise DataError(f"sequence {index}: features must be real numbers, got {array.dtype}")
        # A copy in this machine's byte order: torch takes neither negative strides nor foreign order.
        tensor = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    if tensor.ndim != 2 or len(tensor) < 1 or tensor.shape[1] != model.feature_dim:
        raise DataError(
            f"sequence {index}: features must be (n, {model.feature_dim}) with n >= 1, got {tuple(tensor.shape)}"
        )
    tensor = tensor.to(model.device, model.dtype)
    if not tensor.isfinite().all():
        raise DataError(f"sequence {index}: features must be finite, got NaN or infinity")
    return tensor
