"""Figure of the facet `discards`: score and accuracy as elements are taken away (Fig. 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name, method_place
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

ORDERS = {
    "descending": "largest ESV first",
    "ascending": "smallest ESV first",
    "center": "from the centre",
    "edges": "from the edges",
    "uniform": "uniformly",
    "random": "at random",
}
_RANKED = ("descending", "ascending")


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the mean score and the accuracy by the number of elements discarded, per order and per method.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    keys, values = ["n_elements", "method", "order", "discarded"], ["videos", "accuracy", "score", "low", "high"]
    intervals = ["accuracy_low", "accuracy_high"]
    rows = [row for row in read_rows(table, "discards", keys, values, intervals) if has(row, "score")]
    lengths, note = by_length(rows, "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["discarded"]))
        methods = sorted({row["method"] for row in of_length}, key=method_place)
        findings.append(_finding(of_length, n, methods[0]))
        panels += _panels(of_length, n, methods, look, findings[-1])
    return figure(
        panels,
        look,
        title=f"Mean score ({look.unit}) and accuracy as elements are discarded",
        notes=["Bands: 95 % intervals. All elements discarded: the class prior.", note],
        summary=". ".join(findings),
    )


def _finding(rows: Sequence[Row], n: int, method: str) -> str:
    """Return the scores of one method with half the elements left."""
    half = n // 2
    at_half = [row for row in rows if row["discarded"] == half]
    scores = {row["order"]: row["score"] for row in at_half if row["method"] == method or row["order"] not in _RANKED}
    parts = [
        f"{ORDERS[order]} {scores[order]:.2f}" for order in ("descending", "random", "ascending") if order in scores
    ]
    return (
        f"{count_of(n, 'element')}, score after {half} discarded: {', '.join(parts)}"
        if parts
        else count_of(n, "element")
    )


def _panels(rows: Sequence[Row], n: int, methods: Sequence[str], look: Look, finding: str) -> list[Any]:
    """Return score and accuracy by order for the first method; and, if there are several, the score by method."""
    first: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: method_place(row["method"])):
        if row["method"] == methods[0] or row["order"] not in _RANKED:
            first.setdefault((row["order"], row["discarded"]), row)
    found = {order for order, _ in first}
    orders = [*(order for order in ORDERS if order in found), *sorted(found - set(ORDERS))]
    named = [row | {"series": ORDERS.get(row["order"], row["order"])} for row in first.values()]
    names = [ORDERS.get(order, order) for order in orders]
    score = f"mean score ({look.unit})"
    accuracy = [row | {"low": row["accuracy_low"], "high": row["accuracy_high"]} for row in named]
    panels = [
        headed(panel, look, heading, width=look.column)
        for panel, heading in (
            (_curves(named, "score", score, names, look), finding),
            (_curves(accuracy, "accuracy", "accuracy", names, look), f"{count_of(n, 'element')}: accuracy"),
        )
        if panel is not None
    ]
    if len(methods) > 1:
        by_method = [row | {"series": method_name(row["method"])} for row in rows]
        words = [method_name(method) for method in methods]
        for order in _RANKED:
            panel = _curves([row for row in by_method if row["order"] == order], "score", score, words, look)
            if panel is not None:
                value = ORDERS[order].replace("ESV", "value")
                panels.append(headed(panel, look, f"{count_of(n, 'element')}, by method: {value}", width=look.column))
    return grid(panels, look)


def _curves(rows: Sequence[Row], value: str, title: str, names: Sequence[str], look: Look) -> Any:
    """Return the panel of a value; None if no row has it."""
    points = [row | {"x": row["discarded"], "y": row[value]} for row in rows if has(row, value)]
    if not points:
        return None
    present = {row["series"] for row in points}
    axes = Axes("elements discarded", title, y_format="~%" if value == "accuracy" else "~g", height=220)
    return lines(points, axes, look, names=[name for name in names if name in present], small=True)
