"""ESVs of sequences in memory: the Python interface, without Ray or tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.memory import format_bytes
from esv_ray.core.spread import Spread
from esv_ray.errors import DataError, SpecError
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.machine import spare_memory
from esv_ray.output.ranges import Ranges, ranges_of, value_faults

Sequence2d = Tensor | npt.NDArray[np.floating]


class Contrast(NamedTuple):
    """Class-contrastive ESVs of one sequence of n elements.

    Attributes:
        esv: (n,) contribution of each element to one class minus its contribution to the other.
        stderr: (n,) standard errors, which account for errors shared by both classes; None if exact, or from a single
            iteration of Algorithm 1.
    """

    esv: Tensor
    stderr: Tensor | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """ESVs of one sequence of n elements.

    Attributes:
        esv: (n, C) contribution of each element to each class score, in probability or in logits.
        stderr: (n, C) standard errors; None if exact, from a single iteration of Algorithm 1, or from fewer than 16
            subsequences per length.
        scores: (C,) value of the full sequence, class probabilities or logits; an estimate if sampled.
        prior: (C,) value of the empty sequence; the ESVs of a class sum to scores - prior.
        evaluations: number of head evaluations.
        exact: whether every subsequence was evaluated.
        iterations: iterations of the sampling; 0 if exact.
        tolerance_met: whether the predicted class met the tolerance; None without one.
        spread: error model, from which `contrast` computes standard errors; None if there are none.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    prior: Tensor
    evaluations: int
    exact: bool
    iterations: int = 0
    tolerance_met: bool | None = None
    spread: Spread | None = field(default=None, repr=False)

    def contrast(self, a: int, b: int) -> Contrast:
        """Return class-contrastive ESVs (Price & Damen 2020): those of class a minus those of class b.

        Raises:
            ValueError: a class is out of range.
        """
        n_classes = self.esv.shape[1]
        for class_id in (a, b):
            if not isinstance(class_id, int) or isinstance(class_id, bool) or not 0 <= class_id < n_classes:
                raise ValueError(f"class: expected 0..{n_classes - 1}, got {class_id!r}")
        esv = self.esv[:, a] - self.esv[:, b]
        if self.spread is None:
            return Contrast(esv, None)
        mix = self.esv.new_zeros((n_classes, 1))
        mix[a] += 1
        mix[b] -= 1
        return Contrast(esv, self.spread.stderr(esv[None, :, None], mix)[0, :, 0])


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
    tolerance: float | None = ...,
    max_iterations: int = ...,
    output: Output = ...,
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
    tolerance: float | None = ...,
    max_iterations: int = ...,
    output: Output = ...,
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
    tolerance: float | None = None,
    max_iterations: int = 64,
    output: Output = "probability",
    batch: int | None = None,
    memory_budget: int | None = None,
) -> Explanation | list[Explanation]:
    """Compute the ESVs of one sequence, or of a list of sequences of any lengths; no element is sampled or dropped.

    Args:
        model: a loaded model (`load_model`); the computation uses its device and dtype.
        features: (n, D) array or tensor, or a list of them.
        estimator: `exact`; `adjusted`, sampling with regression; `algorithm1`, the paper's sampling; `auto`: exact
            if that costs no more, else adjusted.
        m: most subsequences sampled per scale and iteration.
        iterations: repetitions of the sampling, pooled.
        seed: seed of the sampling.
        video_id: name of the sequence; with the seed it fixes which subsequences are sampled for it.
        video_ids: names of the sequences of a list; default: their positions "0", "1", ...
        tolerance: double the iterations until the mean standard error of the predicted class is at most this share of
            its mean |ESV|; None: exactly `iterations`.
        max_iterations: limit for sequences that do not meet the tolerance.
        output: the attributed score: class probabilities, or logits before the softmax.
        batch: most sequences of equal length computed together; None: chosen by the length. Changes rounding only.
        memory_budget: bytes that the work may take; None: the free memory of the machine or device. `auto` samples
            sequences whose exact ESVs do not fit.

    Raises:
        DataError: features are not finite (n, D) with n >= 1, or values are invalid: scores that are not
            probabilities, standard errors that are not finite, ESVs that do not sum to scores - prior.
        SpecError: an estimator argument is out of its range, or the ESVs of a sequence do not fit in memory.
        ValueError: an argument has the wrong type, or ids do not match the sequences.
    """
    request = Estimator(estimator, m, iterations, seed, tolerance, max_iterations, output)
    _check_positive("batch", batch)
    _check_positive("memory_budget", memory_budget)
    single = isinstance(features, Tensor | np.ndarray)
    many: Sequence[Sequence2d] = [features] if single else features  # type: ignore[assignment,list-item]
    if video_id and not single:
        raise ValueError("video_id names one sequence; a list of sequences takes video_ids")
    ids = [video_id] if single else [str(i) for i in range(len(many))] if video_ids is None else list(video_ids)
    if len(ids) != len(many):
        raise ValueError(f"video_ids: expected {len(many)}, one per sequence, got {len(ids)}")
    budget = memory_budget if memory_budget is not None else spare_memory(model.device)
    sequences = [_checked(index, sequence, model, budget) for index, sequence in enumerate(many)]
    explanations = _explanations(Engine(model, request, memory_budget=budget, batch=batch), sequences, ids)
    return explanations[0] if single else explanations


