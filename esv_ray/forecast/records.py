"""A forecast as JSON (`docs/reference/plan-json.md` says what the keys mean), and what in it the user should know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from esv_ray.core.memory import in_words
from esv_ray.forecast.forecast import Forecast, Length
from esv_ray.forecast.io import ADVISED_BYTES, ERROR, unread
from esv_ray.machine import cores, spare_memory

FORMAT = 1
_LISTED = 3  # lengths that a warning names


def as_json(told: Forecast) -> dict[str, Any]:
    """A forecast as plain numbers and texts; keys are stable within a format."""
    return {
        "format": FORMAT,
        "features": told.spec.features,
        "model": told.spec.model,
        "output": told.spec.output,
        "input": _input(told),
        "done": _done(told),
        "evaluations": _evaluations(told),
        "by_length": [_length(one) for one in told.by_length],
        "skipped_videos": told.skipped,
        "unfit_videos": sum(one.work.videos for one in told.by_length if one.work.refused is not None),
        "read": {
            "bytes": sum(one.compressed for one in unread(told.partitions, told.left)),
        },
        "write": _write(told),
        "memory": {
            "budget": told.spec.compute.memory_budget,
            "work": told.work_bytes,
            "reading": told.reading,
            "actor": told.work_bytes + told.reading,
        },
        "time": _time(told),
        "repeated_ids": None
        if told.ids is None
        else {
            "across_files": told.ids.across,
            "within_files": told.ids.within,
            "examples": [{"video_id": name, "files": list(files)} for name, files in told.ids.examples.items()],
        },
        "warnings": warnings(told),
    }


def _evaluations(told: Forecast) -> dict[str, Any]:
    return {
        "total": told.total(),
        "most": told.total(most=True),
        "left": told.total(left=True),
        "left_most": told.total(most=True, left=True),
        "counted": all(stage.counted for one in told.by_length for stage in one.work.stages),
    }


def _write(told: Forecast) -> dict[str, Any]:
    return {
        "bytes_least": told.written.bytes_least,
        "bytes_most": told.written.bytes_most,
        "error": ERROR,
        "attribution_rows_least": told.written.attribution_rows_least,
        "attribution_rows_most": told.written.attribution_rows_most,
        "video_rows": told.written.video_rows,
        "files": told.written.files,
        "create_only": told.create_only,
    }


def _input(told: Forecast) -> dict[str, Any]:
    largest = max(told.partitions, key=lambda one: one.compressed, default=None)
    lengths = told.lengths
    return {
        "files": told.files,
        "row_groups": len(told.partitions),
        "units": len(told.units),
        "videos": sum(unit.rows for unit in told.units),
        "feature_dim": told.feature_dim,
        "labels": told.labelled,
        "bytes": sum(one.compressed for one in told.partitions),
        "lengths_of": lengths.of,
        "lengths": [{"frames": frames, "videos": videos} for frames, videos in sorted(lengths.videos.items())],
        "frameless_videos": lengths.frameless,
        "largest_row_group": None
        if largest is None
        else {
            "file": largest.file,
            "row_group": largest.row_group,
            "rows": largest.rows,
            "bytes": largest.compressed,
            "decoded_bytes": largest.decoded,
        },
    }


def _done(told: Forecast) -> dict[str, Any]:
    videos, left = sum(unit.rows for unit in told.units), sum(unit.rows for unit in told.left)
    return {
        "planned": told.resumed,
        "units": len(told.units) - len(told.left),
        "videos": videos - left,
        "units_left": len(told.left),
        "videos_left": left,
    }


def _length(one: Length) -> dict[str, Any]:
    work = one.work
    return {
        "n": work.n,
        "videos": work.videos,
        "left": work.left,
        "estimator": work.stages[0].kind if work.stages else None,
        "evaluations": work.evaluations,
        "evaluations_most": work.evaluations_most,
        "counted": all(stage.counted for stage in work.stages),
        "fits": work.refused is None,
        "reason": work.refused,
        "memory": work.memory,
        "video_s": one.video_s,
        "figure": one.figure,
    }


def _time(told: Forecast) -> dict[str, Any]:
    time, actors = told.time, told.actors
    return {
        "seconds": time.seconds,
        "seconds_most": time.seconds_most,
        "compute_s": time.compute_s,
        "read_s": time.read_s,
        "write_s": time.write_s,
        "plans_s": time.plans_s,
        "start_s": time.start_s,
        "actors": actors.asked,
        "actors_at_work": actors.at_work,
        "actors_at_once": actors.at_once,
        "device": actors.device,
        "threads": actors.threads,
        "figures": told.figures.source,
    }


def warnings(told: Forecast) -> list[str]:
    """What should be known before the job runs, one line each."""
    return [*_of_work(told), *_of_input(told), *_of_output(told), *_of_actors(told), *_of_figures(told)]


def _of_work(told: Forecast) -> Iterator[str]:
    unfit = [one.work for one in told.by_length if one.work.refused is not None]
    videos = sum(unit.rows for unit in told.units)
    if unfit:
        lost = sum(one.videos for one in unfit)
        lengths = ", ".join(str(one.n) for one in unfit[:_LISTED]) + (", ..." if len(unfit) > _LISTED else "")
        share = told.spec.max_failed
        end = f"; more than max_failed = {share:g}, so the exit code would be 1" if lost > share * videos else ""
        yield f"{lost} videos of n = {lengths} would fail: {unfit[0].refused}{end}"
    if told.skipped:
        yield f"{told.skipped} videos are shorter than asked for and skipped at some length (short: skip)"
    if not all(stage.counted for one in told.by_length for stage in one.work.stages):
        yield "evaluations of Algorithm 1 at long subsequences depend on what it draws: the expected number is told"


def _of_input(told: Forecast) -> Iterator[str]:
    budget = told.spec.compute.memory_budget
    assert budget != "auto", "planning fixes it"
    large = [one for one in told.partitions if one.compressed > ADVISED_BYTES]
    if large:
        most = max(large, key=lambda one: one.compressed)
        yield (
            f"{len(large)} row groups are larger than the advised {in_words(ADVISED_BYTES)}, the largest "
            f"{in_words(most.compressed)} (row group {most.row_group} of {most.file}): write smaller ones"
        )
    above = [one for one in told.partitions if one.decoding > budget]
    if above:
        most = max(above, key=lambda one: one.decoding)
        yield (
            f"{len(above)} row groups of {sum(one.rows for one in above)} videos take up to {in_words(most.decoding)} "
            f"when decoded, above the memory budget of {in_words(budget)} (first: row group {above[0].row_group} of "
            f"{above[0].file}): their videos would fail; write smaller row groups, or raise compute.memory_budget"
        )
    if told.lengths.frameless:
        yield f"{told.lengths.frameless} rows have no frames and would fail"
    if told.ids is not None and told.ids.across + told.ids.within:
        names = ", ".join(list(told.ids.examples)[:_LISTED])
        yield (
            f"{told.ids.across} ids stand in several files (the job would end with exit code 1 and without _SUCCESS), "
            f"{told.ids.within} more than once in a file (all rows but the first fail): {names}"
        )


def _of_output(told: Forecast) -> Iterator[str]:
    if told.create_only is False:
        yield (
            f"{told.spec.output}: the store does not refuse a second creation; commits look before they write, and two "
            "drivers at once may write the same content twice"
        )


def _of_actors(told: Forecast) -> Iterator[str]:
    cluster, actors = told.spec.cluster, told.actors
    if cluster.address is not None and cluster.actors == "auto":
        yield (
            f"cluster.actors is auto: {actors.asked}, as on this machine, is taken for the cluster at "
            f"{cluster.address}; say --actors N"
        )
    if told.left and actors.at_work < actors.asked:
        yield f"{len(told.left)} units are left: {actors.asked - actors.at_work} of {actors.asked} actors have none"
    if actors.at_once < actors.at_work:
        yield (
            f"{actors.at_work} actors of {actors.threads} thread(s) on this machine's {cores()} cores: the time is "
            f"that of {actors.at_once}"
        )
    if cluster.address is None and actors.device == "cpu" and told.left:
        import torch

        spare, needed = spare_memory(torch.device("cpu")), actors.at_work * (told.work_bytes + told.reading)
        if needed > spare:
            yield f"{actors.at_work} actors take up to {in_words(needed)} together, {in_words(spare)} is free here now"


def _of_figures(told: Forecast) -> Iterator[str]:
    figures, actors = told.figures, told.actors
    here = {"device": actors.device, "threads": actors.threads, "matmul": told.spec.compute.matmul}
    there = {"device": figures.device, "threads": figures.threads, "matmul": figures.matmul}
    differ = [f"{key} {there[key]}, not {here[key]}" for key in here if here[key] != there[key]]
    if differ:
        yield f"{figures.source}: measured with {', '.join(differ)}; the time is for what was measured"
    if told.scaled:
        yield f"{figures.source}: measured on a model of other sizes; scaled by operations of {figures.size}"
