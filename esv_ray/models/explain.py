"""ESVs of sequences in memory: the Python interface, without Ray or tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from os import PathLike
from typing import overload

import torch
from torch import Tensor, nn

from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.games.images import OfImages
from esv_ray.core.games.model import VideoModel, variable_length_model
from esv_ray.errors import DataError, ModelError, SpecError, short_text
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.machine import spare_memory
from esv_ray.models.bundle import load_model
from esv_ray.models.explanation import Explanation
from esv_ray.models.probe import check_modules
from esv_ray.models.sequences import Array, Features, axes_of, check_sequence, split_sequences
from esv_ray.output.ranges import Ranges, ranges_of, value_faults

Model = VideoModel | nn.Module | str | PathLike[str]


@overload
def explain(
    model: Model,
    features: Array,
    *,
    prior: object = ...,
    code: str | Collection[str] | None = ...,
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
    model: Model,
    features: Sequence[Array],
    *,
    prior: object = ...,
    code: str | Collection[str] | None = ...,
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


@overload
def explain(
    model: Model,
    features: Sequence[Sequence[float]],
    *,
    prior: object = ...,
    code: str | Collection[str] | None = ...,
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


def explain(
    model: Model,
    features: Features,
    *,
    prior: object = None,
    code: str | Collection[str] | None = (),
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
        model: a loaded model (`load_model`), the location of a bundle, or a torch module (N, s, D) -> (N, C) that takes
            any s, with `prior`; the computation uses its device and dtype. A module of images gets (N, s, H, W, 3).
        features: (n, D) array, tensor or list of lists; a list of them; or a batch (B, n, D). For a model of
            images (n, H, W, 3) uint8, of clips (n, k, H, W, 3) uint8.
        prior: (C,) class prior of a torch module, its value of the empty sequence; an array, a tensor or a list.
        code: packages whose code may run to load a bundle (`load_model`).
        estimator: `exact`; `adjusted`, sampling with regression; `algorithm1`, the paper's sampling; `auto`: exact
            if that costs no more, else adjusted.
        m: maximum number of subsequences sampled per scale and iteration.
        iterations: repetitions of the sampling, pooled.
        seed: seed of the sampling.
        video_id: name of the sequence; with the seed, it determines which subsequences are sampled.
        video_ids: names of the sequences of a list; default: their positions "0", "1", ...
        tolerance: double the iterations until the mean standard error of the predicted class is at most this share of
            its mean |ESV|; None: exactly `iterations`.
        max_iterations: limit for sequences that do not meet the tolerance.
        output: the attributed score: class probabilities, or logits before the softmax.
        batch: maximum number of sequences of equal length computed together; None: chosen by the length. Changes
            rounding only.
        memory_budget: bytes that the work may take; None: the free memory of the machine or device. `auto` samples
            sequences whose exact ESVs do not fit.

    Returns:
        An `Explanation`, or a list of them for a list or a batch.

    Raises:
        DataError: features are not finite (n, D) with n >= 1, or values are invalid: scores that are not
            probabilities, standard errors that are not finite, ESVs that do not sum to scores - prior.
        ModelError: the model cannot be loaded, or a torch module fails, or is not deterministic.
        SpecError: another argument is invalid, or the ESVs of a sequence do not fit in memory.
    """
    try:
        request = Estimator(estimator, m, iterations, seed, tolerance, max_iterations, output)
    except ValueError as error:  # of another type
        raise SpecError(str(error)) from None
    _check_positive("batch", batch)
    _check_positive("memory_budget", memory_budget)
    model = _loaded(model, code)
    many, single = split_sequences(features, axes_of(model, features))
    if video_id and not single:
        raise SpecError("video_id names one sequence; several sequences take video_ids")
    ids = [video_id] if single else [str(i) for i in range(len(many))] if video_ids is None else list(video_ids)
    if len(ids) != len(many) or not all(isinstance(each, str) for each in ids):
        raise SpecError(f"video_ids: expected {len(many)} texts, one per sequence, got {ids!r:.80}")
    loaded = _video_model(model, prior, many)
    budget = memory_budget if memory_budget is not None else spare_memory(loaded.device)
    sequences = [check_sequence(index, sequence, loaded, budget) for index, sequence in enumerate(many)]
    explanations = _explanations(Engine(loaded, request, memory_budget=budget, batch=batch), sequences, ids)
    return explanations[0] if single else explanations


def _loaded(model: Model, code: str | Collection[str] | None) -> VideoModel | nn.Module:
    """Return a model of `explain`, loaded if it is the location of a bundle."""
    return load_model(model, code=code) if isinstance(model, str | PathLike) else model


def _video_model(model: object, prior: object, sequences: Sequence[Array]) -> VideoModel:
    """Return the model of `explain`.

    Raises:
        ModelError, SpecError: as `explain`.
    """
    if isinstance(model, nn.Module):
        if prior is None:
            raise SpecError("prior: expected the class prior (C,) of a torch module: its value of the empty sequence")
        return _of_module(model, prior, sequences)
    if prior is not None:
        raise SpecError("prior: goes with a torch module; a bundle has its own")
    if isinstance(model, VideoModel):
        return model
    raise SpecError(
        f"model: expected a loaded model, the location of a bundle, or a torch module, got {type(model).__name__}"
    )


def _of_module(module: nn.Module, prior: object, sequences: Sequence[Array]) -> VideoModel:
    """Return the model of a torch module, which is put into eval mode while it is used."""
    try:
        values = torch.as_tensor(prior, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"prior: expected (C,) probabilities, got {prior!r:.60} ({short_text(error, 100)})") from None
    shape = tuple(sequences[0].shape[1:]) if sequences else ()
    if len(shape) not in (1, 3) or 0 in shape:
        raise DataError("features: expected sequences (n, D), or uint8 images (n, H, W, 3)")
    called = module if len(shape) == 1 else OfImages(module, shape)
    made = variable_length_model(called, values, feature_dim=prod(shape))
    made = made.to(made.device)  # the prior, too
    try:
        check_modules(made, called, longest=None)
    except ModelError as error:  # its words are those of bundles, whose modules a factory makes
        raise ModelError(str(error).replace("factory: ", "model: ", 1)) from error.__cause__
    return made


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
                engine.model.classes,
                ids[index],
                engine.estimator.output,
                None if result.spread is None else result.spread.take(torch.tensor([row])),
            )
    return [explanations[index] for index in range(len(sequences))]


def _check_positive(name: str, value: int | None) -> None:
    """Raise SpecError unless a value is a whole number >= 1, or None."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SpecError(f"{name}: expected a whole number >= 1 or None, got {value!r}")


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
