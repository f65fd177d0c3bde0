"""Training and validation videos: their tables, the split, and the classes without videos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from esv_ray import storage
from esv_ray.core.keyed import derive_key, permutation
from esv_ray.errors import DataError, count_of
from esv_ray.input.files import list_files
from esv_ray.input.reasons import describe_reasons
from esv_ray.input.table_classes import check_same_classes, classes_of_table
from esv_ray.input.videos import VideoRequest
from esv_ray.models.class_tables import few, read_classes
from esv_ray.spec_columns import ColumnNames
from esv_ray.spec_train import TrainSpec
from esv_ray.training.index import Int64Array, LabeledRows, TableIndex, UInt64Array, read_index

MOST_INFERRED_CLASSES = 100_000
MOST_OF_F = 20_000
"""Validation videos on which F is evaluated; of more, a random choice."""


@dataclass(frozen=True, eq=False)
class TrainData:
    """Labeled videos of one training.

    Attributes:
        training, held: training and validation videos.
        left_out: rows that broke the feature table's contract or had no label.
        n_classes: C.
        classes: C names, or None.
        notes: one line per omission or warning: rows, classes without a training video, ids in
            both tables.
        weights: C weights of the loss, or None.
    """

    training: LabeledRows
    held: LabeledRows
    left_out: int
    n_classes: int
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]
    weights: tuple[float, ...] | None = None

    @property
    def feature_dim(self) -> int:
        """D."""
        return self.training.contract.feature_dim

    @property
    def counts(self) -> tuple[int, ...]:
        """Training videos of each class, (C,)."""
        return tuple(np.bincount(self.training.labels, minlength=self.n_classes).tolist())

    def checksum(self) -> str:
        """Return a hash of the videos and the names of the classes, wherever the tables lie."""
        parts = (self.training.checksum(), self.held.checksum(), self.n_classes, self.classes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def read_train_data(spec: TrainSpec) -> TrainData:
    """Read the tables of a training once, and keep an index of them.

    Raises:
        DataError: no usable labeled videos, too few that are long enough for n_max, or validation on training videos.
        ModelError: the class names are invalid.
    """
    classes, notes = _class_names(spec)
    if isinstance(spec.validation, str):
        _check_other_files(spec.features, spec.validation, spec.columns)
    request = _request(spec, classes)
    by_table = isinstance(spec.validation, str)
    index = _labeled(spec.features, request, contents=by_table)
    left_out = index.left_out
    notes += _left_out(spec.features, left_out)
    if isinstance(spec.validation, str):
        training = index.rows
        other = _labeled(spec.validation, request, index.ids, contents=True)
        held = other.rows
        notes += _left_out(spec.validation, other.left_out)
        left_out += other.left_out
        notes += _shared_ids(spec.features, index, spec.validation, other)
    else:
        training, held = _split(index.rows, spec.validation, spec.seed)
    n_classes = _n_classes(spec, classes, training, held)
    _check_lengths(spec, training)
    _check_widths(spec, training, held)
    data = TrainData(training, held, left_out.total(), n_classes, classes, ())
    untrained = _untrained(data, spec.validation)
    if untrained and spec.n_classes is None and classes is None:
        untrained.append(_largest(data))
    return replace(data, notes=(*notes, *untrained), weights=_weights(spec, data))


def _weights(spec: TrainSpec, data: TrainData) -> tuple[float, ...] | None:
    """Return the weights of the classes; `balanced`: those of the classes with videos sum to their number of videos."""
    if spec.class_weights is None:
        return None
    if spec.class_weights == "balanced":
        present = sum(count > 0 for count in data.counts)
        return tuple(len(data.training) / (present * count) if count else 1.0 for count in data.counts)
    weights = tuple(float(weight) for weight in spec.class_weights)
    if len(weights) != data.n_classes:
        raise DataError(f"class_weights: expected {data.n_classes} numbers, one per class, got {len(weights)}")
    for part, rows in (("training", data.training), ("validation", data.held)):
        if not np.asarray(weights)[rows.labels].any():
            raise DataError(
                f"class_weights: the weight of every {part} video is 0; give a weight above 0 to one of their classes"
            )
    return weights


def _class_names(spec: TrainSpec) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return the class names, those beside the features where none are given, and notes.

    Raises:
        DataError: those beside the features, or beside the validation table, are others.
    """
    files = list_files(spec.features, spec.columns)
    beside = classes_of_table(spec.features, files)
    names, notes, place = None, list[str](), spec.classes
    if spec.classes is not None:
        names, notes = read_classes(spec.classes)
    elif beside:
        place, names = beside[0]
        if spec.n_classes is not None and len(names) < spec.n_classes:
            return None, [f"{place}: {len(names)} class names, fewer than n_classes = {spec.n_classes}, are not used"]
        names = names[: spec.n_classes]
        notes = [f"names of {len(names)} classes: {place}"]
    if names is None or place is None:
        return None, []
    check_same_classes(beside, names, place, files)
    if isinstance(spec.validation, str):
        held = list_files(spec.validation, spec.columns)
        check_same_classes(classes_of_table(spec.validation, held), names, place, held)
    return names, notes


