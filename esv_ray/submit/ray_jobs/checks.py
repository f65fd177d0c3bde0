"""What a cluster must be able to do before a job of any kind runs on it: plan the job, and reach its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.files import list_files
from esv_ray.spec import JobSpec
from esv_ray.spec_extract import ExtractSpec
from esv_ray.spec_kinds import WorkSpec, kind_of
from esv_ray.spec_train import TrainSpec

_MOST_BYTES = 2**24


class Needed(NamedTuple):
    """A location that every node must reach.

    Attributes:
        url: the location.
        doing: what is tried, for the error: "read the model".
        is_folder: whether it is listed; else it must exist.
        is_read: whether it is read, as small files are.
    """

    url: str
    doing: str
    is_folder: bool = False
    is_read: bool = False


def check_plan(spec: WorkSpec, *, partitions: bool) -> Sequence[Needed]:
    """Check that a job could start here, and return what every node must reach.

    Args:
        spec: the job.
        partitions: whether its input is a folder of partitions, which are not listed.

    Raises:
        EsvError: it could not start.
    """
    if partitions:
        from esv_ray.attribution.partitions import check_partitions

        assert isinstance(spec, JobSpec), "other kinds have no partitions"
        check_partitions(spec)
        return [_model(spec), Needed(spec.features, "list the partitions", is_folder=True)]
    return _CHECKS[kind_of(spec).command](spec)


def _attribution(spec: WorkSpec) -> Sequence[Needed]:
    from esv_ray.attribution.planning import check_job

    assert isinstance(spec, JobSpec)
    return [_model(spec), Needed(check_job(spec).manifest.files[0].url, "read the features")]


def _extraction(spec: WorkSpec) -> Sequence[Needed]:
    from esv_ray.extraction.planning import check_extraction

    assert isinstance(spec, ExtractSpec)
    video = check_extraction(spec).units[0].clips[0].path
    weights = [Needed(each.weights, "read the weights") for each in spec.extractions if each.weights is not None]
    return [*weights, Needed(video, "read the videos")]


def _training(spec: WorkSpec) -> Sequence[Needed]:
    from esv_ray.training.planning import check_training

    assert isinstance(spec, TrainSpec)
    check_training(spec)
    tables = [url for url in (spec.features, spec.validation) if isinstance(url, str)]
    return [Needed(list_files(url, spec.columns)[0].url, "read the features") for url in tables]


_CHECKS: Mapping[str, Callable[[WorkSpec], Sequence[Needed]]] = {
    "attribute": _attribution,
    "extract": _extraction,
    "train": _training,
}
"""By the command of a kind of work."""


def _model(spec: JobSpec) -> Needed:
    return Needed(storage.join(spec.model, "model.json"), "read the model", is_read=True)


def check_reached(needed: Sequence[Needed]) -> None:
    """Check that this node reaches some locations.

    Raises:
        DataError: it does not reach one.
    """
    for each in needed:
        if each.is_read:
            storage.read_bytes(each.url, each.doing, most=_MOST_BYTES)
        elif each.is_folder:
            storage.list_folder(each.url, each.doing)
        elif not storage.exists(each.url):
            raise DataError(
                f"cannot {each.doing}: {each.url}: expected a file, found none here; is the location shared by all "
                "nodes?"
            )
