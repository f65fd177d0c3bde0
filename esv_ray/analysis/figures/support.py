"""Figure of the facet `support`: how many elements support a class (Fig. 4a of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.bars import Group, bin_name, bins, grouped_bars, interval_of
from esv_ray.analysis.figures.keys import OUTCOMES, Key, leading, span
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, read_rows, total
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_GROUPS = {True: "classified correctly", False: "misclassified", None: "without a label"}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the share of videos by number of supporting elements, for correct and for misclassified videos.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "support", ["n_elements", "supporting"], ["correct", "videos"], ["low", "high"])
    lengths, note = by_length([row for row in rows if row["videos"]], "videos")
    panels, findings = [], []
    for n, of_length in lengths:
        groups = [group for group in _GROUPS if any(row["correct"] is group for row in of_length)]
        means = [_mean([row for row in of_length if row["correct"] is group]) for group in groups]
        findings.append(
            f"{count_of(n, 'element')}: on average "
            + ", ".join(f"{mean:.1f} supporting if {_GROUPS[group]}" for group, mean in zip(groups, means, strict=True))
        )
        panels.append(headed(_panel(of_length, n, groups, look), look, look.heading(findings[-1])))
    return figure(
        panels,
        look,
        title="Supporting elements (ESV > 0) per video",
        notes=["Each color sums to 100 %. Lines: 95 % intervals, where the table has them.", note],
        summary=". ".join(findings),
    )


def key_of(row: Row) -> Key | None:
    """Return the videos of a row of the table; None if there are none."""
    return _key([row], row["n_elements"], row["supporting"], row["supporting"])


def _key(rows: Sequence[Row], n: int, first: int, last: int) -> Key | None:
    """Return the videos of rows of one outcome, whose numbers of supporting elements are from a first to a last one."""
    videos = total(rows, "videos")
    if not videos:
        return None
    return Key(n=n, videos=videos, outcome=OUTCOMES[rows[0]["correct"]], supporting=span(first, last))


def _mean(rows: Sequence[Row]) -> float:
    return float(sum(row["supporting"] * row["videos"] for row in rows) / total(rows, "videos"))


def _panel(rows: Sequence[Row], n: int, groups: Sequence[bool | None], look: Look) -> object:
    """Return the bars of one length."""
    size = bins(n + 1, look)
    bars: list[Row] = []
    for group in groups:
        of_group = [row for row in rows if row["correct"] is group]
        videos = total(of_group, "videos")
        for first in range(0, n + 1, size):
            inside = [row for row in of_group if first <= row["supporting"] < first + size]
            bars.append(
                {
                    "place": first,
                    "bin": bin_name(first, size, n),
                    "group": f"{_GROUPS[group]} ({videos:,})",
                    "share": total(inside, "videos") / videos,
                    "videos": total(inside, "videos"),
                    **interval_of(inside, size),
                    **leading(_key(inside, n, first, min(first + size - 1, n)), look),
                }
            )
    shades = {True: look.theme.supporting, False: look.theme.distracting, None: look.theme.faint}
    named = dict.fromkeys(row["group"] for row in bars)
    colors = [Group(name, shades[group]) for name, group in zip(named, groups, strict=True)]
    return grouped_bars(bars, colors, look, x="supporting elements", y="share of videos")
