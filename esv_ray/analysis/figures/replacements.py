"""Figure of the facet `replacements`: deletion and insertion areas by what takes the place of an element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.by_method import bars
from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name, method_place
from esv_ray.errors import count_of
from esv_ray.show.text import printable

if TYPE_CHECKING:
    import altair

REPLACED_BY = {"removal": "left out", "neighbor": "neighbor", "mean": "mean element"}
_MEASURES = {
    "deletion_auc": "Deletion AUC (lower is better)",
    "insertion_auc": "Insertion AUC (higher is better)",
}
_RANDOM = "random_auc"


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return a panel per measure, with a bar per method and replacement.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    intervals = [f"{measure}_{end}" for measure in _MEASURES for end in ("low", "high")]
    keys = ["n_elements", "replaced_by", "method"]
    rows = read_rows(table, "replacements", keys, ["videos", *_MEASURES, _RANDOM], intervals)
    lengths, note = by_length(rows, "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        findings.append(_finding(of_length, n))
        panels += _panels(of_length, n, look)
    return figure(
        panels,
        look,
        title="Areas under the score while elements are left out, or replaced",
        notes=[
            "Left out: a shorter subsequence. Neighbor: the nearest element that is left, repeated. Lines: 95 % "
            "intervals. Dashed: the same in random order.",
            note,
        ],
        summary=". ".join(findings),
    )


def _panels(rows: Sequence[Row], n: int, look: Look) -> list[Any]:
    """Return the panels of the measures at one length, beside each other where they fit."""
    order = list(REPLACED_BY)
    known = [row for row in rows if row["replaced_by"] in REPLACED_BY]
    known.sort(key=lambda row: (method_place(row["method"]), order.index(row["replaced_by"])))
    drawn = {row["replaced_by"]: row[_RANDOM] for row in known if row[_RANDOM] is not None}
    compared = [row | {_RANDOM: drawn.get(row["replaced_by"])} for row in known]
    texts = [f"{method_name(row['method'])}, {REPLACED_BY[row['replaced_by']]}" for row in compared]
    part = Look(look.names, look.theme, look.column, look.unit)
    panels = []
    for name, heading in _MEASURES.items():
        if any(has(row, name) for row in compared):
            panel = bars(compared, name, texts, part, title="method, what becomes of elements", reference=_RANDOM)
            panels.append(headed(panel, look, heading, count_of(n, "element"), width=look.column))
    return grid(panels, look)


def _finding(rows: Sequence[Row], n: int) -> str:
    """Return the deletion areas of the first method."""
    kept = sorted((row for row in rows if has(row, "deletion_auc")), key=lambda row: method_place(row["method"]))
    parts = [
        f"{REPLACED_BY.get(row['replaced_by'], printable(row['replaced_by']))} {row['deletion_auc']:.3f}"
        for row in kept
        if row["method"] == kept[0]["method"]
    ]
    first = f", deletion AUC by {method_name(kept[0]['method'])}: {', '.join(parts)}" if kept else ""
    return count_of(n, "element") + first
