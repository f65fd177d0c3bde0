"""A forecast as JSON; `docs/reference/plan-json.md` describes the keys."""

from __future__ import annotations

from typing import Any

from esv_ray.forecast.io import ERROR
from esv_ray.forecast.lengths import RepeatedIds
from esv_ray.forecast.records import Forecast, LengthEstimate
from esv_ray.forecast.warnings import warnings

FORMAT = 1


def as_json(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as plain numbers and texts; keys do not change within a format."""
    return {
        "format": FORMAT,
        "features": forecast.spec.features,
        "model": forecast.spec.model,
        "output": forecast.spec.output,
        "input": _input(forecast),
        "done": {
            "planned": forecast.resumed,
            "units": len(forecast.units) - len(forecast.pending),
            "videos": forecast.videos - forecast.videos_left,
            "units_left": len(forecast.pending),
            "videos_left": forecast.videos_left,
        },
        "evaluations": {
            "total": forecast.evaluations(),
            "most": forecast.evaluations(most=True),
            "left": forecast.evaluations(pending=True),
            "left_most": forecast.evaluations(most=True, pending=True),
            "counted": forecast.evaluations_counted,
        },
        "by_length": [_length(length) for length in forecast.by_length],
        "skipped_videos": forecast.skipped,
        "unfit_videos": sum(length.work.videos for length in forecast.by_length if not length.work.fits),
        "read": {"bytes": forecast.read_bytes},
        "write": _write(forecast),
        "memory": {
            "budget": forecast.budget,
            "work": forecast.batch_bytes,
            "reading": forecast.reading_bytes,
            "actor": forecast.actor_bytes,
        },
        "time": _time(forecast),
        "repeated_ids": None if forecast.repeated_ids is None else _repeated_ids(forecast.repeated_ids),
        "warnings": warnings(forecast),
    }


def _input(forecast: Forecast) -> dict[str, Any]:
    largest = max(forecast.row_groups, key=lambda group: group.compressed, default=None)
    lengths = forecast.lengths
    return {
        "files": forecast.files,
        "row_groups": len(forecast.row_groups),
        "units": len(forecast.units),
        "videos": forecast.videos,
        "feature_dim": forecast.feature_dim,
        "labels": forecast.labelled,
        "bytes": forecast.table_bytes,
        "lengths_of": lengths.source,
        "lengths": [{"frames": frames, "videos": videos} for frames, videos in sorted(lengths.videos.items())],
        "frameless_videos": lengths.frameless,
        "largest_row_group": None
        if largest is None
        else {
            "file": largest.file,
            "row_group": largest.index,
            "rows": largest.rows,
            "bytes": largest.compressed,
            "decoded_bytes": largest.decoded,
        },
    }


def _length(length: LengthEstimate) -> dict[str, Any]:
    work = length.work
    return {
        "n": work.n,
        "videos": work.videos,
        "left": work.pending,
        "estimator": work.kind,
        "evaluations": work.evaluations,
        "evaluations_most": work.evaluations_most,
        "discard_evaluations": work.shorter_evaluations,
        "replacement_evaluations": work.replaced_evaluations,
        "variation_evaluations": work.repeated_evaluations,
        "method_evaluations": work.compared_evaluations,
        "counted": all(stage.counted for stage in work.stages),
        "fits": work.fits,
        "reason": work.unfit_reason,
        "memory": work.memory,
        "video_s": length.video_s,
        "figure": length.basis,
    }


def _write(forecast: Forecast) -> dict[str, Any]:
    size = forecast.output_size
    return {
        "bytes_least": size.bytes_least,
        "bytes_most": size.bytes_most,
        "error": ERROR,
        "attribution_rows_least": size.attribution_rows_least,
        "attribution_rows_most": size.attribution_rows_most,
        "video_rows": size.video_rows,
        "further": [
            {"table": table, "rows_least": size.further_rows_least[table], "rows_most": most}
            for table, most in size.further_rows_most.items()
        ],
        "files": size.files,
        "create_only": forecast.create_only,
    }


def _time(forecast: Forecast) -> dict[str, Any]:
    time, actors = forecast.time, forecast.actors
    return {
        "seconds": time.seconds,
        "seconds_most": time.seconds_most,
        "compute_s": time.compute_s,
        "read_s": time.read_s,
        "write_s": time.write_s,
        "plans_s": time.plans_s,
        "start_s": time.start_s,
        "actors": actors.requested,
        "actors_at_work": actors.working,
        "actors_at_once": actors.concurrent,
        "device": actors.device,
        "threads": actors.threads,
        "figures": forecast.timings.source,
    }


def _repeated_ids(ids: RepeatedIds) -> dict[str, Any]:
    return {
        "across_files": ids.across_files,
        "within_files": ids.within_files,
        "examples": [{"video_id": name, "files": list(files)} for name, files in ids.examples.items()],
    }
