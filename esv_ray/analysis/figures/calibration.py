"""Figure of a training: accuracy by scale, and how reliable the probabilities of F are (a reliability diagram)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, has, read_rows

if TYPE_CHECKING:
    import altair

_PERFECT = "perfect"
_NO_BAND: Row = {"low": None, "high": None}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return accuracy and calibration error by scale, and the accuracy of F by its confidence.

    Args:
        table: the bins of each head, and of F, whose `scale` is null.
        look: width and colors.

    Raises:
        DataError: the table is not that of a training.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "calibration", ["bin", "count"], ["scale", "confidence", "accuracy"])
    rows = [row for row in rows if row["count"]]
    scales = sorted({row["scale"] for row in rows if row["scale"] is not None})
    by_scale = [measured(rows, scale) | {"x": scale} for scale in scales]
    whole = [row for row in rows if row["scale"] is None]
    panels, findings = [], []
    if by_scale:
        best = max(by_scale, key=lambda row: float(row["accuracy"]))
        finding = f"heads: f^{best['x']} is the most accurate, {100 * best['accuracy']:.1f} %"
        findings.append(finding)
        panels.append(headed(_by_scale(by_scale, look), look, finding, width=look.column))
    if whole:
        of_f = measured(whole, None)
        finding = f"F: accuracy {100 * of_f['accuracy']:.1f} %, ECE {100 * of_f['ece']:.1f} %"
        findings.append(finding)
        panels.append(headed(_reliability(whole, look), look, finding, width=look.column))
    return figure(
        grid(panels, look),
        look,
        title="Accuracy of the heads, and calibration of F, on validation videos",
        notes=[
            "ECE: expected calibration error, the mean difference between confidence and accuracy. Below the line "
            "“perfect”, predictions are less often correct than their confidence says."
        ],
        summary=". ".join(findings),
    )


def measured(rows: Sequence[Row], scale: int | None) -> Row:
    """Return the accuracy and the expected calibration error of a scale, from its bins."""
    bins = [row for row in rows if row["scale"] == scale]
    total = sum(row["count"] for row in bins)
    gaps = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in bins)
    return {"accuracy": sum(row["count"] * row["accuracy"] for row in bins) / total, "ece": gaps / total}


def _by_scale(by_scale: Sequence[Row], look: Look) -> Any:
    names = {"accuracy": "accuracy", "ece": "calibration error (ECE)"}
    points = [
        _NO_BAND | {"x": row["x"], "y": row[key], "series": name} for row in by_scale for key, name in names.items()
    ]
    axes = Axes("scale s of the head", "share", y_format="~%", height=220, domain=(0.0, 1.0))
    return lines(points, axes, look, names=list(names.values()), small=True)


def _reliability(whole: Sequence[Row], look: Look) -> Any:
    points = [
        _NO_BAND | {"x": row["confidence"], "y": row["accuracy"], "series": "F"}
        for row in whole
        if has(row, "confidence", "accuracy")
    ]
    ends = [_NO_BAND | {"x": end, "y": end, "series": _PERFECT} for end in (0.0, 1.0)]
    axes = Axes(
        "confidence", "accuracy", y_format="~%", x_format="~%", height=220, domain=(0.0, 1.0), x_ticks=(0.0, 0.5, 1.0)
    )
    return lines([*points, *ends], axes, look, names=["F", _PERFECT], banded=["F"], small=True)
