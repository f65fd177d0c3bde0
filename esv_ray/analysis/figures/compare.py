"""Figure of the table `compare`: accuracies of two outputs, and how alike their values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import INTERVAL, ranking
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import minus, percent, signed
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_ACCURACIES = {"accuracy_a": "A", "accuracy_b": "B"}
_MEASURES = {"pearson": "Pearson's r", "spearman": "rank correlation", "cosine": "cosine"}
_INTERVALS = [f"{name}{end}" for name in (*_ACCURACIES, *_MEASURES, "accuracy_difference") for end in ("_low", "_high")]
_MARGIN = 0.1  # of the width of what is drawn


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the accuracies of two outputs on the videos of both, and the mean correlations within a video.

    Raises:
        DataError: the table is not that of a comparison.
        SpecError: the libraries of figures are not installed.
    """
    values = ["compared", "labelled", *_ACCURACIES, *_MEASURES, "accuracy_difference"]
    rows = read_rows(table, "compare", ["n_elements", "videos"], values, _INTERVALS)
    shown = [row for row in rows if any(has(row, name) for name in (*_ACCURACIES, *_MEASURES))]
    lengths, note = by_length(shown, "videos", most=3)
    panels, findings = [], []
    for n, (row, *_) in lengths:
        elements = count_of(n, "element")
        findings.append(f"{elements}: {'; '.join(_findings(row))}")
        compared = f"means over {count_of(int(row['compared'] or 0), 'video')}"
        panels += [
            headed(panel, look, f"{elements}: {heading}", remark)
            for panel, heading, remark in (
                (_dots(row, _ACCURACIES, look, share=True), "accuracy", _difference(row)),
                (_dots(row, _MEASURES, look), "values of a video in A and B", compared),
            )
            if panel is not None
        ]
    accuracies = any(has(row, *_ACCURACIES) for row in shown)
    return figure(
        panels,
        look,
        title="Accuracy of A and B, and how alike their values are"
        if accuracies
        else "How alike the values of A and B are",
        notes=[
            "Dot: share or mean over videos; line: 95 % interval. Near 1, both find the same elements important.",
            note,
        ],
        summary=". ".join(findings),
    )


def _findings(row: Row) -> list[str]:
    found = []
    if has(row, *_ACCURACIES):
        found.append(f"accuracy {percent(row['accuracy_a'])} in A and {percent(row['accuracy_b'])} in B")
    if has(row, "spearman"):
        found.append(f"mean rank correlation within a video {row['spearman']:.2f}")
    return found or [count_of(int(row["videos"]), "video")]


def _difference(row: Row) -> str:
    """Return the difference of the accuracies in percentage points, with its interval."""
    if not has(row, "accuracy_difference"):
        return ""
    low, high = row["accuracy_difference_low"], row["accuracy_difference_high"]
    interval = (
        "" if low is None or high is None else f" ({signed(100 * low, 1)} to {signed(100 * high, 1)}, paired by video)"
    )
    return f"B \N{MINUS SIGN} A: {signed(100 * row['accuracy_difference'], 1)} points{interval}"


def _dots(row: Row, measures: Mapping[str, str], look: Look, *, share: bool = False) -> Any:
    """Return a dot with its interval for each measure that is known; None if none is."""
    known = [name for name in measures if has(row, name)]
    if not known:
        return None
    values = [
        {
            "value": row[name],
            "low": row[f"{name}_low"],
            "high": row[f"{name}_high"],
            "text": f"{100 * row[name]:.1f} %" if share else minus(f"{row[name]:.2f}"),
        }
        for name in known
    ]
    title = "output" if share else "measure"
    axis, domain = "share of labeled videos" if share else "mean over videos", _domain(values, share)
    form = ".1%" if share else ".2f"
    told = {"value": (axis, form), "low": (INTERVAL[0], form), "high": (INTERVAL[1], form)}
    ranked = ranking(values, [[measures[name]] for name in known], look, title=title, told=told, right=54)
    theme, value = look.theme, vega().value
    layers = [
        ranked.base("low", "high")
        .mark_rule(color=theme.supporting, strokeWidth=2.5)
        .encode(x=ranked.x("low", axis, domain=domain, share=share), x2="high:Q", y=ranked.y("middle")),
        ranked.base()
        .mark_point(filled=True, size=60, color=theme.ink, opacity=1)
        .encode(x=ranked.x("value", axis, domain=domain, share=share), y=ranked.y("middle")),
        ranked.base()
        .mark_text(align="left", fontSize=11, color=theme.ink)
        .encode(x=value(ranked.width + 6), y=ranked.y("middle"), text="text:N"),
    ]
    return ranked.panel(layers)


def _domain(values: Sequence[Row], share: bool) -> tuple[float, float]:
    """Return the ends of an axis: those of the intervals and a margin, within the range of the measure."""
    ends = [value[name] for value in values for name in ("value", "low", "high") if value[name] is not None]
    margin = max(0.01, _MARGIN * (max(ends) - min(ends)))
    low = min(ends) - margin if share else min(0.0, min(ends) - margin)
    return max(0.0 if share else -1.0, low), min(1.0, max(ends) + margin) if share else 1.0
