"""esv verify --recompute: videos of an output computed once more, and compared with what is committed."""

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
from esv_ray.attribution.computed import compute_rows
from esv_ray.attribution.planning import keys_of
from esv_ray.attribution.worker import Workplace, open_workplace, rows_of
from esv_ray.core.keyed import derive_key, mix64, permutation
from esv_ray.errors import DataError, EsvError, JobError, StorageError
from esv_ray.input.features import FeatureRows
from esv_ray.input.files import InputFile, list_files
from esv_ray.input.units import Unit
from esv_ray.job.actor import fault_of
from esv_ray.job.resources import shape_of, this_machine
from esv_ray.machine import gpus, memory_per_actor
from esv_ray.output.committed import committed_units, read_mark
from esv_ray.output.files import read_output
from esv_ray.output.layout import attributions_url, videos_url
from esv_ray.output.manifest import Manifest, check_same_job, existing_manifest
from esv_ray.output.ranges import ranges_of
from esv_ray.output.schemas import ATTRIBUTIONS, VIDEOS
from esv_ray.output.verify.input import check_near, features_location
from esv_ray.parallel import DaemonThreads
from esv_ray.spec import JobSpec, load_spec, with_memory_budget

_SHUFFLED = 2**20  # rows: of more, numbers are drawn one by one
_TRIES = 64  # of a draw: of an output in which more than all but one row in so many failed, fewer are recomputed


@dataclass(frozen=True)
class Recomputation:
    """How it went.

    Attributes:
        videos: input rows that were recomputed.
        same: of them, those whose every stored number came out with the same bits.
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

    Rows are drawn among those of committed units that did not fail, by the seed of the job's estimator: the same rows
    of the same output each time. A row alone is in another batch than it was in the job, and is compared within
    rounding; where it differs by more, its whole unit is computed in the job's batches, which gives the same bits on
    the same software and machine. One unit is held at a time. Nothing is written.

    Args:
        output: of a job.
        count: most input rows that are recomputed.
        code: packages whose code may run to make the model; the output's own run.json gives no consent.
        features: where the feature table is now; None: where it was.
        model: where the model bundle is now; None: where it was.
        without: names of units that are left out, since their files are broken.

    Raises:
        EsvError: there is no output, or its job cannot be repeated here: another model, other software, other files.
    """
    manifest = existing_manifest(output)
    asked = _spec_of(manifest, output, code, model)
    spec = with_memory_budget(asked, _budget(manifest, output))
    files = _files(output, manifest, features)
    drawn = _drawn(output, manifest, count, without)
    same, problems = 0, []
    with _compute_thread(spec) as compute:
        place = _workplace(spec, manifest, compute)
        check_same_job(manifest, keys_of(asked, place.model.digest), manifest.files, output)
        with _other_draws():
            for unit, rows in drawn.items():
                equal, found = _compared(_Recomputed(place, output, unit, files[unit.file], compute), rows)
                same += equal
                problems += found
    return Recomputation(sum(map(len, drawn.values())), same, tuple(problems))


def _spec_of(manifest: Manifest, output: str, code: Sequence[str], model: str | None) -> JobSpec:
    """The job as its plan has it, to be computed in this process; consent is the caller's, not the plan's."""
    asked = {**manifest.spec, "output": output, "code": list(code), "cluster": {"actors": 0}}
    if model is not None:
        asked["model"] = model
    spec = load_spec(asked)
    if model is None:
        check_near(output, spec.model, "--model")
    return spec


def _budget(manifest: Manifest, output: str) -> int:
    """The memory budget of the job, on which batches depend."""
    budget = manifest.memory_budget
    if budget is None:
        raise JobError(f"{output}/run.json: expected the job's memory budget, got none; plan the job again")
    room = memory_per_actor(1, 1 if gpus() else 0)
    if not budget <= room:
        raise JobError(
            f"{output}: expected as much memory as an actor of the job was given, {budget} bytes, got {room} on this "
            "machine; recompute on a larger one"
        )
    return budget


