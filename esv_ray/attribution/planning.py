"""Check a job and plan it once; every later run must match the plan."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from esv_ray import storage
from esv_ray.attribution.baseline import baseline_of
from esv_ray.attribution.checks import OWN_NAMES, check_classes, check_features, check_no_partitions, check_places
from esv_ray.attribution.workplace import check_methods
from esv_ray.core.games.model import VideoModel
from esv_ray.core.methods.attribution import check_installed
from esv_ray.errors import DataError, JobError, StorageError, one_line
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.preprocessing import check_same_preprocessing
from esv_ray.input.table_classes import CLASSES, check_same_classes, classes_of_table
from esv_ray.input.units import Unit, plan_units
from esv_ray.job.resources import actor_memory
from esv_ray.models.bundle import extraction_of, load_model
from esv_ray.models.fixed_length import fixed_lengths
from esv_ray.output.committed import failed_rows
from esv_ray.output.manifest import Manifest, check_same_job, commit_manifest, read_manifest
from esv_ray.output.success import remove_success
from esv_ray.spec import JobSpec, fingerprint, job_keys, with_memory_budget

# Increased when the same spec gives other values or files; an older output is then refused.
RESULTS_VERSION = 8


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
        footers: footers of its files, if they were read for a new one; None: run.json is on storage.
    """

    model: VideoModel
    manifest: Manifest
    footers: Sequence[Footer] | None

    @property
    def planned(self) -> bool:
        """Whether run.json is on storage."""
        return self.footers is None


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
    check_places(spec)
    for method in spec.methods:
        check_installed(method)
    model = load_model(spec.model, code=spec.code)
    check_methods(spec, model)
    check_classes(spec, model)
    files = list_files(spec.features, spec.columns)
    keys = keys_of(spec, model.digest)
    manifest = read_manifest(spec.output)
    if manifest is None:
        check_no_partitions(spec.output)
        storage.check_vacant(spec.output, OWN_NAMES)
        storage.check_writable(spec.output, "write the tables")  # the footers of a large table take minutes
        if model.classes is not None:
            check_same_classes(
                classes_of_table(spec.features, files), model.classes, storage.join(spec.model, CLASSES), files
            )
        footers = read_footers(files)
        check_same_preprocessing(footers, extraction_of(spec.model), spec.model)
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
        manifest = replace(manifest, baseline=baseline_of(within, checked.model, manifest.units))
    if not checked.planned and not commit_manifest(spec.output, manifest):  # another driver was first
        existing = read_manifest(spec.output)
        assert existing is not None, "a create-only put was refused, so it is there"
        check_same_job(existing, manifest.keys, manifest.files, spec.output)
        manifest = existing
    spec = with_memory_budget(spec, manifest.memory_budget or memory_budget(spec))
    failed = failed_rows(spec.output, manifest)
    retried = {index: rows for index, rows in failed.items() if rows} if retry_failed else {}
    pending = tuple(unit for unit in manifest.units if unit.index not in failed or unit.index in retried)
    if pending:
        remove_success(spec.output)  # the job is not finished, even if an earlier run was
    return PlannedJob(spec, manifest, pending, retried)


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
    check_features(with_memory_budget(spec, budget), model, footers)
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
        # Absent for models of vectors, likewise.
        **({} if model.shape is None else {"element_shape": list(model.shape)}),
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
        failed_rows(output, manifest)
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
