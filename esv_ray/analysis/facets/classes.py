"""Facet `classes`: accuracy and contributions per class."""

from __future__ import annotations

import math

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect, shares_of_several
from esv_ray.analysis.facets.measures import CONCENTRATION, MEASURES, bounded, error_of, measure
from esv_ray.analysis.facets.words import (
    Row,
    class_name,
    counted,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    rounded,
    short_name,
    signed,
    within_percent,
    without_esvs,
)

_SHOWN = 20
_ENDS = 6
_FEW = 30  # videos of a class, below which its intervals are shown

_MEANS = ("score", "support", "distract", "supporting_share")


def _ends(name: str, table: str, least: str, most: str) -> str:
    return ", ".join(f"{bounded(f'{table}.{end}[1]', least, most)} AS {name}_{end}" for end in ("low", "high"))


_QUERY = f"""
SELECT k.class, c.name, k.n_elements, coalesce(m.videos, 0) AS videos,
  k.correct / nullif(k.labelled, 0) AS accuracy, p.prior, {measure("score", "m.mean")} AS score,
  {measure("support", "m.mean")} AS support, {measure("distract", "m.mean")} AS distract,
  {measure("supporting_share", "m.mean")} AS supporting_share, e.mean[1] AS entropy, t.mean[1] AS elements_to_90,
  k.labelled, k.correct AS _correct,
  {", ".join(f"{measure(name, f'm.{end}')} AS {name}_{end}" for name in _MEANS for end in ("low", "high"))},
  {_ends("entropy", "e", "0", "log2(k.n_elements)")}, {_ends("elements_to_90", "t", "1", "k.n_elements")},
  {error_of(measure("support_square", "m.mean"), "m.videos")} AS support_stderr,
  {error_of(measure("distract_square", "m.mean"), "m.videos")} AS distract_stderr,
  coalesce(e.videos, 0) AS entropy_videos, coalesce(t.videos, 0) AS elements_to_90_videos
FROM class_counts AS k
JOIN priors AS p ON p.class = k.class
LEFT JOIN measures AS m ON m.class = k.class AND m.n_elements = k.n_elements
LEFT JOIN concentration AS e ON e.class = k.class AND e.n_elements = k.n_elements AND e.measure = 'entropy'
LEFT JOIN concentration AS t ON t.class = k.class AND t.n_elements = k.n_elements AND t.measure = 'elements_to_90'
LEFT JOIN classes AS c ON c.id = k.class
ORDER BY k.class, k.n_elements
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    by_score = sorted(of_length, key=lambda row: -math.inf if row["score"] is None else row["score"], reverse=True)
    some = len(of_length) > _SHOWN
    shown = [*by_score[:_ENDS], *by_score[-_ENDS:]] if some else of_length
    top = by_score[0]
    if top["score"] is None:
        sentence = f"No class has videos with ESVs of it, of {len(of_length)} classes."
    elif len(of_length) == 1:
        sentence = f"There are videos of one class, {short_name(top['class'], analyzed)}."
    else:
        of = "logit" if analyzed.in_logits else "score"
        sentence = (
            f"{short_name(top['class'], analyzed, first=True)} has the highest mean {of} of {len(of_length)} classes: "
            f"{plain(top['score'])}, from a prior of {plain(top['prior'])}."
        )
    accuracy = "accuracy" if analyzed.explained == "label" else "precision"
    return Page(
        [sentence],
        ("class", "videos", accuracy, "support", "distract", "logit" if analyzed.in_logits else "score"),
        [
            (
                class_name(row["class"], analyzed),
                str(row["videos"]),
                _accuracy(row),
                signed(row["support"]),
                signed(row["distract"]),
                _score(row),
            )
            for row in shown
        ],
        names=1,
        note=joined(
            [
                f"Ranges: 95 % intervals, for classes of fewer than {_FEW} videos." if any(map(_few, shown)) else "",
                f"The {_ENDS} classes of the highest and of the lowest score of {len(of_length)}." if some else "",
                without_esvs(analyzed, n),
                other_lengths(table, n),
            ]
        ),
    )


def _few(row: Row) -> bool:
    return bool(row["videos"] < _FEW)


def _accuracy(row: Row) -> str:
    """Return the accuracy of a class, or its interval if the class has few videos."""
    if row["labelled"] >= _FEW or row["accuracy"] is None:
        return percent(row["accuracy"])
    return f"{100 * row['accuracy_low']:.0f}..{100 * row['accuracy_high']:.0f} %"


def _score(row: Row) -> str:
    """Return the mean score of a class, likewise; one or two videos have no interval."""
    if not _few(row) or row["score_low"] is None:
        return plain(row["score"])
    return f"{row['score_low']:.3f}..{row['score_high']:.3f}"


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the class whose accuracy differs most from that of all classes together."""
    if not table.num_rows or analyzed.explained != "label":
        return None
    _, of_length = of_main_length(table, analyzed)
    rows = [row for row in of_length.to_pylist() if row["labelled"]]
    if len(rows) < 2:
        return None
    overall = sum(row["accuracy"] * row["labelled"] for row in rows) / sum(row["labelled"] for row in rows)
    compared = len(rows) * tables
    ends = shares_of_several(rows, "accuracy", "labelled", compared)
    sizes = [effect(low, high, overall) for low, high in ends]
    top = max(range(len(rows)), key=sizes.__getitem__)
    row = rows[top]
    sentence = (
        f"{short_name(row['class'], analyzed, first=True)} is recognized in {rounded(row['accuracy'])} of its "
        f"{counted(row['labelled'], 'video')}{within_percent(*ends[top], compared=compared)}; all classes together "
        f"in {rounded(overall)}."
    )
    return Finding(FACET.name, sentence, sizes[top])


FACET = Facet(
    name="classes",
    title="Classes",
    reads=("videos", "attributions"),
    uses=("explained", "sequences"),
    counts=(
        Counts(
            "class_counts",
            ("class", "n_elements"),
            """
            SELECT class, n_elements, count(label) AS labelled, count_if(correct) AS correct
            FROM explained GROUP BY ALL
            """,
        ),
    ),
    values=(MEASURES, CONCENTRATION),
    query=_QUERY,
    shares=(Share("_correct", "labelled", "accuracy_low", "accuracy_high"),),
    page=page,
    finding=finding,
)
