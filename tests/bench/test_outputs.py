"""Synthetic outputs are such as a job may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray.analysis.tables import analyze
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.output.verify.output import verify_output

FURTHER = ("marginals", "interactions", "discards", "replacements")


@pytest.mark.parametrize(
    ("tables", "sampled"), [((), True), (("discards", "replacements"), True), (FURTHER, False)], ids=str
)
def test_verified(tables: tuple[str, ...], sampled: bool, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, Shape(130, 6, 9, sampled=sampled, tables=tables, rows=50))
    assert verify_output(out).problems == ()


def test_curves_fall_as_they_would(tmp_path: Path) -> None:
    """Without the elements of the largest ESVs the score is lower than without those of the smallest."""
    out = str(tmp_path / "out")
    write_output(out, Shape(130, 6, 9, sampled=False, tables=("discards", "replacements")))
    tables = analyze(out, ["discards", "replacements"])
    half = {row["order"]: row["score"] for row in tables["discards"].to_pylist() if row["discarded"] == 3}
    assert half["descending"] < half["random"] < half["ascending"]
    for row in tables["replacements"].to_pylist():
        assert row["deletion_auc"] < row["random_auc"] < row["insertion_auc"]
