"""What a job will take, before it runs: work, bytes, memory and time, and whether it could run at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch

from esv_ray import storage
from esv_ray.attribution.planning import check_job, memory_budget, runs_here
from esv_ray.core.games.model import VideoModel
from esv_ray.forecast.io import (
    Partition,
    Written,
    classes_of,
    partitions_of,
    read_seconds,
    reading_bytes,
    unread,
    write_seconds,
    written,
)
from esv_ray.forecast.lengths import Lengths, RepeatedIds, lengths_by_footers, lengths_by_rows, repeated_ids
from esv_ray.forecast.measure import measure_here
from esv_ray.forecast.throughput import Figures, other_sizes, pace_of
from esv_ray.forecast.work import LengthWork, all_stages, work_by_length
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.units import Unit
from esv_ray.job.resources import capacity, shape_of, this_machine
from esv_ray.output.committed import committed_units
from esv_ray.spec import JobSpec, with_memory_budget

_START_S = 8.0  # until the first actor of a Ray runtime on this machine has loaded a small model


@dataclass(frozen=True)
class Actors:
    """Who does the work.

    Attributes:
        asked: by the spec, or as many as this machine holds.
        at_work: of them, those that have a unit to do.
        at_once: of those, how many this machine's cores or GPUs carry at a time; at_work on a cluster.
        device: `cpu` or `cuda`.
        threads: of each.
        ray: whether there is a Ray runtime to start.
    """

    asked: int
    at_work: int
    at_once: int
    device: str
    threads: int
    ray: bool


@dataclass(frozen=True)
class Length:
    """A length and how long a video of it takes; the rest as of `LengthWork`."""

    work: LengthWork
    video_s: float
    video_most_s: float
    figure: str


@dataclass(frozen=True)
class Time:
    """Seconds expected for what is left.

    Attributes:
        seconds: until the job has ended; seconds_most: where no video meets its tolerance.
        compute_s, read_s, write_s: of one actor that does it all; reading and writing overlap with compute.
        plans_s: to build plans, once a machine.
        start_s: of the runtime.
    """

    seconds: float
    seconds_most: float
    compute_s: float
    read_s: float
    write_s: float
    plans_s: float
    start_s: float


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a job will take.

    Attributes:
        spec: the job, with its memory budget.
        resumed: whether the output holds this job already.
        partitions: row groups of the feature table.
        files: its number of files.
        units, left: all units, and those not yet committed.
        lengths: frames of its videos.
        feature_dim, labelled: D, and whether there are labels.
        skipped: videos that are skipped at some length.
        by_length: the work.
        written: bytes and rows of what is left.
        reading: bytes of memory for reading.
        actors: who does it.
        time: how long.
        create_only: whether the output refuses a second creation; None: nothing is left to be written.
        ids: those that repeat; None: not looked for.
        figures: that the time is from.
        scaled: whether they are of a model of other sizes.
    """

    spec: JobSpec
    resumed: bool
    partitions: tuple[Partition, ...]
    files: int
    units: tuple[Unit, ...]
    left: tuple[Unit, ...]
    lengths: Lengths
    feature_dim: int
    labelled: bool
    skipped: int
    by_length: tuple[Length, ...]
    written: Written
    reading: int
    actors: Actors
    time: Time
    create_only: bool | None
    ids: RepeatedIds | None
    figures: Figures
    scaled: bool

    @property
    def work_bytes(self) -> int:
        """Memory of the largest batch, its plan included."""
        return max((one.work.memory for one in self.by_length), default=0)

    def total(self, *, most: bool = False, left: bool = False) -> int:
        """Head evaluations of all videos."""
        return sum(
            (one.work.left if left else one.work.videos) * (one.work.evaluations_most if most else one.work.evaluations)
            for one in self.by_length
        )


