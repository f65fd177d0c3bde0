"""Check a job and plan it once; every later run must match the plan."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from esv_ray import storage
from esv_ray.attribution.workplace import check_fits, check_methods, job_engine, unit_reader
from esv_ray.core.games.model import VideoModel
from esv_ray.core.methods.attribution import check_installed
from esv_ray.errors import DataError, JobError, ModelError, SpecError, StorageError, one_line
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import Footer, has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import check_flat_sizes, check_label_names, feature_dim_of, read_rows
from esv_ray.input.table_classes import CLASSES, check_same_classes, classes_of_table
from esv_ray.input.units import Unit, plan_units
from esv_ray.job.resources import actor_memory
from esv_ray.machine import gpus
from esv_ray.models.bundle import load_model
from esv_ray.models.fixed_length import fixed_lengths
from esv_ray.output.committed import check_no_strays, committed_units, list_tables, read_footers_of
from esv_ray.output.layout import (
    ANALYSIS,
    ASIDE,
    FOLDERS,
    PROGRESS,
    SUBMISSIONS,
    SUCCESS,
    VARIATIONS_FOLDER,
    folders_of,
)
from esv_ray.output.manifest import Manifest, check_same_job, commit_manifest, read_manifest
from esv_ray.output.success import remove_success
from esv_ray.spec import JobSpec, fingerprint, job_keys, with_memory_budget

# Increased when the same spec gives other values or files; an older output is then refused.
RESULTS_VERSION = 6

_OWN_NAMES = frozenset({*FOLDERS, PROGRESS, SUCCESS, ASIDE, SUBMISSIONS, ANALYSIS, VARIATIONS_FOLDER})
"""Names that an output may hold before it has a run.json: of this job, of its submission, and of a repair."""


@dataclass(frozen=True)
class PlannedJob:
    """A job whose run.json is on storage.

    Attributes:
        spec: the job, with the memory budget that its plan fixed.
        manifest: run.json.
        pending: units to do, in plan order: those not yet committed, and those of `retried`.
        retried: failed rows of committed units that are computed again, by the unit's number.
    """

    spec: JobSpec
    manifest: Manifest
    pending: tuple[Unit, ...]
    retried: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CheckedJob:
    """A job that could run.

    Attributes:
        model: the model, on the CPU.
        manifest: run.json: the one on storage, or the one that would be written.
        footers: those of its files, if they were read for a new one; None: run.json is on storage.
    """

    model: VideoModel
    manifest: Manifest
    footers: Sequence[Footer] | None

    @property
    def planned(self) -> bool:
        """Whether run.json is on storage."""
        return self.footers is None


def runs_here(spec: JobSpec) -> bool:
    """Return whether a job runs in this process: on request, or if no other process can see one of its locations."""
    return spec.cluster.actors == 0 or bool(_private(spec))


def _private(spec: JobSpec) -> list[str]:
    return [url for url in (spec.features, spec.model, spec.output) if storage.in_this_process(url)]


def keys_of(spec: JobSpec, digest: str) -> dict[str, object]:
    """Return what results depend on besides the features: settings, the model's digest, the version of the results."""
    return {**job_keys(spec), "model": digest, "results_version": RESULTS_VERSION}


def check_job(spec: JobSpec, measure: Callable[[], int] | None = None) -> CheckedJob:
    """Check a job, and load its plan or make one. Writes nothing.

    Args:
        spec: the job.
        measure: returns the bytes that each actor may take, for a new job; None: by this machine (`memory_budget`).

    Raises:
        EsvError: the request is wrong or another job's output is in the way.
    """
    _check_places(spec)
    for method in spec.methods:
        check_installed(method)
    model = load_model(spec.model, code=spec.code)
    check_methods(spec, model)
    _check_classes(spec, model)
    files = list_files(spec.features, spec.columns)
    keys = keys_of(spec, model.digest)
    manifest = read_manifest(spec.output)
    if manifest is None:
        _check_no_partitions(spec.output)
        storage.check_vacant(spec.output, _OWN_NAMES)
        storage.check_writable(spec.output, "write the tables")  # the footers of a large table take minutes
        if model.classes is not None:
            check_same_classes(
                classes_of_table(spec.features, files), model.classes, storage.join(spec.model, CLASSES), files
            )
        footers = read_footers(files)
        return CheckedJob(model, _new_manifest(spec, model, footers, keys, measure), footers)
    check_same_job(manifest, keys, files, spec.output)
    if manifest.model != _about(model):
        raise DataError(
            f"{spec.output}/run.json: expected the metadata of the model {spec.model}, got different values for "
            f"{_differing_keys(manifest.model, _about(model))}; `esv verify --repair {spec.output}` moves it aside, "
            "then run the job again"
        )
    return CheckedJob(model, manifest, footers=None)


