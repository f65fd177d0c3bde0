"""The end of a training: the heads become a model bundle, and their evaluation three tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from esv_ray import storage
from esv_ray.errors import JobError
from esv_ray.models.bundle import training_of
from esv_ray.models.saving import exists_bundle, save_heads
from esv_ray.models.weights import head_from_state, tensors_of
from esv_ray.output.files import read_output
from esv_ray.output.layout import CALIBRATION, HEADS, HISTORY, LOGITS, WEIGHTS, table_url
from esv_ray.spec_train import TrainSpec
from esv_ray.training.calibration import Bins, binned
from esv_ray.training.data import TrainData, places_of_f
from esv_ray.training.planning import ACCURACY_FILE, BESIDE, CALIBRATION_FILE, HISTORY_FILE, training_folder
from esv_ray.training.run_file import HeadUnit, TrainingPlan
from esv_ray.training.tables import CALIBRATION_SCHEMA, SCHEMAS, calibration_rows

_ACCURACY_SCHEMA = pa.schema(
    [
        pa.field("scale", pa.int32()),
        pa.field("seed", pa.int64()),
        pa.field("kept", pa.bool_(), False),
        pa.field("videos", pa.int64(), False),
        pa.field("epochs", pa.int32()),
        pa.field("best_epoch", pa.int32()),
        pa.field("validation_loss", pa.float64()),
        pa.field("accuracy", pa.float64()),
        pa.field("ece", pa.float64()),
    ]
)
_NORM_EPS = 1e-5  # torch's default, of the heads that were trained
_WRITING = "write the tables of the training"


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        accuracy: table of all heads, and of F.
        history: table of all epochs.
        calibration: table of the bins of the heads that are kept, and of F.
    """

    accuracy: pa.Table
    history: pa.Table
    calibration: pa.Table

    def of_kept_heads(self, column: str) -> dict[int, float | int | None]:
        """Return a column of the table of accuracies by scale, of the heads that are kept."""
        rows = self.accuracy.to_pylist()
        return {row["scale"]: row[column] for row in rows if row["kept"] and row["scale"] is not None}

    def of_f(self, column: str) -> float:
        """Return a column of the table of accuracies for F of the heads that are kept."""
        return float(next(row for row in self.accuracy.to_pylist() if row["kept"] and row["scale"] is None)[column])


def finish_training(spec: TrainSpec, plan: TrainingPlan, data: TrainData) -> None:
    """Write the tables of a training and its bundle, from the committed heads; nothing if they exist.

    Raises:
        JobError: another model is in the output.
        DataError: the storage refuses, or a committed table is damaged.
    """
    if _is_written(spec.output, plan.job):
        return
    folder = training_folder(spec.output)
    tables = {unit: _read(folder, HEADS, unit).to_pylist()[0] for unit in plan.units}
    kept = _kept(tables)
    trained = _evaluated(folder, plan, data, spec.seed, tables, kept)
    files = {
        ACCURACY_FILE: trained.accuracy,
        HISTORY_FILE: trained.history,
        CALIBRATION_FILE: trained.calibration,
    }
    for name, table in files.items():
        storage.replace(storage.join(folder, name), _parquet(table), _WRITING)
    _save(spec, plan, folder, kept, trained, data.training.preprocessing)


def read_trained(output: str) -> Trained:
    """Read the tables of a finished training.

    Raises:
        DataError: they are missing or damaged.
    """
    folder = training_folder(output)
    schemas = {ACCURACY_FILE: _ACCURACY_SCHEMA, HISTORY_FILE: SCHEMAS[HISTORY], CALIBRATION_FILE: CALIBRATION_SCHEMA}
    tables = []
    for name, schema in schemas.items():
        url = storage.join(folder, name)
        tables.append(read_output(url, schema, url)[0])
    return Trained(*tables)


def _is_written(output: str, job: str) -> bool:
    """Return whether the bundle of a training exists.

    Raises:
        JobError: the bundle is another one.
    """
    if not exists_bundle(output):
        return False
    if (training_of(output) or {}).get("job") != job:
        raise JobError(
            f"{output}: expected the model of this training or none, found another one; move it away, then run again"
        )
    return True


def _read(folder: str, name: str, unit: HeadUnit) -> pa.Table:
    url = table_url(folder, name, unit)
    return read_output(url, SCHEMAS[name], url)[0]


def _kept(heads: Mapping[HeadUnit, Mapping[str, float]]) -> dict[int, HeadUnit]:
    """Return the head of each scale that has the least validation loss; of equal ones the first seed's."""
    kept: dict[int, HeadUnit] = {}
    for unit in sorted(heads, key=lambda unit: (unit.scale, heads[unit]["validation_loss"], unit.seed)):
        kept.setdefault(unit.scale, unit)
    return kept