def _request(spec: TrainSpec, classes: tuple[str, ...] | None) -> VideoRequest:
    return VideoRequest(
        columns=spec.columns,
        feature_dim=spec.feature_dim,
        classes=classes,
        unlabelled=spec.unlabelled,
        dim_advice="give it as feature_dim",
        names_advice="give them as classes, a CSV file with the header name,id",
    )


def _labeled(
    url: str, request: VideoRequest, other: UInt64Array | None = None, *, contents: bool = False
) -> TableIndex:
    """Index the usable videos of a table that have a label."""
    index = read_index(url, request, other, contents=contents)
    if not len(index.rows):
        raise DataError(
            f"{url}: expected videos with labels to train on, found none in {index.left_out.total()} rows "
            f"({describe_reasons(index.left_out)})"
        )
    return index


def _left_out(url: str, left_out: Counter[str]) -> list[str]:
    return [f"{url}: {count_of(left_out.total(), 'row')} left out ({describe_reasons(left_out)})"] if left_out else []


def _check_other_files(features: str, validation: str, columns: ColumnNames) -> None:
    """Refuse a validation table that shares a file with the training table, however the locations are spelled.

    Raises:
        DataError: a file is in both.
    """
    training = {storage.identity(file.url): file.url for file in list_files(features, columns)}
    files = [file.url for file in list_files(validation, columns)]
    shared = [url for url in files if storage.identity(url) in training]
    if shared:
        same = training[storage.identity(shared[0])]
        raise DataError(
            f"{validation}: expected a validation table that shares no file with {features}, got {len(shared)} of its "
            f"{len(files)} files in both ({shared[0]}"
            + (f" is {same}" if same != shared[0] else "")
            + "); give another "
            "table, or a share to hold out such as validation=0.1"
        )


def _shared_ids(features: str, training: TableIndex, validation: str, held: TableIndex) -> list[str]:
    """Report how many videos are in both tables, by their ids.

    Raises:
        DataError: both tables hold the same videos.
    """
    count, names = held.shared
    if not count:
        return []
    if count == len(held.rows) and _same(training, held):
        raise DataError(
            f"{validation}: expected videos that are not in {features}, but all {count} of them are in it, "
            "with the same features; give another table, or a share to hold out such as validation=0.1"
        )
    more = [repr(name)[:60] for name in names] + ["..."] * (count > len(names))
    return [
        f"{count} of {len(held.rows)} validation videos have the id of a training video "
        f"({', '.join(more)}): accuracies are too high if they are the same videos"
    ]


def _same(training: TableIndex, held: TableIndex) -> bool:
    """Return whether all validation videos are training videos of the same id, features and label."""
    order = np.argsort(training.ids)
    place = order[np.searchsorted(training.ids, held.ids, sorter=order)]  # all of the ids are there
    return bool((training.content[place] == held.content).all())


def _split(rows: LabeledRows, share: float, seed: int) -> tuple[LabeledRows, LabeledRows]:
    """Hold out a share of every class, at least one video in all."""
    order = permutation(derive_key(seed, "split"), len(rows))
    is_held = np.zeros(len(rows), bool)
    by_class = order[np.argsort(rows.labels[order], kind="stable")]
    counts = np.unique(rows.labels, return_counts=True)[1].tolist()
    start = 0
    for count in counts:
        is_held[by_class[start : start + round(share * count)]] = True
        start += count
    if not is_held.any():
        is_held[order[0]] = True
    if is_held.all():
        raise DataError(
            f"validation: a share of {share:g} holds out all of the {len(rows)} labeled videos; give more videos, a "
            "smaller share, or another table"
        )
    return rows.take(np.flatnonzero(~is_held)), rows.take(np.flatnonzero(is_held))