def forecast(
    spec: JobSpec,
    *,
    figures: Figures | None = None,
    actors: int | None = None,
    read_lengths: bool = False,
    check_ids: bool = False,
) -> Forecast:
    """What a job will take. Writes nothing but an object that tells whether the output is create-only, and removes it.

    Args:
        spec: the job (`load_spec`).
        figures: of another run (`bench.report.read_figures`); None: the model is measured here, for at most 8 s.
        actors: in place of the spec's, as `cluster.actors`.
        read_lengths: read the features column for the length of every video; else footers tell row groups' means.
        check_ids: read the video_id columns for ids that repeat.

    Raises:
        EsvError: the request is wrong, as `run_job` would say; or the figures cannot be compared with.
    """
    if figures is not None and spec.cluster.address is None:  # of the machines that will do it, not of this one
        spec = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"address": "auto"})})
    if actors is not None:
        spec = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"actors": actors})})
    checked = check_job(spec)
    manifest = checked.manifest
    spec = with_memory_budget(spec, manifest.memory_budget or memory_budget(spec))
    footers = read_footers(manifest.files)
    done = {unit.index for unit in committed_units(spec.output, manifest.units)}
    left = tuple(unit for unit in manifest.units if unit.index not in done)
    at = _actors(spec, len(left))
    model = checked.model.to(at.device, getattr(torch, spec.compute.dtype))
    budget = spec.compute.memory_budget
    assert budget != "auto", "fixed above"
    if read_lengths:
        lengths = lengths_by_rows(manifest.files, footers, left, budget)
    else:
        lengths = lengths_by_footers(manifest.files, footers, model.feature_dim, left)
    work, skipped = work_by_length(spec, model, lengths)
    create_only = storage.creates_only(spec.output) if left else None
    figures = figures or measure_here(spec, model, all_stages([one for one in work if one.left]))
    paced = _paced(work, len(left), figures, model)
    partitions, labelled = partitions_of(spec, manifest.files, footers), has_labels(footers)
    told = written(work, left, classes_of(spec, model.n_classes, labelled), model.n_classes)
    return Forecast(
        spec=spec,
        resumed=checked.planned,
        partitions=tuple(partitions),
        files=len(manifest.files),
        units=manifest.units,
        left=left,
        lengths=lengths,
        feature_dim=model.feature_dim,
        labelled=labelled,
        skipped=skipped,
        by_length=paced,
        written=told,
        reading=reading_bytes(partitions, left),
        actors=at,
        time=_time(spec, paced, at, len(left), read_seconds(unread(partitions, left), spec.features), told),
        create_only=create_only,
        ids=repeated_ids(manifest.files, budget) if check_ids else None,
        figures=figures,
        scaled=other_sizes(figures, model),
    )


def _actors(spec: JobSpec, units: int) -> Actors:
    node, asked = this_machine(), spec.cluster.actors
    shape = shape_of(spec.cluster, spec.compute.threads, [node])
    here = runs_here(spec)
    room = max(1, capacity([node], shape))
    wanted = 1 if here else room if asked == "auto" else asked
    at_work = max(1, min(wanted, units))
    at_once = at_work if spec.cluster.address is not None else min(at_work, room)
    device = shape.device if node["GPU"] else "cpu"  # what is measured is measured here
    return Actors(wanted, at_work, at_once, device, shape.cpus, not here)


def _paced(work: Sequence[LengthWork], units: int, figures: Figures, model: VideoModel) -> tuple[Length, ...]:
    pace, told = pace_of(figures, model), []
    for one in work:
        rows = one.left / max(1, units)
        paced = [pace(stage, one.together(index, rows)) for index, stage in enumerate(one.stages)] if one.left else []
        seconds = [time for time, _ in paced]
        told.append(Length(one, sum(seconds[:1]), sum(seconds), paced[0][1] if paced else ""))
    return tuple(told)


def _time(spec: JobSpec, by_length: Sequence[Length], actors: Actors, units: int, read_s: float, told: Written) -> Time:
    if not units:
        return Time(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    compute_s = sum(one.video_s * one.work.left for one in by_length)
    most_s = sum(one.video_most_s * one.work.left for one in by_length)
    plans_s = sum(stage.plan_s for one in by_length if one.work.left for stage in one.work.stages[:1])
    write_s, start_s = write_seconds(told, spec.output), _START_S if actors.ray else 0.0
    # The last round has work for some actors only; reading and writing go on meanwhile.
    share = ceil(units / actors.at_once) / units
    seconds, seconds_most = (
        start_s + plans_s + max(compute, read_s + write_s) * share for compute in (compute_s, most_s)
    )
    return Time(seconds, seconds_most, compute_s, read_s, write_s, plans_s, start_s)
