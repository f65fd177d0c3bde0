"""Tables of a unit of a training, which is one head; and their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import safetensors.torch

from esv_ray.output.expanding import UnitTable
from esv_ray.output.layout import CALIBRATION, HEADS, HISTORY, LOGITS, WEIGHTS
from esv_ray.output.results import UnitTables
from esv_ray.training.calibration import BINS, Bins
from esv_ray.training.fitting import FittedHead
from esv_ray.training.index import Int64Array
from esv_ray.training.run_file import HeadUnit

_KEYS = [pa.field("scale", pa.int32(), False), pa.field("seed", pa.int64(), False)]
HEADS_SCHEMA = pa.schema(
    [
        pa.field("head", pa.string(), False),
        *_KEYS,
        pa.field("status", pa.string(), False),
        pa.field("reason", pa.string()),
        pa.field("epochs", pa.int32()),
        pa.field("best_epoch", pa.int32()),
        pa.field("training_loss", pa.float64()),
        pa.field("validation_loss", pa.float64()),
        pa.field("accuracy", pa.float64()),
        pa.field("ece", pa.float64()),
    ]
)
HISTORY_SCHEMA = pa.schema(
    [
        *_KEYS,
        pa.field("epoch", pa.int32(), False),
        pa.field("learning_rate", pa.float64(), False),
        pa.field("training_loss", pa.float64()),
        pa.field("validation_loss", pa.float64()),
        pa.field("accuracy", pa.float64()),
    ]
)
CALIBRATION_SCHEMA = pa.schema(
    [
        pa.field("scale", pa.int32()),
        pa.field("seed", pa.int64()),
        pa.field("bin", pa.int32(), False),
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
        pa.field("count", pa.int64(), False),
        pa.field("confidence", pa.float64()),
        pa.field("accuracy", pa.float64()),
    ]
)
LOGITS_SCHEMA = pa.schema(
    [*_KEYS, pa.field("video", pa.int64(), False), pa.field("logits", pa.list_(pa.float32()), False)]
)
WEIGHTS_SCHEMA = pa.schema([*_KEYS, pa.field("safetensors", pa.large_binary(), False)])
SCHEMAS: Mapping[str, pa.Schema] = {
    HEADS: HEADS_SCHEMA,
    HISTORY: HISTORY_SCHEMA,
    CALIBRATION: CALIBRATION_SCHEMA,
    LOGITS: LOGITS_SCHEMA,
    WEIGHTS: WEIGHTS_SCHEMA,
}


def tables_of_head(
    unit: HeadUnit, fitted: FittedHead, bins: Bins | None, places: Int64Array, logits: np.ndarray
) -> UnitTables:
    """Return the tables of a trained head.

    Args:
        unit: the head.
        fitted: its weights and history.
        bins: its calibration; None: all validation videos are shorter.
        places: (K,) validation videos on which F is evaluated and that are long enough.
        logits: (K, C) mean logits of the head.
    """
    best = fitted.best
    row = {
        "status": "ok",
        "epochs": len(fitted.history),
        "best_epoch": best.epoch,
        "training_loss": _finite(best.training_loss),
        "validation_loss": best.validation_loss,
        "accuracy": best.accuracy,
        "ece": None if bins is None else bins.ece,
    }
    history = [
        {
            "epoch": epoch.epoch,
            "learning_rate": epoch.learning_rate,
            "training_loss": _finite(epoch.training_loss),
            "validation_loss": _finite(epoch.validation_loss),
            "accuracy": epoch.accuracy,
        }
        for epoch in fitted.history
    ]
    state = {key: tensor.cpu().contiguous() for key, tensor in fitted.head.state_dict().items()}
    return {
        HEADS: _table(unit, HEADS, [row]),
        HISTORY: _table(unit, HISTORY, history),
        CALIBRATION: _table(unit, CALIBRATION, [] if bins is None else calibration_rows(bins)),
        LOGITS: _table(unit, LOGITS, [{"video": int(v), "logits": row} for v, row in zip(places, logits, strict=True)]),
        WEIGHTS: _table(unit, WEIGHTS, [{"safetensors": safetensors.torch.save(state)}]),
    }


def tables_of_failure(unit: HeadUnit, reason: str) -> UnitTables:
    """Return the tables of a head that could not be trained."""
    failed = {HEADS: _table(unit, HEADS, [{"status": "failed", "reason": reason}])}
    return failed | {folder: _table(unit, folder, []) for folder in SCHEMAS if folder != HEADS}


def calibration_rows(bins: Bins) -> list[dict[str, object]]:
    """Return one row per bin; the means of a bin without predictions are null."""
    return [
        {
            "bin": index,
            "low": index / BINS,
            "high": (index + 1) / BINS,
            "count": count,
            "confidence": sure / count if count else None,
            "accuracy": right / count if count else None,
        }
        for index, (count, sure, right) in enumerate(zip(bins.count, bins.confidence, bins.correct, strict=True))
    ]


def _table(unit: HeadUnit, folder: str, rows: Sequence[Mapping[str, object]]) -> UnitTable:
    schema = SCHEMAS[folder]
    keys = {"head": unit.head, "scale": unit.scale, "seed": unit.seed}
    own = {name: value for name, value in keys.items() if name in schema.names}
    table = pa.Table.from_pylist([{**own, **row} for row in rows], schema=schema)
    return UnitTable(table, np.zeros(len(rows), np.int64))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
