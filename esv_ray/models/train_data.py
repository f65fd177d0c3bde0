"""Training and validation videos: their tables, the split, and the classes without videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from esv_ray import storage
from esv_ray.core.keyed import derive_key, permutation
from esv_ray.errors import DataError, count_of
from esv_ray.input.features import Video
from esv_ray.input.files import list_files
from esv_ray.input.reasons import describe_reasons
from esv_ray.input.table_classes import check_same_classes, classes_of_table
from esv_ray.input.videos import VideoRequest, read_videos
from esv_ray.models.class_tables import few, read_classes
from esv_ray.spec import TrainSpec
from esv_ray.spec_columns import ColumnNames

MOST_INFERRED_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class TrainData:
    """Labelled videos of one training.

    Attributes:
        videos, held: training and validation videos.
        left_out: rows that broke the feature table's contract or had no label.
        n_classes: C.
        classes: C names, or None.
        notes: one line per omission or warning: rows, classes without a training video, ids in
            both tables.
    """

    videos: list[Video]
    held: list[Video]
    left_out: int
    n_classes: int
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_train_data(spec: TrainSpec) -> TrainData:
    """Read the tables of a training.

    Raises:
        DataError: no usable labelled videos, too few that are long enough for n_max, or validation on training videos.
        ModelError: the class names are invalid.
    """
    classes, notes = _class_names(spec)
    if isinstance(spec.validation, str):
        _check_other_files(spec.features, spec.validation, spec.columns)
    request = _request(spec, classes)
    videos, left_out = _labelled(spec.features, request)
    notes += _left_out(spec.features, left_out)
    if isinstance(spec.validation, str):
        held, held_left_out = _labelled(spec.validation, request)
        notes += _left_out(spec.validation, held_left_out)
        left_out += held_left_out
        notes += _shared_ids(spec.features, videos, spec.validation, held)
    else:
        videos, held = _split(videos, spec.validation, spec.seed)
    n_classes = _n_classes(spec, classes, videos, held)
    _check_lengths(spec, videos)
    _check_widths(spec, videos, held)
    data = TrainData(videos, held, left_out.total(), n_classes, classes, ())
    untrained = _untrained(data, spec.validation)
    if untrained and spec.n_classes is None and classes is None:
        untrained.append(_largest(data))
    return replace(data, notes=(*notes, *untrained))


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


def _labelled(url: str, request: VideoRequest) -> tuple[list[Video], Counter[str]]:
    """Read the usable videos of a table that have a label, and count the other rows by the reason."""
    videos, left_out = read_videos(url, request)
    usable = [video for video in videos if video.label is not None]
    if len(videos) > len(usable):
        left_out["no label"] += len(videos) - len(usable)
    if not usable:
        raise DataError(
            f"{url}: expected videos with labels to train on, found none in {left_out.total()} rows "
            f"({describe_reasons(left_out)})"
        )
    return usable, left_out


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


def _shared_ids(features: str, videos: Sequence[Video], validation: str, held: Sequence[Video]) -> list[str]:
    """Report how many videos are in both tables, by their ids.

    Raises:
        DataError: both tables hold the same videos.
    """
    by_id = {video.video_id: video for video in videos}
    both = [video for video in held if video.video_id in by_id]
    if not both:
        return []
    if len(both) == len(held) and all(_same(video, by_id[video.video_id]) for video in held):
        raise DataError(
            f"{validation}: expected videos that are not in {features}, but all {len(held)} of them are in it, "
            "with the same features; give another table, or a share to hold out such as validation=0.1"
        )
    return [
        f"{len(both)} of {len(held)} validation videos have an id that a training video has, too "
        f"({few([repr(video.video_id)[:60] for video in both])}): accuracies are too high if they are the same videos"
    ]


def _same(a: Video, b: Video) -> bool:
    return a.label == b.label and np.array_equal(a.features, b.features)


def _split(videos: list[Video], share: float, seed: int) -> tuple[list[Video], list[Video]]:
    """Hold out a share of every class, at least one video in all."""
    order = permutation(derive_key(seed, "split"), len(videos))
    by_class: dict[int, list[int]] = {}
    for index in order:
        by_class.setdefault(videos[index].label or 0, []).append(int(index))
    held: set[int] = set()
    for members in by_class.values():
        held.update(members[: round(share * len(members))])
    if not held:
        held = {int(order[0])}
    if len(held) == len(videos):
        raise DataError(
            f"validation: a share of {share:g} holds out all of the {len(videos)} labelled videos; give more videos, a "
            "smaller share, or another table"
        )
    return (
        [video for index, video in enumerate(videos) if index not in held],
        [video for index, video in enumerate(videos) if index in held],
    )


def _untrained(data: TrainData, validation: float | str) -> list[str]:
    """Report the classes that no head learns, since they have no training video."""
    trained = {video.label for video in data.videos}
    missing = [index for index in range(data.n_classes) if index not in trained]
    if not missing:
        return []
    held = {video.label for video in data.held}
    held_only = [index for index in missing if index in held]

    def shown(classes: Sequence[int]) -> str:
        names = data.classes
        return few([str(c) if names is None else f"{c} {names[c]!r:.60}" for c in classes[:10]])

    notes = [
        f"{len(missing)} of {data.n_classes} classes have no training video, so that their prior is 0 and no head "
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
    """Report the inferred number of classes, since a mark of unlabelled videos such as 255 counts as a label."""
    largest = data.n_classes - 1
    count = sum(video.label == largest for video in [*data.videos, *data.held])
    return (
        f"the number of classes, {data.n_classes}, is that of the largest label, {largest} ({count} videos); if it "
        "marks videos without a label, add it to `unlabelled` in the spec; otherwise give n_classes"
    )


def _n_classes(spec: TrainSpec, names: tuple[str, ...] | None, videos: Sequence[Video], held: Sequence[Video]) -> int:
    labels = {video.label or 0 for video in [*videos, *held]}
    largest, smallest = max(labels), min(labels)
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
            "expected videos of at least two classes, got one, 0: the probability of an only class is always 1; for a "
            "yes or no, label the videos 0 and 1"
        )
    if names is not None and len(names) != n_classes:
        raise DataError(f"{spec.classes}: expected {n_classes} class names (n_classes), got {len(names)}")
    for url, part in ((spec.features, videos), (spec.validation, held)):
        beyond = max(video.label or 0 for video in part)
        if beyond >= n_classes:
            location = url if isinstance(url, str) else spec.features
            raise DataError(f"{location}: expected labels 0..{n_classes - 1} ({n_classes} classes), got {beyond}")
    return n_classes


def _check_lengths(spec: TrainSpec, videos: Sequence[Video]) -> None:
    longest = max(len(video.features) for video in videos)
    if longest < spec.n_max:
        raise DataError(
            f"{spec.features}: a head of scale n_max = {spec.n_max} needs videos of at least {spec.n_max} frames, but "
            f"the longest has {longest}; set n_max to at most {longest}"
        )


def _check_widths(spec: TrainSpec, videos: Sequence[Video], held: Sequence[Video]) -> None:
    dim, held_dim = videos[0].features.shape[1], held[0].features.shape[1]
    if dim != held_dim:
        raise DataError(f"{spec.validation}: features must be (T, {dim}) as in {spec.features}, got (T, {held_dim})")
