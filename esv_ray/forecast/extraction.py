"""Estimate what an extraction will take: some of its videos are extracted here, and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any

import numpy as np
import torch

from esv_ray import storage
from esv_ray.core.threads import torch_settings
from esv_ray.decoding.selection import evenly
from esv_ray.decoding.threads import DecodingThreads
from esv_ray.errors import DataError, StorageError, count_of
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.pipeline import extract_rows
from esv_ray.extraction.planning import CheckedExtraction, check_extraction, private_locations
from esv_ray.extraction.tables import Extracted, Failed
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.workplace import Target, Workplace
from esv_ray.forecast.actors import actors_of
from esv_ray.forecast.forecast import START_S
from esv_ray.forecast.records import Actors
from esv_ray.forecast.warnings import about_actors, about_store
from esv_ray.parallel import READERS, in_parallel
from esv_ray.spec_extract import FRAMES, ExtractSpec

FORMAT = 1
_LOOKED_AT = 256  # files whose size is asked for
_TRIED = 4  # videos that are extracted
_TRY_S = 8.0  # after which no further one is


@dataclass(frozen=True)
class Tried:
    """What some videos took that were extracted here.

    Attributes:
        videos: number of those that did not fail.
        elements: mean number of elements of such a video, in each table.
        bytes: mean bytes of its features and thumbnails, in all tables.
        decode_s: mean seconds of one thread that decodes a video.
        compute_s: mean seconds of the backbones for a video.
    """

    videos: int
    elements: tuple[float, ...]
    bytes: float
    decode_s: float
    compute_s: float


@dataclass(frozen=True)
class FileSizes:
    """The files of the videos.

    Attributes:
        files: their number.
        looked_at: number of files whose size was asked for, spread evenly.
        missing: of them, those that cannot be found or read.
        example: why one of these cannot.
        bytes: of all files, estimated from those that were looked at.
    """

    files: int
    looked_at: int
    missing: int
    example: str
    bytes: float


@dataclass(frozen=True)
class ExtractionForecast:
    """The forecast of an extraction.

    Attributes:
        spec: the extraction.
        checked: its plans, and how far it is.
        sizes: of the files.
        tried: None if nothing is left, or no video that was tried could be extracted.
        failures: why videos failed that were tried.
        actors: that work.
        seconds: until the job ends; None if it is not known.
        create_only: whether the store of the output creates objects once only; None if nothing is left.
    """

    spec: ExtractSpec
    checked: CheckedExtraction
    sizes: FileSizes
    tried: Tried | None
    failures: tuple[str, ...]
    actors: Actors
    seconds: float | None
    create_only: bool | None

    @property
    def videos(self) -> int:
        """Number of videos."""
        return self.checked.tables[0].plan.written.videos

    @property
    def videos_left(self) -> int:
        """Number of videos of units that are not committed."""
        return sum(unit.rows for unit in self.checked.pending)

    @property
    def failed(self) -> int:
        """Number of committed videos that failed."""
        return sum(map(len, self.checked.failed.values()))

    @property
    def most_elements(self) -> int | None:
        """Most elements of a video in a table; None: as many as it has frames, or at a rate."""
        if self.spec.fps is not None or self.spec.frames == "all":
            return None
        frames = FRAMES if self.spec.frames is None else self.spec.frames
        return max(max(0, (frames - each.clip) // each.stride + 1) for each in self.spec.extractions)

    @property
    def written_bytes(self) -> float | None:
        """Bytes that are left to write, features and thumbnails; None if they are not known."""
        return None if self.tried is None else self.videos_left * self.tried.bytes

    def warnings(self) -> list[str]:
        """Return what the user should know, one line each."""
        lines = list(self.checked.found.notes)
        sizes = self.sizes
        if sizes.missing:
            looked_at = count_of(sizes.looked_at, "file")
            lines.append(f"{sizes.missing} of {looked_at} looked at cannot be read: {sizes.example}")
        if self.failures:
            tried = count_of(len(self.failures) + (self.tried.videos if self.tried else 0), "video")
            lines.append(f"{len(self.failures)} of {tried} tried failed: {self.failures[0]}")
        frames = FRAMES if self.spec.frames is None else self.spec.frames
        long = [each.clip for each in self.spec.extractions if frames != "all" and each.clip > frames]
        if self.spec.fps is None:
            lines += [f"no element: a clip of {clip} frames is longer than the frames that are taken" for clip in long]
        lines += about_store(self.spec.output, self.create_only)
        return [*lines, *about_actors(self.spec.cluster, self.actors, len(self.checked.pending))]


def forecast_extraction(spec: ExtractSpec, *, actors: int | None = None) -> ExtractionForecast:
    """Estimate the time and bytes of an extraction, and check that it can run.

    Writes nothing but a probe object, which is removed.

    Args:
        spec: the extraction.
        actors: number of actors, instead of the spec's ``cluster.actors``.

    Raises:
        EsvError: the request is invalid, as for `extraction.work.extract`.
    """
    if actors is not None:
        spec = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"actors": actors})})
    checked = check_extraction(spec)
    local = spec.cluster.actors == 0 or bool(private_locations(spec))
    workers = actors_of(spec.cluster, spec.compute.threads, len(checked.pending), local=local)
    left = [clip for unit in checked.pending for clip in unit.clips]
    create_only = storage.creates_only(spec.output) if left else None
    tried, failures = _try(checked, [left[place] for place in evenly(len(left), _TRIED)], workers.device)
    sizes = _sizes([*dict.fromkeys(clip.path for clip in checked.found.clips)])
    seconds = 0.0 if not left else None if tried is None else _seconds(spec, tried, workers, checked)
    return ExtractionForecast(spec, checked, sizes, tried, failures, workers, seconds, create_only)


def _sizes(paths: Sequence[str]) -> FileSizes:
    chosen = [paths[place] for place in evenly(len(paths), _LOOKED_AT)]

    def size(path: str) -> int | str:
        try:
            return storage.state(path, "read the video").size
        except StorageError:
            raise
        except DataError as error:
            return str(error)

    found = in_parallel(size, chosen, threads=READERS)
    known = [each for each in found if isinstance(each, int)]
    missing = [each for each in found if isinstance(each, str)]
    mean = float(np.mean(known)) if known else 0.0
    return FileSizes(len(paths), len(chosen), len(missing), next(iter(missing), ""), mean * len(paths))


def _try(checked: CheckedExtraction, clips: Sequence[Clip], device: str) -> tuple[Tried | None, tuple[str, ...]]:
    """Extract some videos as an actor does, one after another; the first is decoded twice, since a process starts."""
    if not clips:
        return None, ()
    spec = checked.spec
    with torch_settings():
        torch.set_num_threads(spec.compute.threads)
        targets = tuple(Target(each.spec, each.plan, open_backbone(each.spec, device)) for each in checked.tables)
        place = Workplace(spec, targets, DecodingThreads(spec.decoder, spec.decoders))
        try:
            return _tried(place, clips)
        finally:
            place.stop()


def _tried(place: Workplace, clips: Sequence[Clip]) -> tuple[Tried | None, tuple[str, ...]]:
    begun = perf_counter()
    several = len(place.targets)
    extract_rows(place, clips, poisoned={}, only=[[0]] * several)
    done: list[list[Extracted]] = []
    failures: list[str] = []
    decode_s = compute_s = 0.0
    for row in range(len(clips)):
        pieces = extract_rows(place, clips, poisoned={}, only=[[row]] * several)
        outcomes = [outcome for (outcome,) in pieces.outcomes]
        failed = [outcome.reason for outcome in outcomes if isinstance(outcome, Failed)]
        if failed:
            failures.append(failed[0])
        else:
            done.append([outcome for outcome in outcomes if isinstance(outcome, Extracted)])
            decode_s += pieces.decode_s * place.decoders.count  # of the one thread that had the video
            compute_s += pieces.compute_s
        if perf_counter() - begun > _TRY_S:
            break
    if not done:
        return None, tuple(failures)
    count = len(done)
    size = sum(each.features.nbytes + sum(map(len, each.thumbnails)) for tables in done for each in tables)
    elements = tuple(sum(len(each.index) for each in table) / count for table in zip(*done, strict=True))
    return Tried(count, elements, size / count, decode_s / count, compute_s / count), tuple(failures)


def _seconds(spec: ExtractSpec, tried: Tried, actors: Actors, checked: CheckedExtraction) -> float:
    """Return the seconds until the job ends."""
    if actors.device == "cpu":  # decoding and the backbone share the cores of an actor
        video_s = tried.decode_s / spec.compute.threads + tried.compute_s
    else:
        video_s = max(tried.decode_s / spec.decoders, tried.compute_s)
    units = len(checked.pending)
    videos = sum(unit.rows for unit in checked.pending)
    rounds = ceil(units / actors.concurrent) / units  # in the last round only some actors have a unit
    return (START_S if actors.starts_ray else 0.0) + video_s * videos * rounds


def as_json(forecast: ExtractionForecast) -> dict[str, Any]:
    """Return a forecast as plain numbers and texts; `docs/reference/plan-json.md` describes the keys."""
    checked, sizes, tried, actors = forecast.checked, forecast.sizes, forecast.tried, forecast.actors
    return {
        "format": FORMAT,
        "videos": forecast.spec.videos,
        "backbones": [table.spec.backbone for table in checked.tables],
        "output": forecast.spec.output,
        "input": {
            "videos": forecast.videos,
            "units": len(checked.units),
            "labels": checked.found.labelled,
            "files": sizes.files,
            "files_looked_at": sizes.looked_at,
            "files_missing": sizes.missing,
            "bytes": round(sizes.bytes),
            "feature_dims": [table.info.dim for table in checked.tables],
            "most_elements": forecast.most_elements,
        },
        "done": {
            "planned": any(table.planned for table in checked.tables),
            "units": len(checked.units) - len(checked.pending),
            "videos": forecast.videos - forecast.videos_left,
            "failed": forecast.failed,
            "units_left": len(checked.pending),
            "videos_left": forecast.videos_left,
        },
        "tried": {
            "videos": 0 if tried is None else tried.videos,
            "failures": list(forecast.failures),
            "elements": None if tried is None else list(tried.elements),
            "decode_s": None if tried is None else tried.decode_s,
            "compute_s": None if tried is None else tried.compute_s,
        },
        "write": {"bytes": forecast.written_bytes, "create_only": forecast.create_only},
        "time": {
            "seconds": forecast.seconds,
            "actors": actors.requested,
            "actors_at_work": actors.working,
            "actors_at_once": actors.concurrent,
            "device": actors.device,
            "threads": actors.threads,
        },
        "warnings": forecast.warnings(),
    }