def plan_job(spec: JobSpec, *, retry_failed: bool = False, measure: Callable[[], int] | None = None) -> PlannedJob:
    """Check a job, load or commit its plan, and list its pending units.

    Writes run.json, and removes _SUCCESS if units are pending.

    Args:
        spec: the job.
        retry_failed: whether failed videos are computed again.
        measure: as for `check_job`.

    Raises:
        EsvError: the request is wrong or another job's output is in the way; nothing is written then.
    """
    checked = check_job(spec, measure)
    manifest = checked.manifest
    if not checked.planned:
        within = with_memory_budget(spec, manifest.memory_budget or memory_budget(spec))
        manifest = replace(manifest, baseline=_baseline(within, checked.model, manifest.units))
    if not checked.planned and not commit_manifest(spec.output, manifest):  # another driver was first
        existing = read_manifest(spec.output)
        assert existing is not None, "a create-only put was refused, so it is there"
        check_same_job(existing, manifest.keys, manifest.files, spec.output)
        manifest = existing
    spec = with_memory_budget(spec, manifest.memory_budget or memory_budget(spec))
    failed = _committed(spec.output, manifest)
    retried = {index: rows for index, rows in failed.items() if rows} if retry_failed else {}
    pending = tuple(unit for unit in manifest.units if unit.index not in failed or unit.index in retried)
    if pending:
        remove_success(spec.output)  # the job is not finished, even if an earlier run was
    return PlannedJob(spec, manifest, pending, retried)


def _committed(output: str, manifest: Manifest) -> dict[int, tuple[int, ...]]:
    """Return the failed rows of each committed unit, by the unit's number.

    Raises:
        JobError: a file is of another job, or not in the plan.
    """
    listed = list_tables(output, FOLDERS)
    check_no_strays(output, listed, manifest)
    units = committed_units(output, manifest.units, manifest.folders, listed)
    footers = read_footers_of(output, units, manifest.job)
    return {unit.index: footer.failed for unit, footer in zip(units, footers, strict=True)}


def _new_manifest(
    spec: JobSpec,
    model: VideoModel,
    footers: Sequence[Footer],
    keys: dict[str, object],
    measure: Callable[[], int] | None,
) -> Manifest:
    units = plan_units(footers, spec.compute.unit)
    if not units:
        raise DataError(f"{spec.features}: expected videos, got a table without rows; check `features`")
    budget = memory_budget(spec, measure)  # last: on a cluster this may wait for a node
    _check_features(with_memory_budget(spec, budget), model, footers)
    manifest = Manifest(
        memory_budget=budget,
        spec=spec.model_dump(mode="json"),
        keys=keys,
        fingerprint=fingerprint(keys),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("esv-ray", "torch", "ray", "pyarrow", "numpy")},
        },
        model=_about(model),
        files=tuple(footer.file for footer in footers),
        units=tuple(units),
    )
    _check_adoptable(spec.output, manifest)
    return manifest


def _baseline(spec: JobSpec, model: VideoModel, units: Sequence[Unit]) -> tuple[float, ...] | None:
    """Return the mean element of the feature table, if the job computes integrated gradients; reads all of it."""
    if "integrated_gradients" not in spec.methods:
        return None
    reader = unit_reader(spec, model)
    total, count = np.zeros(model.feature_dim), 0
    for unit in units:
        rows = read_rows(unit, reader)
        for row in np.setdiff1d(np.arange(unit.rows), list(rows.faults)).tolist():
            frames = rows.features(np.array([row]), np.arange(int(rows.n_frames[row]))[None])[0]
            total += frames.sum(axis=0, dtype=np.float64)
            count += len(frames)
    return tuple((total / max(count, 1)).tolist())


def _about(model: VideoModel) -> dict[str, Any]:
    """Return the description of a model in run.json."""
    return {
        "digest": model.digest,
        "feature_dim": model.feature_dim,
        "n_classes": model.n_classes,
        "n_max": model.n_max,
        "classes": None if model.classes is None else list(model.classes),
        "prior": model.prior.tolist(),
        # Absent for models with a head at scale 1, whose fingerprints are older than this key.
        **({} if model.scales is None or model.scales.shortest == 1 else {"shortest": model.scales.shortest}),
        # What a module of a fixed length gets for other lengths.
        **({"fixed_length": lengths} if (lengths := fixed_lengths(model.scorer)) else {}),
    }


