"""Warnings of a forecast."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from esv_ray.core.memory import format_bytes
from esv_ray.forecast.io import ADVISED_BYTES
from esv_ray.forecast.records import Actors, Forecast
from esv_ray.machine import cores, spare_memory
from esv_ray.spec import ClusterSpec

_LISTED = 3  # lengths or ids that a warning names


def warnings(forecast: Forecast) -> list[str]:
    """Return one line per warning."""
    return [
        *_about_work(forecast),
        *_about_input(forecast),
        *about_store(forecast.spec.output, forecast.create_only),
        *about_actors(forecast.spec.cluster, forecast.actors, len(forecast.pending)),
        *_about_memory(forecast),
        *_about_timings(forecast),
    ]


def _about_work(forecast: Forecast) -> Iterator[str]:
    unfit = [length.work for length in forecast.by_length if not length.work.fits]
    if unfit:
        failing = sum(work.videos for work in unfit)
        lengths = ", ".join(str(work.n) for work in unfit[:_LISTED]) + (", ..." if len(unfit) > _LISTED else "")
        share = forecast.spec.max_failed
        many = failing > share * forecast.videos
        end = f"; more than max_failed = {share:g}, so the exit code would be 1" if many else ""
        yield f"{failing} videos of n = {lengths} would fail: {unfit[0].unfit_reason}{end}"
    if forecast.skipped:
        yield f"{forecast.skipped} videos are too short for some requested lengths and are skipped there (short: skip)"
    if not forecast.evaluations_counted:
        yield "evaluations of Algorithm 1 at long subsequences depend on its random draws: the expected number is shown"


def _about_input(forecast: Forecast) -> Iterator[str]:
    budget = forecast.budget
    large = [group for group in forecast.row_groups if group.compressed > ADVISED_BYTES]
    if large:
        largest = max(large, key=lambda group: group.compressed)
        yield (
            f"{len(large)} row groups are larger than the recommended {format_bytes(ADVISED_BYTES)}; the largest has "
            f"{format_bytes(largest.compressed)} (row group {largest.index} of {largest.file}): write smaller ones"
        )
    above = [group for group in forecast.row_groups if group.decoding > budget]
    if above:
        most = max(group.decoding for group in above)
        yield (
            f"{len(above)} row groups of {sum(group.rows for group in above)} videos take up to {format_bytes(most)} "
            f"when decoded, more than the memory budget of {format_bytes(budget)} (the first is row group "
            f"{above[0].index} of {above[0].file}): their videos would fail; write smaller row groups, or raise "
            "compute.memory_budget"
        )
    if forecast.lengths.frameless:
        yield f"{forecast.lengths.frameless} rows have no frames and would fail"
    ids = forecast.repeated_ids
    if ids is not None and ids.across_files + ids.within_files:
        names = ", ".join(list(ids.examples)[:_LISTED])
        yield (
            f"{ids.across_files} ids occur in several files (the job would end with exit code 1 and without _SUCCESS), "
            f"{ids.within_files} more than once in a file (all rows but the first fail): {names}"
        )


def about_store(output: str, create_only: bool | None) -> Iterator[str]:
    """Yield what to know of the store of an output."""
    if create_only is False:
        yield (
            f"{output}: the store does not refuse to create an object that exists; commits check "
            "before they write, and two drivers at the same time may write the same content twice"
        )


def about_actors(cluster: ClusterSpec, actors: Actors, units: int) -> Iterator[str]:
    """Yield what to know of the actors of a job with some units left."""
    if cluster.address is not None and cluster.actors == "auto":
        yield (
            f"cluster.actors is auto: the estimate assumes {actors.requested} actors, as on this machine, for the "
            f"cluster at {cluster.address}; give --actors N"
        )
    if units and actors.working < actors.requested:
        idle = actors.requested - actors.working
        yield f"only {units} units are left: {idle} of {actors.requested} actors would be idle"
    if actors.concurrent < actors.working:
        yield (
            f"{actors.working} actors of {actors.threads} thread(s) on this machine's {cores()} cores: the time "
            f"is for {actors.concurrent}"
        )


def _about_memory(forecast: Forecast) -> Iterator[str]:
    cluster, actors = forecast.spec.cluster, forecast.actors
    if cluster.address is None and actors.device == "cpu" and forecast.pending:
        spare, needed = spare_memory(torch.device("cpu")), actors.working * forecast.actor_bytes
        if needed > spare:
            free = format_bytes(spare)
            yield f"{actors.working} actors take up to {format_bytes(needed)} together, but {free} is free now"


def _about_timings(forecast: Forecast) -> Iterator[str]:
    timings, actors = forecast.timings, forecast.actors
    expected = {"device": actors.device, "threads": actors.threads, "matmul": forecast.spec.compute.matmul}
    measured = {"device": timings.device, "threads": timings.threads, "matmul": timings.matmul}
    differ = [f"{key} {measured[key]}, not {expected[key]}" for key in expected if measured[key] != expected[key]]
    if differ:
        yield f"{timings.source}: measured with {', '.join(differ)}; the time is for those settings"
    if forecast.scaled:
        yield (
            f"{timings.source}: measured on a model of other sizes ({timings.size}); the time is scaled by "
            "floating-point operations"
        )
