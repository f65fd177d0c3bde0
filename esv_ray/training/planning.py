"""Check a training and plan it once; every later run must match the plan."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from esv_ray import storage
from esv_ray.errors import DataError, JobError, StorageError, one_line
from esv_ray.job.resources import check_cluster
from esv_ray.models.saving import check_free
from esv_ray.output.committed import failed_rows
from esv_ray.output.layout import ASIDE, PROGRESS, RUN, SUBMISSIONS, SUCCESS, TRAINING, TRAINING_FOLDERS
from esv_ray.output.success import remove_success
from esv_ray.spec_train import TrainSpec, train_keys
from esv_ray.training.data import TrainData, read_train_data
from esv_ray.training.run_file import FILE, HeadUnit, TrainingPlan, Written

# Increased when the same spec gives other heads or files; an older training is then not resumed.
RESULTS_VERSION = 1
ACCURACY_FILE, HISTORY_FILE, CALIBRATION_FILE = "accuracy.parquet", "history.parquet", "calibration.parquet"
"""Tables at the end of a training, in the folder of those of its units."""
_FIGURES = frozenset(f"calibration.{suffix}" for suffix in ("svg", "png", "html"))
BESIDE = (TRAINING, PROGRESS, SUBMISSIONS)
"""Names that the folder of the bundle holds before the bundle is written."""
_OWN_NAMES = frozenset({*TRAINING_FOLDERS, SUCCESS, ASIDE}) | _FIGURES
_OWN_NAMES |= {ACCURACY_FILE, HISTORY_FILE, CALIBRATION_FILE}


@dataclass(frozen=True, eq=False)
class CheckedTraining:
    """A training run that can start or resume.

    Attributes:
        spec: the training.
        data: indexes of the videos.
        plan: that of its output, or the one that a run would write.
        planned: whether the plan is in storage.
        failed: the failed rows of each committed head, by the unit's number: (0,) or ().
    """

    spec: TrainSpec
    data: TrainData
    plan: TrainingPlan
    planned: bool
    failed: Mapping[int, tuple[int, ...]]

    @property
    def pending(self) -> tuple[HeadUnit, ...]:
        """Heads that are not committed, in plan order."""
        return tuple(unit for unit in self.plan.units if unit.index not in self.failed)


@dataclass(frozen=True, eq=False)
class PlannedTraining:
    """A training whose run.json is on storage.

    Attributes:
        spec: the training.
        plan: run.json, and its units.
        data: indexes of the videos.
        pending: heads to train, in plan order: those not yet committed, and those of `retried`.
        retried: failed heads that are trained again, by the unit's number.
    """

    spec: TrainSpec
    plan: TrainingPlan
    data: TrainData
    pending: tuple[HeadUnit, ...]
    retried: Mapping[int, tuple[int, ...]]


def training_folder(output: str) -> str:
    """Return the folder of a bundle that holds the tables of its training."""
    return storage.join(output, TRAINING)


def private_locations(spec: TrainSpec) -> list[str]:
    """Return the locations that are in the memory of this process, where no actor can read them."""
    tables = [spec.features, *([spec.validation] if isinstance(spec.validation, str) else [])]
    return [url for url in (*tables, spec.output) if storage.in_this_process(url)]


def check_training(spec: TrainSpec) -> CheckedTraining:
    """Check a training against its tables, which are read once, and its output; write nothing.

    Args:
        spec: the training.

    Raises:
        EsvError: the request is wrong, or another output is in the way.
    """
    check_cluster(spec.cluster, private_locations(spec))
    folder = training_folder(spec.output)
    written = FILE.read(folder)
    if written is None:
        check_free(spec.output, beside=BESIDE)
        storage.check_writable(spec.output, "write the model bundle")
        storage.check_vacant(folder, _OWN_NAMES)
    data = read_train_data(spec)
    keys = json.loads(json.dumps({**train_keys(spec), "data": data.checksum(), "results_version": RESULTS_VERSION}))
    if written is not None:
        FILE.check_same(folder, written.keys, keys)
        plan = TrainingPlan(written)
        return CheckedTraining(spec, data, plan, True, failed_rows(folder, plan, TRAINING_FOLDERS))
    plan = TrainingPlan(_written(spec, data, keys))
    return CheckedTraining(spec, data, plan, False, _adoptable(folder, plan))


def plan_training(spec: TrainSpec, *, retry_failed: bool) -> PlannedTraining:
    """Check a training, load or commit its plan, and list its pending heads.

    Writes run.json, and removes _SUCCESS if heads are pending.

    Args:
        spec: the training.
        retry_failed: whether failed heads are trained again.

    Raises:
        EsvError: as `check_training`; nothing is written then.
    """
    checked, folder = check_training(spec), training_folder(spec.output)
    if not checked.planned and not FILE.commit(folder, checked.plan.written):  # another driver was first
        checked = check_training(spec)
    failed = checked.failed
    retried = {index: rows for index, rows in failed.items() if rows} if retry_failed else {}
    pending = tuple(unit for unit in checked.plan.units if unit.index not in failed or unit.index in retried)
    if pending:
        remove_success(folder)
    return PlannedTraining(spec, checked.plan, checked.data, pending, retried)


def _written(spec: TrainSpec, data: TrainData, keys: dict[str, object]) -> Written:
    return Written(
        spec=spec.model_dump(mode="json"),
        keys=keys,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("esv-ray", "torch", "ray", "pyarrow", "numpy")},
        },
        feature_dim=data.feature_dim,
        n_max=spec.n_max,
        seeds=list(spec.head_seeds),
        counts=list(data.counts),
        classes=None if data.classes is None else list(data.classes),
        videos=len(data.training),
        validation_videos=len(data.held),
        left_out=data.left_out,
        notes=list(data.notes),
    )


def _adoptable(folder: str, plan: TrainingPlan) -> Mapping[int, tuple[int, ...]]:
    """Look at tables without a run.json, which was removed: all must be of this training, which then resumes.

    Returns:
        The failed rows of each committed head, by the unit's number.
    """
    try:
        return failed_rows(folder, plan, TRAINING_FOLDERS)
    except StorageError:
        raise
    except (JobError, DataError) as error:
        raise JobError(
            f"{folder}: expected an empty or absent folder for the training, found one without a {RUN} that does not "
            f"belong to this training ({one_line(error)}); choose another --output, or move it away"
        ) from None
