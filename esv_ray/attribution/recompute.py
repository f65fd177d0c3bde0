"""esv verify --recompute: compute videos of an output again, and compare them with the committed tables."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from posixpath import basename

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.compared import VideoValues, differences, same_bits, values_of
from esv_ray.attribution.compute import compute_rows
from esv_ray.attribution.planning import keys_of
from esv_ray.attribution.workplace import Workplace, open_workplace
from esv_ray.core.keyed import derive_key, mix64, permutation
from esv_ray.core.threads import torch_settings
from esv_ray.errors import DataError, EsvError, JobError, StorageError
from esv_ray.input.features import FeatureRows
from esv_ray.input.files import InputFile, list_files
from esv_ray.input.reading import read_rows
from esv_ray.input.units import Unit
from esv_ray.job.actor import fault_of
from esv_ray.job.resources import shape_of, this_machine
from esv_ray.machine import gpus, memory_per_actor
from esv_ray.output.committed import committed_units, read_mark
from esv_ray.output.files import read_output
from esv_ray.output.layout import folders_of, table_url
from esv_ray.output.manifest import Manifest, check_same_job, existing_manifest
from esv_ray.output.ranges import ranges_of
from esv_ray.output.schemas import SCHEMAS
from esv_ray.output.verify.input import check_near, features_location
from esv_ray.parallel import DaemonThreads
from esv_ray.spec import JobSpec, load_spec, with_memory_budget
from esv_ray.spec_columns import ColumnNames

_SHUFFLED = 2**20  # rows; of more, row numbers are drawn one by one
_TRIES = 64  # per row: if nearly all rows of an output failed, fewer rows than asked are recomputed


@dataclass(frozen=True)
class Recomputation:
    """Result of a recomputation.

    Attributes:
        videos: number of input rows that were recomputed.
        same: number of those whose every stored value has the same bits.
        problems: one line each.
    """

    videos: int
    same: int
    problems: tuple[str, ...]


def recompute(
    output: str,
    count: int,
    *,
    code: Sequence[str] = (),
    features: str | None = None,
    model: str | None = None,
    without: Collection[str] = (),
) -> Recomputation:
    """Recompute videos of an output and compare every stored column.

    Rows are drawn from those of committed units that did not fail, by the seed of the job's estimator: always the same
    rows of the same output. A single row is in another batch than the job's, so it is compared within rounding; if it
    differs by more, its whole unit is computed in the job's batches, which gives the same bits on the same software and
    machine. One unit is in memory at a time. Nothing is written.

    Args:
        output: location of the output.
        count: largest number of input rows to recompute.
        code: packages whose code may run to make the model; the output's own run.json gives no consent.
        features: where the feature table is now; None: where it was.
        model: where the model bundle is now; None: where it was.
        without: names of units to leave out, because their files are damaged.

    Raises:
        EsvError: there is no output, or its job cannot be repeated here: another model, other software, other files.
    """
    manifest = existing_manifest(output)
    planned_spec = _spec_of(manifest, output, code, model)
    spec = with_memory_budget(planned_spec, _budget(manifest, output))
    files = _files(output, manifest, features, spec.columns)
    drawn = _drawn(output, manifest, count, without)
    same, problems = 0, []
    with _compute_thread() as compute:
        place = _workplace(spec, manifest, compute)
        check_same_job(manifest, keys_of(planned_spec, place.model.digest), manifest.files, output)
        with _other_draws():
            for unit, rows in drawn.items():
                equal, new_problems = _compared(_Recomputed(place, output, unit, files, compute), rows)
                same += equal
                problems += new_problems
    return Recomputation(sum(map(len, drawn.values())), same, tuple(problems))


def _spec_of(manifest: Manifest, output: str, code: Sequence[str], model: str | None) -> JobSpec:
    """Return the job of the plan, to compute in this process; the caller gives consent, not the plan."""
    content = {**manifest.spec, "output": output, "code": list(code), "cluster": {"actors": 0}}
    if model is not None:
        content["model"] = model
    spec = load_spec(content)
    if model is None:
        check_near(output, spec.model, "--model")
    return spec


def _budget(manifest: Manifest, output: str) -> int:
    """Return the memory budget of the job, on which batches depend."""
    budget = manifest.memory_budget
    if budget is None:
        raise JobError(f"{output}/run.json: expected the job's memory budget, got none; plan the job again")
    available = memory_per_actor(1, 1 if gpus() else 0)
    if budget > available:
        raise JobError(
            f"{output}: recomputing needs the memory budget of the job's actors: expected {budget} bytes, got "
            f"{available} on this machine; recompute on a larger one"
        )
    return budget


@contextmanager
def _compute_thread() -> Iterator[Executor]:
    """Run one thread that computes, as an actor does; restore torch's settings of this process afterwards."""
    with torch_settings(), DaemonThreads(1, "esv-recompute") as compute:
        yield compute