def _explanations(engine: Engine, sequences: Sequence[Tensor], ids: Sequence[str]) -> list[Explanation]:
    """Compute the explanations of checked sequences (n, D), in their order.

    Raises:
        DataError: a sequence's values are outside their range.
        SpecError: a sequence does not fit in memory.
    """
    empty = engine.model.empty_value(engine.estimator.output)
    explanations: dict[int, Explanation] = {}
    lengths = [len(sequence) for sequence in sequences]
    for indices, result in engine.attributions(
        lengths, ids, lambda positions: torch.stack([sequences[i] for i in positions])
    ):
        if faults := _value_faults(engine.model, engine.estimator, result):
            row = min(faults)
            raise DataError(f"sequence {indices[row]}: {faults[row]}")
        for row, index in enumerate(indices):
            explanations[index] = Explanation(
                result.esv[row],
                None if result.stderr is None else result.stderr[row],
                result.scores[row],
                empty.to(result.scores, copy=True),
                result.evaluations,
                result.exact,
                result.iterations,
                None if result.met is None else bool(result.met[row]),
                None if result.spread is None else result.spread.take(torch.tensor([row])),
            )
    return [explanations[index] for index in range(len(sequences))]


def _check_positive(name: str, value: int | None) -> None:
    """Raise ValueError unless a value is a whole number >= 1, or None."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"{name}: expected a whole number >= 1 or None, got {value!r}")


def _value_faults(model: VideoModel, estimator: Estimator, result: Attribution) -> dict[int, str]:
    """Return why sequences of a batch have invalid values, by row (`output.ranges`)."""
    full = result.scores.cpu()  # (B, C)
    if model.scorer.probabilities:
        ranges = ranges_of(estimator.output, estimator.kind, torch.get_float32_matmul_precision())
        scores = full.softmax(dim=1) if ranges.in_logits else full
    else:  # a game of any values, whose sums may cancel: only finiteness is checked
        ranges, scores = Ranges(in_logits=True, efficient=False), None
    return value_faults(
        ranges,
        esv=result.esv.cpu().numpy(),
        stderr=None if result.stderr is None else result.stderr.cpu().numpy(),
        values=full.numpy(),
        empty=model.empty_value(estimator.output).cpu().numpy(),
        scores=None if scores is None else scores.numpy(),
        gaps=result.gaps.cpu().numpy(),
        exact=result.exact and model.scorer.probabilities,
    )


def _checked(index: int, sequence: Sequence2d, model: VideoModel, budget: int) -> Tensor:
    """Return a sequence (n, D) on the model's device in its dtype.

    Raises:
        DataError: it is not finite, real and (n, D) with n >= 1.
        SpecError: it is larger than the memory budget.
    """
    if isinstance(sequence, Tensor):
        real, kind = not sequence.is_complex(), str(sequence.dtype)
    else:
        sequence = np.asarray(sequence)
        real, kind = sequence.dtype.kind in "fiub", str(sequence.dtype)
    if not real:
        raise DataError(f"sequence {index}: features must be real numbers, got {kind}")
    shape = tuple(sequence.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != model.feature_dim:
        raise DataError(f"sequence {index}: features must be (n, {model.feature_dim}) with n >= 1, got {shape}")
    size = shape[0] * shape[1] * model.dtype.itemsize
    if size > budget:  # a broadcast array has any shape in no memory: check before copying it
        raise SpecError(
            f"sequence {index}: features {shape} take {format_bytes(size)} of memory, but only "
            f"{format_bytes(budget)} is available; sample frames"
        )
    if not isinstance(sequence, Tensor):
        # A copy in this machine's byte order: torch supports neither negative strides nor foreign byte orders.
        sequence = torch.from_numpy(np.array(sequence, dtype=sequence.dtype.newbyteorder("="), order="C"))
    tensor = sequence.to(model.device, model.dtype)
    if not tensor.isfinite().all():
        raise DataError(f"sequence {index}: features must be finite, got NaN or infinity")
    return tensor
