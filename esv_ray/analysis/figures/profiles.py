"""Figure of the facet `profiles`: the mean ESV along the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.keys import Key, leading
from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.lines import Axes, lines
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import FEW, Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import signed
from esv_ray.analysis.statistics import for_several
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST_CLASSES = 6


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the mean ESV by tenth of the sequence, of all classes and of those with the clearest profile.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    keys, values = ["n_elements", "place"], ["class", "count", "mean", "low", "high"]
    rows = read_rows(table, "profiles", keys, values, ["videos"])
    lengths, note = by_length([row for row in rows if has(row, "mean")], "count", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        whole = [row for row in of_length if row["class"] is None]
        if whole:
            top = max(whole, key=lambda row: float(row["mean"]))
            findings.append(
                f"{count_of(n, 'element')}: the mean ESV is highest, {signed(top['mean'], 3)}, at {_tenth(top)} of the "
                "sequence"
            )
            panels.append(headed(_panel(whole, look), look, look.heading(findings[-1])))
        panels += grid(_class_panels(of_length, look, n), look)
    return figure(
        panels,
        look,
        title=f"Mean ESV along the sequence ({look.unit})",
        notes=[
            "Band: 95 % interval. Below: the classes that are farthest from 0, if there are any, by intervals that "
            "hold for all classes and tenths together (Bonferroni).",
            note,
        ],
        summary=". ".join(findings),
    )


def key_of(row: Row) -> Key | None:
    """Return the videos of a row of the table; None if there are none, or their number is not known."""
    if not row["videos"]:
        return None
    return Key(n=row["n_elements"], videos=row["videos"], explained=row["class"], esvs=1)


def _class_panels(rows: Sequence[Row], look: Look, n: int) -> list[Any]:
    """Return a panel for each of the classes with the clearest profiles."""
    classes: dict[int, list[Row]] = {}
    for row in rows:
        if row["class"] is not None:
            classes.setdefault(int(row["class"]), []).append(row)
    compared = sum(map(len, classes.values()))
    distances = {each: max(_distance(row, compared) for row in classes[each]) for each in classes}
    clear = [each for each in classes if distances[each] > 0]
    clearest = sorted(clear, key=lambda each: (-distances[each], each))[:_MOST_CLASSES]
    highest = [row for each in clearest for row in classes[each]]
    domain = (min(0.0, *_ends(highest, "low")), max(0.0, *_ends(highest, "high"))) if highest else None
    return [
        headed(
            _panel(classes[each], look, domain, small=True),
            look,
            look.class_name(each),
            f"{count_of(n, 'element')}, {_videos(classes[each][0])}",
            width=look.column,
        )
        for each in clearest
    ]


def _panel(rows: Sequence[Row], look: Look, domain: tuple[float, float] | None = None, *, small: bool = False) -> Any:
    """Return one profile; a band is drawn where there are intervals."""
    points = [
        {**row, "x": (row["place"] + 0.5) / 10, "y": row["mean"], "told": _told(row), **leading(key_of(row), look)}
        for row in rows
    ]
    axes = Axes(
        "place in the sequence",
        "mean ESV",
        x_format=".0%",
        x_ticks=(0.0, 0.25, 0.5, 0.75, 1.0),
        domain=domain,
        height=130 if small else 190,
    )
    return lines(points, axes, look, small=small, told=True)


def _told(row: Row) -> str:
    """Return what a point says."""
    return f"place in the sequence: {_tenth(row)}; mean ESV: {signed(row['mean'], 4)}; {_counted(row)}"


def _distance(row: Row, compared: int) -> float:
    """Return the distance from 0 of a row's interval at a level that holds for all rows that are compared.

    0 for few values, whose intervals say little.
    """
    few = (row["count"] if row["videos"] is None else row["videos"] or 0) < FEW
    if few or not has(row, "low", "high"):
        return 0.0
    low, high = for_several(row["mean"], row["low"], row["high"], row["videos"], compared)
    return max(low, -high, 0.0)


def _ends(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row["mean"] if row[name] is None else row[name]) for row in rows]


def _counted(row: Row) -> str:
    return f"values: {row['count'] or 0:,}" if row["videos"] is None else f"videos: {row['videos']:,}"


def _videos(row: Row) -> str:
    return f"{row['count'] or 0:,} values" if row["videos"] is None else count_of(row["videos"], "video")


def _tenth(row: Row) -> str:
    return f"{10 * row['place']} to {10 * row['place'] + 10} %"