def _evaluated(
    folder: str,
    plan: TrainingPlan,
    data: TrainData,
    seed: int,
    heads: Mapping[HeadUnit, Mapping[str, float]],
    kept: Mapping[int, HeadUnit],
) -> Trained:
    """Return the tables of a training: those of the units, and F's."""
    units = sorted(plan.units, key=lambda unit: (unit.scale, unit.seed))
    rows: list[dict[str, object]] = [
        {
            "scale": unit.scale,
            "seed": unit.seed,
            "kept": kept[unit.scale] == unit,
            "videos": int((data.held.lengths >= unit.scale).sum()),
            **{name: heads[unit][name] for name in ("epochs", "best_epoch", "validation_loss", "accuracy", "ece")},
        }
        for unit in units
    ]
    places = places_of_f(len(data.held), seed)
    # F of the heads of each seed, if there are several; then that of the heads that are kept.
    seeds = plan.written.seeds if len(plan.written.seeds) > 1 else []
    games: list[tuple[int | None, Sequence[HeadUnit]]] = [
        *((seed, [unit for unit in units if unit.seed == seed]) for seed in seeds),
        (None, list(kept.values())),
    ]
    calibrations = [_read(folder, CALIBRATION, unit) for unit in kept.values()]
    for own_seed, members in games:
        bins = _bins_of_f(folder, members, data, places)
        of_kept = own_seed is None
        measured = {"videos": len(places), "accuracy": bins.accuracy, "ece": bins.ece}
        rows.append({"seed": own_seed, "kept": of_kept, **measured})
        if of_kept:
            calibrations.append(pa.Table.from_pylist(calibration_rows(bins), schema=CALIBRATION_SCHEMA))
    history = pa.concat_tables([_read(folder, HISTORY, unit) for unit in units])
    return Trained(
        pa.Table.from_pylist(rows, schema=_ACCURACY_SCHEMA),
        history,
        pa.concat_tables([table.cast(CALIBRATION_SCHEMA) for table in calibrations]),
    )


def _bins_of_f(folder: str, members: Sequence[HeadUnit], data: TrainData, places: np.ndarray) -> Bins:
    """Return the calibration of F by Eq. 8: the mean over scales s <= min(T, n_max) of the heads' mean logits."""
    total = np.zeros((len(places), data.n_classes), np.float32)
    for unit in sorted(members, key=lambda unit: unit.scale):
        table = _read(folder, LOGITS, unit)
        if table.num_rows:
            flat = pc.list_flatten(table.column("logits").combine_chunks()).to_numpy()
            total[np.searchsorted(places, table.column("video").to_numpy())] += flat.reshape(table.num_rows, -1)
    counted = np.minimum(data.held.lengths[places], len(members))
    logits = torch.from_numpy(total / counted[:, None].astype(np.float32))
    return binned(logits.softmax(dim=1), torch.from_numpy(data.held.labels[places]))


def _save(
    spec: TrainSpec,
    plan: TrainingPlan,
    folder: str,
    kept: Mapping[int, HeadUnit],
    trained: Trained,
    preprocessing: Mapping[str, Any] | None,
) -> None:
    """Write the bundle; model.json last. It records how the frames of its features were prepared, if that is known."""
    written = plan.written
    counts = torch.tensor(written.counts, dtype=torch.float64)
    heads = {}
    with torch.random.fork_rng(devices=[]):  # torch initializes layers by its global generator
        for scale, unit in kept.items():
            heads[scale] = head_from_state(
                tensors_of(_read(folder, WEIGHTS, unit).column("safetensors")[0].as_py()),
                scale=scale,
                feature_dim=written.feature_dim,
                n_classes=len(counts),
                input_relu=spec.input_relu,
                norm_eps=_NORM_EPS,
            )
    summary = {
        "job": plan.job,
        "features": spec.features,
        "seed": spec.seed,
        "videos": written.videos,
        "validation_videos": written.validation_videos,
        "accuracy": trained.of_kept_heads("accuracy"),
        "accuracy_f": trained.of_f("accuracy"),
        "ece_f": trained.of_f("ece"),
        **({"seeds": {scale: unit.seed for scale, unit in kept.items()}} if spec.seeds > 1 else {}),
    }
    classes = None if written.classes is None else tuple(written.classes)
    save_heads(
        spec.output,
        heads,
        counts / counts.sum(),
        classes=classes,
        training=summary,
        extraction=preprocessing,
        beside=BESIDE,
    )


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
