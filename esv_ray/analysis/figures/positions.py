"""Figure of the facet `positions`: where the most supporting and distracting elements are (Fig. 4b of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.bars import Group, bin_name, bins, grouped_bars, interval_of
from esv_ray.analysis.figures.keys import Key, leading, span
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows, total
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
    later = [f"{kind}_{end}" for kind in _KINDS for end in ("low", "high", "videos")]
    rows = read_rows(
        table, "positions", ["n_elements", "element"], ["videos", *_KINDS], [*later, "videos_tied"]
    )  # fmt: skip
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


def key_of(row: Row) -> Key | None:
    """Return the videos whose most supporting element is that of a row of the table; None if there are none."""
    return _key([row], row["n_elements"], "most_supporting", row["most_supporting_videos"])


def _key(rows: Sequence[Row], n: int, kind: str, videos: int | None) -> Key | None:
    """Return the videos whose most supporting or distracting element is among those of some rows."""
    if not rows or not videos:
        return None
    places = span(rows[0]["element"], rows[-1]["element"])
    best, worst = (places if kind == each else None for each in _KINDS)
    return Key(n=n, videos=videos, best=best, worst=worst)


def _videos(rows: Sequence[Row], kind: str) -> int | None:
    """Return the number of videos whose most supporting or distracting element is among those of some rows.

    None if it is not known: in a table of an earlier version, and of several elements if a video may have two of them.
    """
    counts = f"{kind}_videos"
    if not all(has(row, counts) for row in rows) or (len(rows) > 1 and total(rows, "videos_tied")):
        return None
    return total(rows, counts)


def _panel(rows: Sequence[Row], n: int, look: Look) -> object:
    """Return the bars of one length."""
    size = bins(n, look)
    bars: list[Row] = []
    for kind, name in _KINDS.items():
        for first in range(0, n, size):
            inside = [row for row in rows if first <= row["element"] < first + size]
            videos = _videos(inside, kind)
            bars.append(
                {
                    "place": first,
                    "bin": bin_name(first, size, n - 1),
                    "group": name,
                    "share": sum(row[kind] for row in inside),
                    "videos": videos,
                    **interval_of(_of_kind(inside, kind, first), size),
                    **leading(_key(inside, n, kind, videos), look),
                }
            )
    colors = (look.theme.supporting, look.theme.distracting)
    groups = [Group(name, color) for name, color in zip(_KINDS.values(), colors, strict=True)]
    x = "element (0: the first of the sequence)"
    return grouped_bars(bars, groups, look, x=x, y="share of videos", chance=size / n)


def _of_kind(rows: Sequence[Row], kind: str, element: int) -> list[Row]:
    """Return the interval of an element's share."""
    return [{end: row[f"{kind}_{end}"] for end in ("low", "high")} for row in rows if row["element"] == element]