@contextmanager
def _other_draws() -> Iterator[None]:
    """Seed the global generators at random: torch's starts in the same state in every process, so a module that draws
    from it might draw the same numbers as in the job."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.seed()
    np.random.seed()
    random.seed()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _workplace(spec: JobSpec, manifest: Manifest, compute: Executor) -> Workplace:
    digest, device = (
        str(manifest.model["digest"]),
        shape_of(spec.cluster, spec.compute.threads, [this_machine()]).device,
    )
    try:
        return compute.submit(open_workplace, spec, manifest.job, digest, device, manifest.baseline).result()
    except JobError:  # the digest differs
        raise JobError(
            f"{spec.model}: expected the model that the job ran with, {digest[:16]}, got a different model; give the "
            "location of the original with --model"
        ) from None


def _files(
    output: str, manifest: Manifest, features: str | None, columns: ColumnNames
) -> Mapping[InputFile, InputFile]:
    """Return where to read each planned file; a file that moved is identified by the checksum of its footer.

    Raises:
        DataError: the files are not those of the plan.
    """
    location = features_location(output, manifest, features)
    current, planned = list_files(location, columns), manifest.files
    missing = set(planned) - set(current)
    if not missing:
        return {file: file for file in planned}
    if features is None:
        raise DataError(
            f"{min(file.url for file in missing)}: changed since the job was planned, or not below {location}; if the "
            "feature table lies elsewhere, give its place with --features"
        )
    # A single file may have another name, too.
    same = [basename(file.url) for file in planned] == [basename(file.url) for file in current] or len(planned) == 1
    if not same or [file.size for file in planned] != [file.size for file in current]:
        raise DataError(
            f"{location}: expected the {len(planned)} files of the job's plan, of the same names and sizes, got "
            f"{_first_difference(planned, current)}; check --features"
        )
    return {file: replace(now, footer=file.footer) for file, now in zip(planned, current, strict=True)}


def _first_difference(planned: Sequence[InputFile], current: Sequence[InputFile]) -> str:
    """Describe how the files differ: by number, or the first by name or size."""
    if len(planned) != len(current):
        return f"{len(current)} files"
    for file, now in zip(planned, current, strict=True):
        names = basename(file.url), basename(now.url)
        if (names[0], file.size) != (names[1], now.size):
            return f"{names[1]} of {now.size} bytes in place of {names[0]} of {file.size}"
    return "the same in another order"


def _drawn(output: str, manifest: Manifest, count: int, without: Collection[str]) -> dict[Unit, list[int]]:
    """Draw rows that did not fail, by the job's seed; return them by unit, ascending."""
    units = [unit for unit in committed_units(output, manifest.units, manifest.folders) if unit.name not in without]
    stops = list(accumulate(unit.rows for unit in units))
    drawn: dict[Unit, list[int]] = {}
    failed: dict[Unit, frozenset[int]] = {}
    n_drawn = 0
    for place in _places(int(manifest.spec["estimator"]["seed"]), stops[-1] if stops else 0, count):
        index = bisect_right(stops, place)
        unit, row = units[index], place - (stops[index] - units[index].rows)
        if unit not in failed:
            failed[unit] = frozenset(read_mark(output, unit, manifest.job).failed)
        if row in failed[unit] or row in drawn.get(unit, ()):
            continue
        drawn.setdefault(unit, []).append(row)
        n_drawn += 1
        if n_drawn == count:
            break
    return {unit: sorted(drawn[unit]) for unit in sorted(drawn, key=lambda unit: unit.index)}


def _places(seed: int, total: int, count: int) -> Iterator[int]:
    """Yield numbers below `total` in an order fixed by the seed; of a large total only some, and some perhaps twice."""
    key = derive_key(seed, "recompute")
    if total <= _SHUFFLED:
        yield from permutation(key, total).tolist()
        return
    for draw in range(_TRIES * count):
        yield int(mix64(np.array([draw], dtype=np.uint64) ^ key)[0]) % total


def _compared(unit: _Recomputed, rows: Sequence[int]) -> tuple[int, list[str]]:
    """Compare rows (`_Recomputed.compare`); an error in the computation is a problem of the unit."""
    try:
        return unit.compare(rows)
    except StorageError:
        raise  # the unit may be intact
    except EsvError as error:
        return 0, [str(error)]
    except Exception as error:  # whatever a user's model raises, as in a job
        return 0, [f"videos/{unit.unit.name}: recomputing failed: {fault_of(error).reason}"]


@dataclass(frozen=True, eq=False)
class _Recomputed:
    """A committed unit whose rows are recomputed; `files`: where each file of the plan is now."""

    place: Workplace
    output: str
    unit: Unit
    files: Mapping[InputFile, InputFile]
    compute: Executor

    def compare(self, chosen: Sequence[int]) -> tuple[int, list[str]]:
        """Return how many of the rows have the same bits, and how rows differ by more than rounding."""
        unit, location = self.unit, f"videos/{self.unit.name}"
        moved = tuple(replace(each, file=self.files[each.file]) for each in unit.ranges)
        rows = read_rows(replace(unit, ranges=moved), self.place.reader)
        ids = [rows.ids[row] for row in chosen]
        tables = {
            folder: read_output(table_url(self.output, folder, unit), SCHEMAS[folder], f"{folder}/{unit.name}")[0]
            for folder in folders_of(self.place.spec.tables)
        }
        committed = values_of(tables, ids)
        estimator = self.place.spec.estimator
        ranges = ranges_of(estimator.output, estimator.kind, self.place.spec.compute.matmul)
        problems: list[str] = []
        # First the chosen rows alone; if they differ, all rows in the job's batches, where rounding is the same.
        for only in (np.array(chosen), np.arange(unit.rows)):
            recomputed = self._values(rows, only, ids)
            same = sum(same_bits(recomputed.get(video_id), committed.get(video_id)) for video_id in ids)
            problems = differences(location, committed, recomputed, ranges)
            if not problems:
                break
        return same, problems

    def _values(self, rows: FeatureRows, only: npt.NDArray[np.int64], ids: Sequence[str]) -> dict[str, VideoValues]:
        # Failed rows were in no batch of the job's last try, and one of them may kill its process.
        failed = read_mark(self.output, self.unit, self.place.job).failed
        poisoned = dict.fromkeys(failed, "failed in the job")
        tables = compute_rows(self.place, rows, poisoned=poisoned, only=only, compute=self.compute).tables
        return values_of({folder: table.table for folder, table in tables.items()}, ids)
