"""Estimate the work, bytes, memory and time of a job before it runs, and check that it can run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch

from esv_ray import storage
from esv_ray.attribution.checks import runs_here
from esv_ray.attribution.planning import check_job, memory_budget
from esv_ray.core.games.model import VideoModel
from esv_ray.forecast.actors import actors_of
from esv_ray.forecast.further import extra_seconds
from esv_ray.forecast.io import (
    OutputSize,
    RowGroup,
    class_counts,
    output_size,
    read_seconds,
    reading_bytes,
    row_groups_of,
    unread,
    write_seconds,
)
from esv_ray.forecast.lengths import lengths_from_footers, lengths_from_rows, repeated_ids
from esv_ray.forecast.measure import measure_here
from esv_ray.forecast.passes import passes_of
from esv_ray.forecast.records import Actors, Forecast, LengthEstimate, TimeEstimate
from esv_ray.forecast.throughput import Timings, has_other_sizes, time_per_video
from esv_ray.forecast.work import LengthWork, all_stages, work_by_length
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import ReportFiles, read_footers
from esv_ray.input.units import Unit
from esv_ray.output.committed import committed_units
from esv_ray.output.manifest import Manifest
from esv_ray.spec import JobSpec, with_memory_budget

START_S = 8.0
"""Seconds until the first actor of a Ray runtime on this machine has loaded a small model."""


def forecast(
    spec: JobSpec,
    *,
    timings: Timings | None = None,
    actors: int | None = None,
    read_lengths: bool = False,
    check_ids: bool = False,
    report: ReportFiles = lambda done, total: None,
) -> Forecast:
    """Estimate the work, bytes, memory and time of a job.

    Writes nothing but a probe object, which shows whether the output is create-only, and removes it.

    Args:
        spec: the job (`load_spec`).
        timings: measurements of another run (`bench.report.read_timings`); None: measure here, for at most 8 s.
        actors: number of actors, instead of the spec's ``cluster.actors``.
        read_lengths: read the features column for the length of every video; else use the mean of each row group.
        check_ids: read the video_id columns and look for repeated ids.
        report: called with the number of files whose footers were read.

    Raises:
        EsvError: the request is invalid, as for `run_job`; or the timings are of a model that cannot be compared.
    """
    spec = _with_actors(spec, elsewhere=timings is not None, actors=actors)
    checked = check_job(spec, report=report)
    spec, manifest = checked.spec, checked.manifest
    budget = manifest.memory_budget or memory_budget(spec)
    spec = with_memory_budget(spec, budget)
    footers = read_footers(manifest.files, report) if checked.footers is None else checked.footers
    pending = _units_left(spec.output, manifest)
    workers = actors_of(spec.cluster, spec.compute.threads, len(pending), local=runs_here(spec))
    model = checked.model.to(workers.device, getattr(torch, spec.compute.dtype))
    lengths = lengths_from_rows(manifest.files, footers, model.feature_dim, pending, budget) if read_lengths else None
    lengths = lengths or lengths_from_footers(manifest.files, footers, model.feature_dim, pending)
    row_groups, labelled = row_groups_of(spec, manifest.files, footers), has_labels(footers)
    classes = class_counts(spec, model.n_classes, labelled)
    work, skipped = work_by_length(spec, model, lengths, classes[1])
    # Refuses an unwritable output before measuring.
    create_only = storage.creates_only(spec.output) if pending else None
    timings = timings or measure_here(spec, model, all_stages([length for length in work if length.pending]))
    estimates = _length_estimates(spec, work, len(pending), timings, model, classes[1])
    size = output_size(spec, work, pending, classes, model)
    return Forecast(
        spec=spec,
        resumed=checked.planned,
        row_groups=tuple(row_groups),
        files=len(manifest.files),
        units=manifest.units,
        pending=pending,
        lengths=lengths,
        feature_dim=model.feature_dim,
        labelled=labelled,
        skipped=skipped,
        by_length=estimates,
        output_size=size,
        reading_bytes=reading_bytes(row_groups, pending),
        actors=workers,
        time=_time(spec, estimates, workers, pending, row_groups, size),
        create_only=create_only,
        repeated_ids=repeated_ids(manifest.files, budget) if check_ids else None,
        timings=timings,
        scaled=has_other_sizes(timings, model),
        passes=passes_of(model, estimates),
    )


def _units_left(output: str, manifest: Manifest) -> tuple[Unit, ...]:
    done = {unit.index for unit in committed_units(output, manifest.units, manifest.folders)}
    return tuple(unit for unit in manifest.units if unit.index not in done)


def _with_actors(spec: JobSpec, *, elsewhere: bool, actors: int | None) -> JobSpec:
    """Return the spec for other machines than this one, if asked, and with another number of actors, if given."""
    cluster: dict[str, object] = {} if actors is None else {"actors": actors}
    if elsewhere and spec.cluster.address is None:
        cluster["address"] = "auto"
    return spec.model_copy(update={"cluster": spec.cluster.model_copy(update=cluster)})


def _length_estimates(
    spec: JobSpec, work: Sequence[LengthWork], units: int, timings: Timings, model: VideoModel, classes: int
) -> tuple[LengthEstimate, ...]:
    """Return the time of each length; `classes` are kept per video, at most."""
    video_time, estimates = time_per_video(timings, model), []
    for length in work:
        videos = length.pending / max(1, units)  # of this length in a unit, on average
        stages = enumerate(length.stages) if length.pending else ()
        times = [video_time(stage, length.mean_batch(index, videos)) for index, stage in stages]
        seconds = [stage_s for stage_s, _ in times]
        basis = times[0][1] if times else ""
        further = 0.0
        if times:
            plans = (*length.shorter, *length.replaced)
            further = sum(count * video_time(plan, max(1.0, count * videos))[0] for plan, count in plans)
            further += (length.repeated + length.compared_evaluations / max(1, length.evaluations)) * seconds[0]
            further += extra_seconds(spec.tables, length.n, classes) if length.kind == "exact" else 0.0
        estimates.append(LengthEstimate(length, sum(seconds[:1]) + further, sum(seconds) + further, basis))
    return tuple(estimates)


def _time(
    spec: JobSpec,
    by_length: Sequence[LengthEstimate],
    actors: Actors,
    pending: Sequence[Unit],
    row_groups: Sequence[RowGroup],
    size: OutputSize,
) -> TimeEstimate:
    if not pending:
        return TimeEstimate(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    compute_s = sum(length.video_s * length.work.pending for length in by_length)
    most_s = sum(length.video_most_s * length.work.pending for length in by_length)
    plans_s = sum(stage.plan_s for length in by_length if length.work.pending for stage in length.work.stages[:1])
    read_s = read_seconds(unread(row_groups, pending), spec.features)
    write_s, start_s = write_seconds(size, spec.output), START_S if actors.starts_ray else 0.0
    # In the last round only some actors have a unit. Reading and writing overlap with compute.
    share = ceil(len(pending) / actors.concurrent) / len(pending)
    seconds, seconds_most = (
        start_s + plans_s + max(compute, read_s + write_s) * share for compute in (compute_s, most_s)
    )
    return TimeEstimate(seconds, seconds_most, compute_s, read_s, write_s, plans_s, start_s)
