"""Figure of the facet `positions`: where the most supporting and distracting elements are (Fig. 4b of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.bars import Group, bin_name, bins, grouped_bars, interval_of
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import percent, place_name
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_KINDS = {"most_supporting": "most supporting element", "most_distracting": "most distracting element"}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the share of videos whose most supporting or most distracting element is at each position.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    ends = [f"{kind}_{end}" for kind in _KINDS for end in ("low", "high")]
    rows = read_rows(table, "positions", ["n_elements", "element"], ["videos", *_KINDS], ends)
    lengths, note = by_length([row for row in rows if has(row, *_KINDS)], "videos", repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        best = max(of_length, key=lambda row: float(row["most_supporting"]))
        findings.append(
            f"{count_of(n, 'element')}: the most supporting one is most often {place_name(best['element'], n)}, in "
            f"{percent(best['most_supporting'])} of videos"
        )
        panels.append(headed(_panel(of_length, n, look), look, look.heading(findings[-1])))
    return figure(
        panels,
        look,
        title="Position of the most supporting and of the most distracting element",
        notes=["Dashed: the share by chance. Lines: 95 % intervals, where the table has them.", note],
        summary=". ".join(findings),
    )


def _panel(rows: Sequence[Row], n: int, look: Look) -> object:
    """Return the bars of one length."""
    size = bins(n, look)
    bars: list[Row] = [
        {
            "place": first,
            "bin": bin_name(first, size, n - 1),
            "group": name,
            "share": sum(row[kind] for row in rows if first <= row["element"] < first + size),
            **interval_of(_of_kind(rows, kind, first), size),
        }
        for kind, name in _KINDS.items()
        for first in range(0, n, size)
    ]
    colors = (look.theme.supporting, look.theme.distracting)
    groups = [Group(name, color) for name, color in zip(_KINDS.values(), colors, strict=True)]
    x = "element (0: the first of the sequence)"
    return grouped_bars(bars, groups, look, x=x, y="share of videos", chance=size / n)


def _of_kind(rows: Sequence[Row], kind: str, element: int) -> list[Row]:
    """Return the interval of an element's share."""
    return [{end: row[f"{kind}_{end}"] for end in ("low", "high")} for row in rows if row["element"] == element]