def places_of_f(held: int, seed: int) -> Int64Array:
    """Return the numbers of the validation videos on which F is evaluated, ascending."""
    if held <= MOST_OF_F:
        return np.arange(held)
    return np.sort(permutation(derive_key(seed, "train", "F"), held)[:MOST_OF_F])


def _untrained(data: TrainData, validation: float | str) -> list[str]:
    """Report the classes that no head learns, since they have no training video."""
    trained = set(np.unique(data.training.labels).tolist())
    missing = [index for index in range(data.n_classes) if index not in trained]
    if not missing:
        return []
    held = set(np.unique(data.held.labels).tolist())
    held_only = [index for index in missing if index in held]

    def shown(classes: Sequence[int]) -> str:
        names = data.classes
        return few([str(c) if names is None else f"{c} {names[c]!r:.60}" for c in classes[:10]])

    notes = [
        f"{len(missing)} of {data.n_classes} classes have no training video, so their prior is 0 and no head "
        f"learns them: {shown(missing)}"
    ]
    if held_only:
        holder = "the validation table has" if isinstance(validation, str) else "validation took"
        notes.append(
            f"of these, {holder} all videos of {len(held_only)}: {shown(held_only)}; give more videos of them, or "
            "another validation share, seed or table"
        )
    return notes


def _largest(data: TrainData) -> str:
    """Report the inferred number of classes, since a mark of unlabeled videos such as 255 counts as a label."""
    largest = data.n_classes - 1
    count = sum(int((rows.labels == largest).sum()) for rows in (data.training, data.held))
    return (
        f"the number of classes, {data.n_classes}, follows from the largest label, {largest} ({count} videos); if it "
        "marks videos without a label, add it to `unlabelled` in the spec; otherwise give n_classes"
    )


def _n_classes(spec: TrainSpec, names: tuple[str, ...] | None, training: LabeledRows, held: LabeledRows) -> int:
    labels = np.concatenate([training.labels, held.labels])
    largest, smallest = int(labels.max()), int(labels.min())
    if spec.n_classes is None and names is None and smallest > 0:
        raise DataError(
            f"{spec.features}: expected labels that count classes from 0, got labels from {smallest} to {largest}; "
            f"number the classes from 0; if the first ones have no video, give n_classes (at least {largest + 1}) or "
            "classes"
        )
    if spec.n_classes is None and names is None and largest >= MOST_INFERRED_CLASSES:
        raise DataError(f"the largest label is {largest}; give n_classes if there really are so many classes")
    n_classes = spec.n_classes or (len(names) if names else largest + 1)
    if n_classes == 1:
        raise DataError(
            "expected videos of at least two classes, got only class 0: the probability of a single class is always 1; "
            "for a yes/no question, label the videos 0 and 1"
        )
    if names is not None and len(names) != n_classes:
        raise DataError(f"{spec.classes}: expected {n_classes} class names (n_classes), got {len(names)}")
    for url, part in ((spec.features, training), (spec.validation, held)):
        beyond = int(part.labels.max())
        if beyond >= n_classes:
            location = url if isinstance(url, str) else spec.features
            raise DataError(f"{location}: expected labels 0..{n_classes - 1} ({n_classes} classes), got {beyond}")
    return n_classes


def _check_lengths(spec: TrainSpec, training: LabeledRows) -> None:
    longest = int(training.lengths.max())
    if longest < spec.n_max:
        raise DataError(
            f"{spec.features}: a head of scale n_max = {spec.n_max} needs videos of at least {spec.n_max} frames, but "
            f"the longest has {longest}; set n_max to at most {longest}"
        )
    enough = int((training.lengths >= spec.n_max).sum())
    if spec.batch_norm and spec.hidden_dims and enough < 2:
        raise DataError(
            f"{spec.features}: batch_norm needs at least two videos of {spec.n_max} frames or more, got {enough}; "
            "set batch_norm to false or lower n_max"
        )


def _check_widths(spec: TrainSpec, training: LabeledRows, held: LabeledRows) -> None:
    dim, held_dim = training.contract.feature_dim, held.contract.feature_dim
    if dim != held_dim:
        raise DataError(f"{spec.validation}: features must be (T, {dim}) as in {spec.features}, got (T, {held_dim})")
