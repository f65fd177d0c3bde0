"""A feature table that grows by partitions: each sub-directory is a job of its own, and is attributed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from esv_ray import storage
from esv_ray.attribution.planning import check_outside, keys_of, runs_here
from esv_ray.errors import DataError, EsvError, IncompleteError, JobError, SpecError, one_line
from esv_ray.input.files import list_files_if_any
from esv_ray.job.driver import run_job
from esv_ray.job.on_ray.local_runtime import RuntimeLostError
from esv_ray.job.on_ray.runtime import check_address, ray_runtime
from esv_ray.job.progress_file import partitions_file
from esv_ray.job.run import JobResult, Report
from esv_ray.models.bundle import load_model
from esv_ray.output.committed import committed_units
from esv_ray.output.layout import PROGRESS
from esv_ray.output.manifest import check_same_job, read_manifest, read_success
from esv_ray.parallel import in_parallel
from esv_ray.signals import sigterm_interrupts
from esv_ray.spec import JobSpec

_LOOKERS = 16  # a few small requests a partition: latency, not bandwidth
_NAMED = 3
_RESERVED = ("run.json", PROGRESS)

State = Literal["finished", "due", "attributed", "empty", "not ready", "problem"]


@dataclass(frozen=True)
class Partition:
    """A sub-directory of the features.

    Attributes:
        name: of the sub-directory.
        spec: its job: its own features, and an output of that name.
        state: `finished` by an earlier run; `due`: new, begun, or with failed videos that are tried again;
            `attributed` by this run; `empty`: without Parquet files so far; `not ready`: its producer's mark is not
            there; `problem`.
        why: what the problem is, in one line.
    """

    name: str
    spec: JobSpec
    state: State
    why: str = ""


Tell = Callable[[Partition, JobResult | None], None]


def plan_partitions(spec: JobSpec, *, ready: str | None = None, retry_failed: bool = False) -> list[Partition]:
    """The partitions of a feature table and where each stands, by name. Writes nothing.

    A finished one is held to what its run.json says: the same spec and model, and files that have not changed since.

    Args:
        spec: the job; `features` is the directory of the partitions, and `output` of their outputs.
        ready: name of a file that a partition must hold to be begun; None: none.
        retry_failed: whether finished ones with failed videos are due again.

    Raises:
        EsvError: the request is wrong for all of them.
    """
    check_ready(ready)
    names, digest = check_partitions(spec)

    def look(name: str) -> Partition:
        own = _job_of(spec, name)
        if name in _RESERVED:
            return Partition(name, own, "problem", f"{name} is the name of a file of the output; rename the partition")
        try:
            return Partition(name, own, *_state_of(own, digest, ready, retry_failed))
        except EsvError as error:
            return Partition(name, own, "problem", one_line(error))

    return in_parallel(look, names, threads=_LOOKERS)


def check_ready(ready: str | None) -> None:
    """The name of a producer's mark.

    Raises:
        SpecError: it is no file's name.
    """
    if ready is not None and (not ready or "/" in ready or ready in (".", "..")):
        raise SpecError(f"--ready: expected the name of a file such as _SUCCESS, got {ready!r:.100}")


def check_partitions(spec: JobSpec) -> tuple[list[str], str]:
    """What can be told of a request over partitions without a look into each: their names, and the model's digest.

    Raises:
        EsvError: the request is wrong for all of them.
    """
    names = _partition_names(spec)
    _check_output(spec, names)
    return names, load_model(spec.model, code=spec.code).digest  # once: a bundle may be large, partitions many


def run_partitions(
    output: str,
    partitions: Sequence[Partition],
    tell: Tell,
    *,
    progress: Callable[[], AbstractContextManager[Report]] = lambda: nullcontext(lambda now: None),
    retry_failed: bool = False,
) -> Mapping[State, int]:
    """Attribute the partitions that are due, one after the other; what goes wrong with one does not stop the others.

    Args:
        output: of the request, below which the partitions' are; its progress file tells where the run stands.
        partitions: of `plan_partitions`.
        tell: told of each, in their order, what became of it, and of those that ran their results.
        progress: gives each that runs its report.
        retry_failed: as for `run_job`.

    Returns:
        How many ended in which state.

    Raises:
        EsvError: no Ray runtime is to be had.
    """
    states: Counter[State] = Counter(partition.state for partition in partitions)
    with sigterm_interrupts(), partitions_file(output, states) as file, ExitStack() as stack:
        runtime = _SharedRuntime(stack)
        for partition in partitions:
            result = None
            if partition.state == "due":
                file.write(partition.name)
                partition, result = _attribute(partition, runtime, progress, retry_failed)
                states["due"] -= 1
                states[partition.state] += 1
            if partition.state == "problem":
                file.problems[partition.name] = partition.why
            tell(partition, result)
    return +states


@dataclass
class _SharedRuntime:
    """One Ray runtime for all partitions: to start one takes seconds, and a scheduled run may have many small ones."""

    stack: ExitStack
    there: bool = False
    began: bool = False

    def enter(self, spec: JobSpec) -> None:
        """Start it, or connect to it, where a job needs one and none is there."""
        if not runs_here(spec) and not self.there:
            try:
                check_address(spec)
                self.stack.enter_context(ray_runtime(spec))
            except EsvError as error:
                if self.began and not isinstance(
                    error, IncompleteError
                ):  # the request was right: the cluster is gone since
                    raise IncompleteError(f"{error}; run again to go on") from error
                raise
            self.there = True
        self.began = True

    def close(self) -> None:
        """End it: the next job has a new one."""
        self.stack.close()
        self.there = False


def _attribute(
    partition: Partition,
    runtime: _SharedRuntime,
    progress: Callable[[], AbstractContextManager[Report]],
    retry_failed: bool,
) -> tuple[Partition, JobResult | None]:
    """Run the job of a partition, once more if its runtime was lost; the partition as it is now, and the result."""
    lost = False
    while True:
        runtime.enter(partition.spec)
        try:
            with progress() as report:
                result = run_job(partition.spec, report, retry_failed=retry_failed)
            state, why = _outcome(partition.spec, result)
            return replace(partition, state=state, why=why), result
        except EsvError as error:
            runtime.close()  # it may be what went wrong
            if lost or not isinstance(error, RuntimeLostError):
                return replace(partition, state="problem", why=one_line(error)), None
            lost = True


def _partition_names(spec: JobSpec) -> list[str]:
    folders, files = storage.list_folder(spec.features, "list the partitions")
    names = [name for name in folders if not name.startswith(("_", "."))]
    loose = [name for name in files if name.endswith((".parquet", ".pq")) and not name.startswith(("_", "."))]
    if loose:
        more = f" and {len(loose) - _NAMED} more" if len(loose) > _NAMED else ""
        raise DataError(
            f"{spec.features}: expected partitions (sub-directories) alone, found Parquet files beside them: "
            f"{', '.join(loose[:_NAMED])}{more}; move them into a partition, or leave --partitions out"
        )
    if not names:
        raise DataError(f"{spec.features}: expected partitions (sub-directories), found none; check `features`")
    return names


def _check_output(spec: JobSpec, names: Sequence[str]) -> None:
    check_outside(spec)
    features, output = (storage.without_links(url).rstrip("/") for url in (spec.features, spec.output))
    below = features.removeprefix(output + "/").partition("/")[0] if features.startswith(output + "/") else None
    if below in names:
        raise SpecError(f"features {spec.features} lie where the partition {below} has its output; give another output")
    if storage.exists(storage.join(spec.output, "run.json")):
        raise JobError(
            f"{spec.output} holds the results of a job without --partitions; give another output, or leave "
            "--partitions out"
        )
    _check_only_outputs(spec.output)


def _check_only_outputs(output: str) -> None:
    """Each partition's own output is looked at when it is planned; beside them lies nobody else's file."""
    if not storage.list_names(output, "look into the output"):
        return
    _, files = storage.list_folder(output, "look into the output")
    others = [name for name in files if name != PROGRESS and not name.startswith((".", "_"))]
    if others:
        named = ", ".join(others[:_NAMED])
        raise DataError(
            f"{output}: expected an empty or absent folder, or outputs of partitions, found {named}; choose another "
            "output, or move them away"
        )


def _job_of(spec: JobSpec, name: str) -> JobSpec:
    places = {key: storage.join(getattr(spec, key), name) for key in ("features", "output")}
    return spec.model_copy(update=places)


def _state_of(spec: JobSpec, digest: str, ready: str | None, retry_failed: bool) -> tuple[State, str]:
    found = read_manifest(spec.output)
    success = None if found is None else read_success(spec.output)
    if found is not None and success is not None:
        try:
            check_same_job(found, keys_of(spec, digest), list_files_if_any(spec.features), spec.output)
        except JobError as error:
            raise JobError(f"{error}; or move {spec.output} away, and the partition is attributed anew") from None
        if (retry_failed and success["failed"]) or len(committed_units(spec.output, found.units)) < len(found.units):
            return "due", ""  # tables of a finished one may have been removed
        why = _too_many(spec, success["failed"], success["rows"])
        return ("problem", why) if why else ("finished", "")
    if ready is not None and not storage.exists(storage.join(spec.features, ready)):
        return "not ready", ""
    # One that was begun and whose files are gone is no empty one: its job says so.
    return ("due" if found is not None or list_files_if_any(spec.features) else "empty"), ""


def _outcome(spec: JobSpec, result: JobResult) -> tuple[State, str]:
    if not result.exit_code:
        return "attributed", ""
    if result.units_left:
        return "problem", f"{result.problem}; run again to go on"
    if result.repeated:
        return "problem", result.repeated
    return "problem", _too_many(spec, result.counts.failed, result.counts.rows)


def _too_many(spec: JobSpec, failed: int, rows: int) -> str:
    if failed <= spec.max_failed * rows:
        return ""
    return (
        f"{failed} of {rows} videos failed, more than max_failed = {spec.max_failed:g}; see status and reason in "
        f"{spec.output}/videos, and --retry-failed"
    )
