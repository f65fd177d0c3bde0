"""Class priors of imported models: of a file, uniform, the labels of a table, or the mean output of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.core.workspace import Workspace
from esv_ray.errors import DataError, ModelError, SpecError, count_of
from esv_ray.input.features import Contract
from esv_ray.input.files import list_files
from esv_ray.input.frames import sample_frames
from esv_ray.input.images import check_elements
from esv_ray.input.label_counts import count_labels
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import read_rows
from esv_ray.input.reasons import describe_reasons
from esv_ray.input.table_classes import TableClasses, check_same_classes, classes_of_table
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import MOST_TABLE_BYTES, few, read_prior
from esv_ray.models.explain import explain

UNIFORM, LABELS, MODEL = "uniform", "labels:", "model:"
_ROWS = 256  # read at a time
_SHOWN = 3  # classes with the largest differences


def prior_of(
    source: str, model: Callable[[Tensor], VideoModel], n_classes: int, classes: Sequence[str] | None = None
) -> tuple[Tensor, list[str]]:
    """Return the prior of a source.

    Args:
        source: ``uniform``; ``labels:TABLE``: the share of each class in a feature table; ``model:TABLE``: the mean of
            the model's probabilities over the videos of a table (`mean_output`); otherwise the location of a CSV.
        model: returns the model with a prior.
        n_classes: C.
        classes: C names, which labels of a table and rows of a CSV may have in place of ids; None: names are not known.

    Returns:
        The prior, (C,) float64, and notes: what was counted or divided, and which classes have a prior of 0.

    Raises:
        ModelError: it is malformed, or not of C classes.
        DataError: a file or a table cannot be read, or has no usable video.
    """
    if source.casefold() == UNIFORM:
        return torch.full((n_classes,), 1 / n_classes, dtype=torch.float64), [f"1/{n_classes} for each class"]
    if source.startswith(LABELS):
        return _of_labels(_table_of(source, LABELS), n_classes, classes)
    if source.startswith(MODEL):
        return mean_output(_table_of(source, MODEL), model(torch.full((n_classes,), 1 / n_classes)))
    check_source(source)
    prior, notes = read_prior(source, classes)
    if len(prior) != n_classes:
        raise ModelError(
            f"{source}: expected a prior of {n_classes} classes, one for each output of the model, but the prior has "
            f"{len(prior)} classes"
        )
    return prior, [note.removeprefix("prior: ") for note in notes]


def check_source(source: str) -> None:
    """Check that the location of a CSV can be read, before anything slow; sources as for `prior_of`.

    Raises:
        ModelError: it does not exist, and is like another source.
        DataError: it cannot be read.
    """
    if source.casefold() == UNIFORM or source.startswith((LABELS, MODEL)):
        return
    near = get_close_matches(source.casefold(), [UNIFORM, LABELS, MODEL], n=1, cutoff=0.7)
    if near and not storage.exists(source):
        raise ModelError(
            f"prior: expected a CSV, {UNIFORM}, {LABELS}TABLE or {MODEL}TABLE, got {source!r:.80}, which does not "
            f"exist; did you mean {near[0]!r}?"
        )
    storage.read_bytes(source, "read the prior", most=MOST_TABLE_BYTES)


def _table_of(source: str, prefix: str) -> str:
    """Return the location of the table of a source.

    Raises:
        SpecError: there is none.
    """
    url = source.removeprefix(prefix)
    if not url.strip():
        raise SpecError(f"prior: expected {prefix}TABLE with the location of a feature table, got {source!r}")
    return url


def names_of_prior(source: str) -> TableClasses | None:
    """Return the class names beside the table whose labels are the source of a prior, or None.

    Raises:
        DataError: the table cannot be listed, or its folders hold several lists of names that differ.
    """
    if not source.startswith(LABELS):
        return None
    url = _table_of(source, LABELS)
    files = list_files(url)
    beside = classes_of_table(url, files)
    if not beside:
        return None
    check_same_classes(beside, beside[0].names, beside[0].url, files)
    return beside[0]


def check_names_of_prior(source: str, names: Sequence[str], place: str) -> None:
    """Check that labels of a table that are the source of a prior mean the classes of a model.

    Args:
        source: as for `prior_of`; of other sources nothing is checked.
        names: of the model's classes.
        place: where they are from, for the error.

    Raises:
        DataError: they mean other classes (`check_same_classes`).
    """
    if source.startswith(LABELS):
        url = _table_of(source, LABELS)
        files = list_files(url)
        check_same_classes(classes_of_table(url, files), names, place, files)


def difference(prior: Tensor, other: Tensor) -> str:
    """Describe how a second prior differs from a first one: total variation distance, and the classes that differ most.

    Args:
        prior: (C,) the first one.
        other: (C,) the second one.
    """
    gap = other - prior
    largest = [c for c in gap.abs().argsort(descending=True).tolist()[:_SHOWN] if gap[c]]
    shown = [f"class {c}: {float(prior[c]):.4g} -> {float(other[c]):.4g}" for c in largest]
    return f"total variation distance {float(gap.abs().sum() / 2):.4g}" + (f"; {', '.join(shown)}" if shown else "")


def _of_labels(url: str, n_classes: int, classes: Sequence[str] | None) -> tuple[Tensor, list[str]]:
    counts, left_out = count_labels(url, n_classes, classes)
    total = int(counts.sum())
    if not total:
        raise DataError(
            f"{url}: expected videos with labels, got none in {left_out.total()} rows ({describe_reasons(left_out)})"
        )
    zeros = np.flatnonzero(counts == 0).tolist()
    notes = [f"labels of {count_of(total, 'video')}", *_left_out(left_out)]
    if zeros:
        notes.append(f"prior of 0 for {len(zeros)} of {n_classes} classes: {few(zeros)}")
    return torch.from_numpy(counts).double() / total, notes


def mean_output(url: str, model: VideoModel) -> tuple[Tensor, list[str]]:
    """Return the mean over videos of the model's probabilities of the full sequence.

    A multi-scale model gets min(T, n_max) frames, evenly sampled; any other model all T frames of a video, or as many
    as it takes.

    Args:
        url: a feature table; it needs no labels.
        model: its prior is of no effect, except on sequences shorter than each head, which are left out.

    Returns:
        (C,) float64, and notes.

    Raises:
        DataError: the table cannot be read, or has no usable video.
        ModelError: the outputs of the model are no probabilities.
    """
    if not model.scorer.probabilities:
        raise ModelError(f"prior {MODEL}{url}: expected a model with probabilities")
    left_out: Counter[str] = Counter()
    total, count = torch.zeros(model.n_classes, dtype=torch.float64), 0
    footers = read_footers(list_files(url))
    check_elements(footers, model.shape, url, "to be imported")
    dtype = np.float32 if model.shape is None else np.uint8
    reader = UnitReader(Contract(model.feature_dim, INT32_MAX, dtype), host_memory())  # labels play no part
    shortest = 1 if model.scales is None else model.scales.shortest
    for unit in plan_units(footers, _ROWS):
        rows = read_rows(unit, reader)
        left_out.update(rows.faults.values())
        for row in rows.valid:
            length = int(rows.n_frames[row])
            if length < shortest:
                left_out[f"fewer than {shortest} frames"] += 1
                continue
            most = model.n_max if isinstance(model.scorer, MultiScale) else model.scorer.longest
            n = min(length, most or length)
            places = sample_frames(np.array([length]), n)
            features = torch.from_numpy(np.array(rows.features(np.array([row]), places)[0]))
            total += _probabilities(model, features).double()
            count += 1
    if not count:
        raise DataError(f"{url}: expected videos, got none in {left_out.total()} rows ({describe_reasons(left_out)})")
    mean = total / total.sum()
    return mean, [f"mean output over {count_of(count, 'video')}", *_left_out(left_out)]


@torch.no_grad()
def _probabilities(model: VideoModel, features: Tensor) -> Tensor:
    """Return (C,): class probabilities of a sequence (n, D)."""
    if isinstance(model.scorer, MultiScale):
        return explain(model, features, estimator="exact").scores
    n, scorer = len(features), model.scorer
    elements = scorer.embed(features[None].to(model.element_dtype)).transpose(0, 1).contiguous()  # (n, 1, D')
    workspace = Workspace(model.device, model.dtype)
    prepared = scorer.prepare(elements, n, workspace)
    out = workspace.empty((1, 1, scorer.columns(model.n_classes)))
    scorer.scores(prepared, torch.arange(n)[None, None], workspace.zeros((n + 1, 1)) + 1, out)
    scores = out[0, 0, : model.n_classes]
    return scores.softmax(dim=0) if scorer.softmax else scores


def _left_out(left_out: Counter[str]) -> list[str]:
    return [f"{count_of(left_out.total(), 'row')} left out ({describe_reasons(left_out)})"] if left_out else []
