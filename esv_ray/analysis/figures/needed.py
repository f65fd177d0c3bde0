"""Figure of the facet `needed`: how few elements reach 90 % of the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import EXTENT, figure, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.ranking import ranking
from esv_ray.analysis.figures.rows import FEW, Row, by_length, read_rows, total
from esv_ray.analysis.figures.wording import percent
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST = 24


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the share of videos for which some number of elements is enough; and which classes need fewest and most.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "needed", ["n_elements", "elements"], ["class", "videos"])
    lengths, note = by_length([row for row in rows if row["videos"]], "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: int(row["elements"]))
        whole = [row for row in of_length if row["class"] is None]
        if whole:
            half = _quantile(whole, 0.5)
            enough = {0: "the class prior alone is", 1: "1 is"}.get(half, f"{half} or fewer are")
            share = total([row for row in whole if row["elements"] <= half], "videos") / total(whole, "videos")
            findings.append(f"{count_of(n, 'element')}: {enough} enough for {percent(share)} of videos")
            panels.append(headed(_curve(whole, n, look), look, look.heading(findings[-1])))
        classes = _classes(of_length)
        if classes:
            heading = (
                f"{count_of(n, 'element')}: the classes that need fewest and most"
                if len(classes) > 1
                else count_of(n, "element")
            )
            left_out = f"{_MOST} of {len(classes)} classes." if len(classes) > _MOST else ""
            panels.append(headed(_ranked(classes, n, look), look, heading, left_out))
    reading = (
        "Fewest elements whose score is 90 % of the whole sequence's; 0: the class prior reaches it. By class: dot: "
        f"mean; line: the middle half of the videos; classes with {FEW} videos or more."
    )
    return figure(
        panels,
        look,
        title="Fewest elements that reach 90 % of the score (share of videos)",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def _quantile(rows: Sequence[Row], share: float) -> int:
    """Return the smallest number of elements that is enough for a share of the videos."""
    needed, videos = share * total(rows, "videos"), 0
    for row in rows:
        videos += row["videos"]
        if videos >= needed:
            return int(row["elements"])
    raise AssertionError("shares are at most 1")


def _curve(rows: Sequence[Row], n: int, look: Look) -> Any:
    """Return the cumulative share of videos."""
    counts = {row["elements"]: row["videos"] for row in rows}
    everything, videos, points = total(rows, "videos"), 0, []
    for elements in range(n + 1):
        videos += counts.get(elements, 0)
        points.append({"x": elements, "y": videos / everything, "low": None, "high": None})
    axes = Axes("elements", "share of videos", y_format="~%", domain=(0.0, 1.0), steps=True)
    return lines(points, axes, look)


def _classes(rows: Sequence[Row]) -> list[Row]:
    """Return the classes by the mean number of elements that they need."""
    classes: dict[int, list[Row]] = {}
    for row in rows:
        if row["class"] is not None:
            classes.setdefault(int(row["class"]), []).append(row)
    ranked = [
        {
            "class": each,
            "mean": sum(row["elements"] * row["videos"] for row in of_class) / total(of_class, "videos"),
            "low": _quantile(of_class, 0.25),
            "high": _quantile(of_class, 0.75),
            "remark": f"{total(of_class, 'videos'):,}",
        }
        for each, of_class in classes.items()
        if total(of_class, "videos") >= FEW
    ]
    return sorted(ranked, key=lambda row: (row["mean"], row["class"]))


def _ranked(classes: Sequence[Row], n: int, look: Look) -> Any:
    """Return a row per class: those that need fewest, and those that need most."""
    shown = [*classes[: _MOST // 2], *classes[-_MOST // 2 :]] if len(classes) > _MOST else classes
    told = {
        "mean": ("mean", ".1f"),
        "low": ("a quarter of the videos needs at most", "d"),
        "high": ("three quarters need at most", "d"),
        "remark": ("videos", ""),
    }
    texts = [[look.class_name(row["class"])] for row in shown]
    ranked = ranking(shown, texts, look, title="class", told=told, right=44, extent=EXTENT)
    base = ranked.base()
    x = ranked.x("low", "elements", whole=True, domain=(0, n))
    theme = look.theme
    layers = [
        base.mark_rule(color=theme.supporting, strokeWidth=3).encode(x=x, x2="high:Q", y=ranked.y("middle")),
        base.mark_point(filled=True, size=50, color=theme.ink, opacity=1).encode(x="mean:Q", y=ranked.y("middle")),
        ranked.remarks("remark", "videos"),
    ]
    return ranked.panel(layers)
