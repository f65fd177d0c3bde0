"""A feature table that grows by partitions: each subfolder is a separate job, and is attributed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from esv_ray import storage
from esv_ray.attribution.checks import check_outside, runs_here, with_class_ids
from esv_ray.attribution.planning import keys_of
from esv_ray.attribution.work import run_job
from esv_ray.errors import DataError, EsvError, IncompleteError, JobError, SpecError, one_line
from esv_ray.input.files import list_files_if_any
from esv_ray.input.table_classes import CLASSES, check_same_classes, classes_in
from esv_ray.job.on_ray.local_runtime import RuntimeLostError
from esv_ray.job.on_ray.runtime import check_address, ray_runtime
from esv_ray.job.progress import Report
from esv_ray.job.progress_file import partitions_file
from esv_ray.job.result import JobResult
from esv_ray.models.bundle import load_model
from esv_ray.output.committed import committed_units
from esv_ray.output.layout import PROGRESS, RUN
from esv_ray.output.manifest import check_same_job, read_manifest
from esv_ray.output.success import read_success
from esv_ray.parallel import in_parallel
from esv_ray.signals import sigterm_interrupts
from esv_ray.spec import JobSpec

_THREADS = 16  # a few small requests per partition: latency, not bandwidth
_NAMED = 3
_RESERVED = (RUN, PROGRESS)

State = Literal["finished", "due", "attributed", "empty", "not ready", "problem"]


@dataclass(frozen=True)
class Partition:
    """A subfolder of the features.

    Attributes:
        name: name of the subfolder.
        spec: its job: its own features, and an output of that name.
        state: `finished` by an earlier run; `due`: new, begun, or with failed videos to compute again; `attributed` by
            this run; `empty`: no Parquet files yet; `not ready`: its producer's mark is missing; `problem`.
        why: the problem in one line.
    """

    name: str
    spec: JobSpec
    state: State
    why: str = ""


ReportPartition = Callable[[Partition, JobResult | None], None]


def plan_partitions(spec: JobSpec, *, ready: str | None = None, retry_failed: bool = False) -> list[Partition]:
    """List the partitions of a feature table with their states, by name. Write nothing.

    A finished partition must still match its run.json: the same spec and model, and unchanged files.

    Args:
        spec: the job; `features` is the folder of the partitions, `output` the folder of their outputs.
        ready: name of a file that a partition must contain before it is begun; None: no such file.
        retry_failed: whether finished partitions with failed videos are due again.

    Raises:
        EsvError: the request is wrong for all partitions.
    """
    check_ready(ready)
    spec, names, digest = check_partitions(spec)

    def state(name: str) -> Partition:
        partition_spec = _job_of(spec, name)
        if name in _RESERVED:
            return Partition(
                name, partition_spec, "problem", f"{name} is the name of a file of the output; rename the partition"
            )
        try:
            return Partition(name, partition_spec, *_state_of(partition_spec, digest, ready, retry_failed))
        except EsvError as error:
            return Partition(name, partition_spec, "problem", one_line(error))

    return in_parallel(state, names, threads=_THREADS)


def check_ready(ready: str | None) -> None:
    """Check the name of a producer's mark.

    Raises:
        SpecError: it is not the name of a file.
    """
    if ready is not None and (not ready or "/" in ready or ready in (".", "..")):
        raise SpecError(f"--ready: expected the name of a file such as _SUCCESS, got {ready!r:.100}")


def check_partitions(spec: JobSpec) -> tuple[JobSpec, list[str], str]:
    """Check a request over partitions without looking into each.

    Returns:
        The job with the ids of its classes, the names of the partitions, and the model's digest.

    Raises:
        EsvError: the request is wrong for all partitions.
    """
    names = _partition_names(spec)
    _check_output(spec, names)
    model = load_model(spec.model, code=spec.code)  # once: a bundle may be large, partitions many
    if model.classes is not None and not spec.columns.is_given("label"):  # a partition's own names: when it is planned
        check_same_classes(classes_in([spec.features]), model.classes, storage.join(spec.model, CLASSES))
    return with_class_ids(spec, model), names, model.digest


def run_partitions(
    output: str,
    partitions: Sequence[Partition],
    report_partition: ReportPartition,
    *,
    progress: Callable[[], AbstractContextManager[Report]] = lambda: nullcontext(lambda now: None),
    retry_failed: bool = False,
) -> Mapping[State, int]:
    """Attribute the partitions that are due, one after the other; a problem of one does not stop the others.

    Args:
        output: location above the partitions' outputs; its progress.json shows the state of the run.
        partitions: partitions from `plan_partitions`.
        report_partition: called for each partition in order, with its result if it ran.
        progress: makes the report of a job.
        retry_failed: as for `run_job`.

    Returns:
        Number of partitions by state.

    Raises:
        EsvError: no Ray runtime can be started.
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
            report_partition(partition, result)
    return +states


