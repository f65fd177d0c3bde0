"""Figure of the facet `discards`: score and accuracy as elements are taken away (Fig. 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import RANKED, method_name, method_place, order_name, order_place, percent
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST_LENGTHS = 3


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the mean score and the accuracy by the number of elements discarded, per order and per method.

    Orders by values, and the first method, have bands and thick lines: bands of all would hide each other.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    keys, values = ["n_elements", "method", "order", "discarded"], ["videos", "accuracy", "score", "low", "high"]
    intervals = ["accuracy_low", "accuracy_high"]
    rows = [row for row in read_rows(table, "discards", keys, values, intervals) if has(row, "score")]
    longer = [row for row in rows if row["n_elements"] > 1]  # of one element there is nothing between score and prior
    lengths, note = by_length(longer or rows, "videos", most=_MOST_LENGTHS, repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["discarded"]))
        methods = sorted({row["method"] for row in of_length}, key=method_place)
        finding = _at_half(of_length, n, methods[0], "score")
        findings.append(", ".join(text for text in (count_of(n, "element"), finding) if text))
        by_order, by_method = _order_panels(of_length, n, methods[0], look), _method_panels(of_length, n, methods, look)
        panels += grid([*by_order, *by_method], look)
    reading = (
        "Bands: 95 % intervals, of the thick lines; the table has all of them. All elements discarded: the class prior."
    )
    return figure(
        panels,
        look,
        title=f"Mean score ({look.unit}) and accuracy as elements are discarded",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def _by_order(rows: Sequence[Row], method: str) -> list[Row]:
    """Return the rows of a method, and of orders that depend on no method, with the order in words as `series`."""
    first: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: method_place(row["method"])):
        if row["method"] == method or row["order"] not in RANKED:
            first.setdefault((row["order"], row["discarded"]), row)
    value = _value_name(method)
    return [row | {"series": order_name(row["order"], value)} for row in first.values()]


def _value_name(method: str) -> str:
    """Return what a method's values are called in an order."""
    return "ESV" if method == "esv" else "value"


def _at_half(rows: Sequence[Row], n: int, method: str, value: str) -> str:
    """Return a value with half the elements left, for a sentence; "" if it is not known."""
    half = n // 2
    at_half = [row for row in _by_order(rows, method) if row["discarded"] == half]
    found = {row["order"]: row for row in at_half if has(row, value)}
    parts = []
    for order in ("descending", "random", "ascending"):
        if order in found:
            number = found[order][value]
            parts.append(f"{found[order]['series']} {percent(number) if value == 'accuracy' else f'{number:.2f}'}")
    return f"{value} after {half} discarded: {', '.join(parts)}" if parts else ""


def _order_panels(rows: Sequence[Row], n: int, method: str, look: Look) -> list[Any]:
    """Return score and accuracy by order."""
    named = _by_order(rows, method)
    orders = sorted({row["order"] for row in named}, key=order_place)
    series = {row["order"]: row["series"] for row in named}
    names, banded = [series[order] for order in orders], [series[order] for order in orders if order in RANKED]
    accuracy = [row | {"low": row["accuracy_low"], "high": row["accuracy_high"]} for row in named]
    return [
        headed(panel, look, f"{count_of(n, 'element')}: {value}", _at_half(rows, n, method, value), width=look.column)
        for value, panel in (
            ("score", _curves(named, "score", names, banded, look)),
            ("accuracy", _curves(accuracy, "accuracy", names, banded, look)),
        )
        if panel is not None
    ]


def _method_panels(rows: Sequence[Row], n: int, methods: Sequence[str], look: Look) -> list[Any]:
    """Return the score by method, for both orders by values; none if there is one method."""
    if len(methods) < 2:
        return []
    by_method = [row | {"series": method_name(row["method"])} for row in rows if row["order"] in RANKED]
    names = [method_name(method) for method in methods]
    panels = []
    for order in RANKED:
        panel = _curves([row for row in by_method if row["order"] == order], "score", names, names[:1], look)
        if panel is not None:
            heading = f"{count_of(n, 'element')}, by method: {order_name(order, 'value')}"
            panels.append(headed(panel, look, heading, width=look.column))
    return panels


def _curves(rows: Sequence[Row], value: str, names: Sequence[str], banded: Sequence[str], look: Look) -> Any:
    """Return the panel of a value; None if no row has it."""
    points = [row | {"x": row["discarded"], "y": row[value]} for row in rows if has(row, value)]
    if not points:
        return None
    present = {row["series"] for row in points}
    share = value == "accuracy"
    title = "accuracy" if share else f"mean score ({look.unit})"
    axes = Axes("elements discarded", title, y_format="~%" if share else "~g", zero=share, height=220)
    return lines(points, axes, look, names=[name for name in names if name in present], banded=banded, small=True)