def _differing_keys(planned: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    return ", ".join(key for key in sorted({*planned, *about}) if planned.get(key) != about.get(key))


def _check_adoptable(output: str, manifest: Manifest) -> None:
    """Check tables without a run.json, which was removed or moved aside: all must be of this job, which then resumes.

    Raises:
        JobError: some are of another job.
    """
    try:
        _committed(output, manifest)
    except StorageError:
        raise
    except (JobError, DataError) as error:
        raise JobError(
            f"{output}: expected an empty or absent folder for the output, found results without a run.json that do "
            f"not belong to this job ({one_line(error)}); choose another output, or move them away"
        ) from None


def memory_budget(spec: JobSpec, measure: Callable[[], int] | None = None) -> int:
    """Return the memory budget of each actor in bytes: that of the job, else the result of `measure`.

    Args:
        spec: the job.
        measure: returns the bytes that each actor may take; None: by this machine, as if it were a node.
    """
    budget = spec.compute.memory_budget
    if budget != "auto":
        return budget
    return actor_memory(spec.cluster, spec.compute.threads) if measure is None else measure()


def _check_no_partitions(output: str) -> None:
    """Refuse to put a job's tables among the outputs of partitions, which no later run over partitions would accept."""
    if not storage.exists(storage.join(output, PROGRESS)):
        return
    folders, _ = storage.list_folder(output, "look for outputs of partitions")
    # Names of partitions do not begin with _ or a dot; looking into the first one suffices.
    name = next((name for name in folders if not name.startswith(("_", ".")) and name not in _OWN_NAMES), None)
    if name is not None and storage.exists(storage.join(output, name, "run.json")):
        raise JobError(
            f"{output} holds the outputs of partitions ({name}, ...); use another output; `esv attribute "
            f"--partitions` continues them, and a single one has the features FEATURES/{name} and the output "
            f"OUTPUT/{name}"
        )


def check_outside(spec: JobSpec) -> None:
    """Refuse an output inside the features, also through links.

    Raises:
        SpecError: tables that are written would be read as features.
    """
    name = f"part-000000-{16 * '0'}.parquet"
    storage.check_outside(spec.features, spec.output, [f"{folder}/{name}" for folder in folders_of(spec.tables)])


def _check_places(spec: JobSpec) -> None:
    check_outside(spec)
    private = _private(spec)
    if private and spec.cluster.actors not in ("auto", 0):
        raise SpecError(
            f"{private[0]} exists only in the memory of this process, so actors cannot read it; set cluster.actors "
            "to 0, or use a path or object storage"
        )
    share = spec.cluster.gpus_per_actor
    if share != "auto" and share > 0 and spec.cluster.address is None and not gpus():
        raise SpecError(
            f"cluster.gpus_per_actor: expected 0 or auto, because torch finds no GPU on this machine, got {share:g}; "
            "set it to 0 or auto, or set cluster.address to a cluster with GPUs"
        )


def _check_classes(spec: JobSpec, model: VideoModel) -> None:
    for choice in spec.classes:
        count = choice if isinstance(choice, int) else -1
        if count >= model.n_classes:
            raise SpecError(
                f"classes: expected ids 0..{model.n_classes - 1}, the model's classes, got {count}; check `model`"
            )


def _check_features(spec: JobSpec, model: VideoModel, footers: Sequence[Footer]) -> None:
    """Check the footers before any row is computed."""
    budget = spec.compute.memory_budget
    assert budget != "auto", "the plan fixes it"
    dim = feature_dim_of(footers, budget)
    if dim is not None and dim != model.feature_dim:
        raise ModelError(
            f"{spec.features}: features must be (T, {model.feature_dim}) for the model {spec.model}, got "
            f"(T, {dim}); check `model` and `features`"
        )
    check_flat_sizes(footers, model.feature_dim, budget, spec.features)
    if model.classes is None:
        check_label_names(footers, budget, spec.features, f"add classes.csv (header name,id) to the model {spec.model}")
    if spec.classes == ("label",) and not has_labels(footers):
        raise DataError(
            f"{spec.features}: classes is [label], but the table has no labels; set classes to predicted, top:K, all "
            "or class ids"
        )
    for n in spec.frame_numbers:
        check_fits(spec, job_engine(spec, model), n)
