"""ESVs of sequences in memory: the Python face, without Ray or tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator, Kind, Output
from esv_ray.core.exact.attribution import Attribution
from esv_ray.core.games.model import VideoModel
from esv_ray.core.memory import in_words
from esv_ray.core.spread import Spread
from esv_ray.errors import DataError, SpecError
from esv_ray.machine import spare_memory
from esv_ray.output.ranges import Ranges, ranges_of, value_faults

Sequence2d = Tensor | npt.NDArray[np.floating]


class Contrast(NamedTuple):
    """Class-contrastive ESVs of one sequence of n elements.

    Attributes:
        esv: (n,) how much more each element contributed to one class than to the other.
        stderr: (n,) their standard errors, errors that both classes share taken into account; None when exact, or from
            a single iteration of Algorithm 1.
    """

    esv: Tensor
    stderr: Tensor | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """ESVs of one sequence of n elements.

    Attributes:
        esv: (n, C) how much each element contributed to each class score, in probability or in logits.
        stderr: (n, C) standard errors; None when exact, from a single iteration of Algorithm 1, or from fewer than 16
            subsequences a length.
        scores: (C,) value of the full sequence, class probabilities or logits; where sampled an estimate.
        prior: (C,) value of the empty sequence; the ESVs of a class sum to scores - prior.
        evaluations: head evaluations spent.
        exact: whether every subsequence was looked at.
        iterations: of the sampling; 0 when exact.
        tolerance_met: whether the predicted class met the tolerance; None without one.
        spread: what the standard errors are made of (`contrast`); None without.
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
        """Class-contrastive ESVs (Price & Damen 2020): those of class a less those of class b.

        Raises:
            ValueError: there is no such class.
        """
        n_classes = self.esv.shape[1]
        for given in (a, b):
            if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < n_classes:
                raise ValueError(f"class: expected 0..{n_classes - 1}, got {given!r}")
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
    """ESVs of one sequence, or of a list of sequences of any lengths; every element is used as it is.

    Args:
        model: a loaded model (`load_model`); its device and dtype are followed.
        features: (n, D) array or tensor, or a list of them.
        estimator: `exact`; `adjusted`, sampling with regression; `algorithm1`, the paper's sampling; `auto`: exact
            where it costs no more, else adjusted.
        m: most subsequences sampled per scale and iteration.
        iterations: repetitions of the sampling, pooled.
        seed: of the sampling.
        video_id: names the sequence: with the seed it fixes what is sampled for it.
        video_ids: the same for a list; default: its positions "0", "1", ...
        tolerance: double the iterations until the mean standard error of the predicted class is at most this share of
            its mean |ESV|; None: as many as asked.
        max_iterations: at which a sequence with a tolerance is given up.
        output: what the ESVs divide: class probabilities, or logits before the softmax.
        batch: most sequences of equal length computed together; None: chosen by the length. Changes rounding only.
        memory_budget: bytes that the work may take; None: what the machine or device has to spare. `auto` samples
            what does not fit.

    Raises:
        DataError: features that are not finite (n, D) with n >= 1, or values that are not sense: scores that are not
            probabilities, standard errors that are not finite, ESVs that do not sum to scores - prior.
        SpecError: the ESVs of that many elements do not fit in memory.
    """
    if output not in get_args(Output):
        raise ValueError(f"output: expected 'probability' or 'logit', got {output!r}")
    for name, value in (
        ("m", m),
        ("iterations", iterations),
        ("seed", seed),
        ("max_iterations", max_iterations),
        ("batch", batch or 0),
        ("memory_budget", memory_budget or 0),
    ):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}: expected a whole number, got {value!r}")
    if tolerance is not None and (isinstance(tolerance, bool) or not isinstance(tolerance, int | float)):
        raise ValueError(f"tolerance: expected a number or None, got {tolerance!r}")
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
    budget = memory_budget if memory_budget is not None else spare_memory(model.device)
    sequences = [_checked(index, sequence, model, budget) for index, sequence in enumerate(many)]
    results: dict[int, Explanation] = {}
    asked = Estimator(estimator, m, iterations, seed, tolerance, max_iterations, output)
    engine = Engine(model, asked, memory_budget=budget, batch=batch)
    empty = model.value_of_nothing(output)
    lengths = [len(sequence) for sequence in sequences]
    for indices, found in engine.attributions(lengths, ids, lambda some: torch.stack([sequences[i] for i in some])):
        if faults := _value_faults(model, asked, found):
            row = min(faults)
            raise DataError(f"sequence {indices[row]}: {faults[row]}")
        for row, index in enumerate(indices):
            results[index] = Explanation(
                found.esv[row],
                None if found.stderr is None else found.stderr[row],
                found.scores[row],
                empty.to(found.scores, copy=True),
                found.evaluations,
                found.exact,
                found.iterations,
                None if found.met is None else bool(found.met[row]),
                None if found.spread is None else found.spread.take(torch.tensor([row])),
            )
    ordered = [results[index] for index in range(len(many))]
    return ordered[0] if single else ordered


def _value_faults(model: VideoModel, asked: Estimator, found: Attribution) -> dict[int, str]:
    """Why sequences of a batch have values that are not sense (`tables.ranges`)."""
    full = found.scores.cpu()  # (B, C)
    if model.scorer.softmax:
        ranges = ranges_of(asked.output, asked.kind, torch.get_float32_matmul_precision())
        scores = full.softmax(dim=1) if ranges.in_logits else full
    else:  # a game of any values, which may cancel in its sums: they are asked to be finite
        ranges, scores = Ranges(in_logits=True, efficient=False), None
    return value_faults(
        ranges,
        esv=found.esv.cpu().numpy(),
        stderr=None if found.stderr is None else found.stderr.cpu().numpy(),
        values=full.numpy(),
        empty=model.value_of_nothing(asked.output).cpu().numpy(),
        scores=None if scores is None else scores.numpy(),
        gaps=found.gaps.cpu().numpy(),
        exact=found.exact and model.scorer.softmax,
    )


def _checked(index: int, sequence: Sequence2d, model: VideoModel, budget: int) -> Tensor:
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
    if size > budget:  # one number may be shown as an array of any shape
        raise SpecError(
            f"sequence {index}: features {shape} take {in_words(size)} of memory, {in_words(budget)} is to be had; "
            "sample frames"
        )
    if not isinstance(sequence, Tensor):
        # A copy in this machine's byte order: torch takes neither negative strides nor foreign order.
        sequence = torch.from_numpy(np.array(sequence, dtype=sequence.dtype.newbyteorder("="), order="C"))
    tensor = sequence.to(model.device, model.dtype)
    if not tensor.isfinite().all():
        raise DataError(f"sequence {index}: features must be finite, got NaN or infinity")
    return tensor