@contextmanager
def _compute_thread(spec: JobSpec) -> Iterator[Executor]:
    """The one thread that computes, as an actor has it; the process's settings are put back afterwards."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with DaemonThreads(1, "esv-recompute", lambda: torch.set_num_threads(spec.compute.threads)) as compute:
        try:
            yield compute
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


@contextmanager
def _other_draws() -> Iterator[None]:
    """Global generators in states of their own: a new process begins with torch's always the same, and a module that
    draws from it might draw what it drew in the job."""
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
    digest, device = str(manifest.model["digest"]), shape_of(spec, [this_machine()]).device
    try:
        return compute.submit(open_workplace, spec, manifest.job, digest, device).result()
    except JobError:  # the digest is another
        raise JobError(
            f"{spec.model}: expected the model that the job ran with, {digest[:16]}, got another; give its place with "
            "--model"
        ) from None


def _files(output: str, manifest: Manifest, features: str | None) -> Mapping[InputFile, InputFile]:
    """Where each planned file is to be read; one that has moved is known by the checksum of its footer.

    Raises:
        DataError: the files are not those of the plan.
    """
    where = features_location(output, manifest, features)
    here, planned = list_files(where), manifest.files
    lost = set(planned) - set(here)
    if not lost:
        return {file: file for file in planned}
    if features is None:
        raise DataError(
            f"{min(file.url for file in lost)}: changed since the job was planned, or not below {where}; if the "
            "feature table lies elsewhere, give its place with --features"
        )
    # A single file may have another name, too.
    same = [basename(file.url) for file in planned] == [basename(file.url) for file in here] or len(planned) == 1
    if not same or [file.size for file in planned] != [file.size for file in here]:
        raise DataError(
            f"{where}: expected the {len(planned)} files of the job's plan, of the same names and sizes, got "
            f"{_first_other(planned, here)}; check --features"
        )
    return {file: replace(now, footer=file.footer) for file, now in zip(planned, here, strict=True)}


def _first_other(planned: Sequence[InputFile], here: Sequence[InputFile]) -> str:
    """How many files there are or, of as many, the first that has another name or size."""
    if len(planned) != len(here):
        return f"{len(here)} files"
    for file, now in zip(planned, here, strict=True):
        names = basename(file.url), basename(now.url)
        if (names[0], file.size) != (names[1], now.size):
            return f"{names[1]} of {now.size} bytes in place of {names[0]} of {file.size}"
    return "the same in another order"


def _drawn(output: str, manifest: Manifest, count: int, without: Collection[str]) -> dict[Unit, list[int]]:
    """Rows of committed units that did not fail, drawn by the job's seed, by unit; each ascending."""
    units = [unit for unit in committed_units(output, manifest.units) if unit.name not in without]
    stops = list(accumulate(unit.rows for unit in units))
    drawn: dict[Unit, list[int]] = {}
    failed: dict[Unit, frozenset[int]] = {}
    found = 0
    for place in _places(int(manifest.spec["estimator"]["seed"]), stops[-1] if stops else 0, count):
        index = bisect_right(stops, place)
        unit, row = units[index], place - (stops[index] - units[index].rows)
        if unit not in failed:
            failed[unit] = frozenset(read_mark(output, unit, manifest.job).failed)
        if row in failed[unit] or row in drawn.get(unit, ()):
            continue
        drawn.setdefault(unit, []).append(row)
        found += 1
        if found == count:
            break
    return {unit: sorted(drawn[unit]) for unit in sorted(drawn, key=lambda unit: unit.index)}


def _places(seed: int, total: int, count: int) -> Iterator[int]:
    """Numbers below `total` in an order fixed by the seed; of a large total only some, and some perhaps twice."""
    key = derive_key(seed, "recompute")
    if total <= _SHUFFLED:
        yield from permutation(key, total).tolist()
        return
    for draw in range(_TRIES * count):
        yield int(mix64(np.array([draw], dtype=np.uint64) ^ key)[0]) % total


def _compared(unit: _Recomputed, rows: Sequence[int]) -> tuple[int, list[str]]:
    """`_Recomputed.compare`; what cannot be compared is a finding."""
    try:
        return unit.compare(rows)
    except StorageError:
        raise  # the unit may be fine
    except EsvError as error:
        return 0, [str(error)]
    except Exception as error:  # whatever a user's model raises, as in a job
        return 0, [f"videos/{unit.unit.name}: recomputing failed: {fault_of(error).reason}"]


@dataclass(frozen=True, eq=False)
class _Recomputed:
    """A committed unit of which rows are recomputed."""

    place: Workplace
    output: str
    unit: Unit
    file: InputFile
    compute: Executor

    def compare(self, chosen: Sequence[int]) -> tuple[int, list[str]]:
        """How many of some rows come out with the same bits, and how rows differ by more than rounding."""
        unit, where = self.unit, f"videos/{self.unit.name}"
        rows = rows_of(self.place, replace(unit, file=self.file))
        ids = [rows.ids[row] for row in chosen]
        videos, _, _ = read_output(videos_url(self.output, unit), VIDEOS, where)
        attributions, _, _ = read_output(attributions_url(self.output, unit), ATTRIBUTIONS, f"attributions/{unit.name}")
        committed = values_of(videos, attributions, ids)
        asked = self.place.spec.estimator
        ranges = ranges_of(asked.output, asked.kind, self.place.spec.compute.matmul)
        problems: list[str] = []
        # The chosen alone; where they differ, in the batches of the job: then it is no matter of rounding.
        for only in (np.array(chosen), np.arange(unit.rows)):
            found = self._values(rows, only, ids)
            same = sum(same_bits(found.get(one), committed.get(one)) for one in ids)
            problems = differences(where, committed, found, ranges)
            if not problems:
                break
        return same, problems

    def _values(self, rows: FeatureRows, only: npt.NDArray[np.int64], ids: Sequence[str]) -> dict[str, VideoValues]:
        # Rows that failed were in no batch of the job's last try, and one of them may end its process.
        failed = read_mark(self.output, self.unit, self.place.job).failed
        condemned = dict.fromkeys(failed, "failed in the job")
        tables = compute_rows(self.place, rows, condemned=condemned, only=only, compute=self.compute).tables
        return values_of(tables.videos, tables.attributions, ids)