@dataclass
class _SharedRuntime:
    """One Ray runtime for all partitions: a start takes seconds, and a scheduled run may have many small partitions."""

    stack: ExitStack
    running: bool = False
    began: bool = False

    def enter(self, spec: JobSpec) -> None:
        """Start or connect the runtime, if a job needs one and there is none."""
        if not runs_here(spec) and not self.running:
            try:
                check_address(spec.cluster)
                self.stack.enter_context(ray_runtime(spec.cluster, spec.compute.threads))
            except EsvError as error:
                if self.began and not isinstance(error, IncompleteError):  # the request was right: the cluster was lost
                    raise IncompleteError(f"{error}; run again to resume") from error
                raise
            self.running = True
        self.began = True

    def close(self) -> None:
        """End the runtime; the next job starts a new one."""
        self.stack.close()
        self.running = False


def _attribute(
    partition: Partition,
    runtime: _SharedRuntime,
    progress: Callable[[], AbstractContextManager[Report]],
    retry_failed: bool,
) -> tuple[Partition, JobResult | None]:
    """Run the job of a partition, twice if its runtime was lost; return the partition as it is now, and the result."""
    lost = False
    while True:
        runtime.enter(partition.spec)
        try:
            with progress() as report:
                result = run_job(partition.spec, report, retry_failed=retry_failed)
            state, why = _outcome(partition.spec, result)
            return replace(partition, state=state, why=why), result
        except EsvError as error:
            runtime.close()  # it may be at fault
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
            f"{spec.features}: expected only partitions (subfolders), found Parquet files beside them: "
            f"{', '.join(loose[:_NAMED])}{more}; move them into a partition, or leave --partitions out"
        )
    if not names:
        raise DataError(f"{spec.features}: expected partitions (subfolders), found none; check `features`")
    return names


def _check_output(spec: JobSpec, names: Sequence[str]) -> None:
    check_outside(spec)
    features, output = (storage.without_links(url).rstrip("/") for url in (spec.features, spec.output))
    below = features.removeprefix(output + "/").partition("/")[0] if features.startswith(output + "/") else None
    if below in names:
        raise SpecError(
            f"features: {spec.features} is where the output of the partition {below} would be written; use another "
            "output"
        )
    if storage.exists(storage.join(spec.output, "run.json")):
        raise JobError(
            f"{spec.output} holds the results of a job without --partitions; give another output, or leave "
            "--partitions out"
        )
    _check_only_outputs(spec.output)


def _check_only_outputs(output: str) -> None:
    """Check that nothing but outputs of partitions is in a folder; each output is checked when it is planned."""
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
    manifest = read_manifest(spec.output)
    success = None if manifest is None else read_success(spec.output)
    if manifest is not None and success is not None:
        try:
            check_same_job(manifest, keys_of(spec, digest), list_files_if_any(spec.features, spec.columns), spec.output)
        except JobError as error:
            raise JobError(f"{error}; or move {spec.output} away to recompute the partition") from None
        if (retry_failed and success["failed"]) or len(
            committed_units(spec.output, manifest.units, manifest.folders)
        ) < len(manifest.units):
            return "due", ""  # tables of a finished partition may have been removed
        why = _too_many(spec, success["failed"], success["rows"])
        return ("problem", why) if why else ("finished", "")
    if ready is not None and not storage.exists(storage.join(spec.features, ready)):
        return "not ready", ""
    # A partition that was begun and whose files are gone is not empty: its job reports that.
    return ("due" if manifest is not None or list_files_if_any(spec.features, spec.columns) else "empty"), ""


def _outcome(spec: JobSpec, result: JobResult) -> tuple[State, str]:
    if not result.exit_code:
        return "attributed", ""
    if result.units_left:
        return "problem", f"{result.problem}; run again to resume"
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
