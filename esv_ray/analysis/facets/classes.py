"""Facet `classes`: accuracy and contributions per class."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.finding import Finding, effect
from esv_ray.analysis.facets.measures import MEASURES, error_of, measure
from esv_ray.analysis.facets.words import (
    Row,
    class_name,
    joined,
    of_main_length,
    other_lengths,
    percent,
    plain,
    short_name,
    signed,
    within_percent,
)

_SHOWN = 20
_ENDS = 6
_FEW = 30  # videos of a class, below which its intervals are shown

_QUERY = f"""
SELECT m.class, c.name, m.n_elements, m.videos, k.correct / nullif(k.labelled, 0) AS accuracy,
  {measure("prior")} AS prior, {measure("score")} AS score, {measure("support")} AS support,
  {measure("distract")} AS distract, {measure("supporting_share")} AS supporting_share, {measure("entropy")} AS entropy,
  {measure("elements_to_90")} AS elements_to_90, k.labelled, k.correct AS _correct,
  {
    ", ".join(
        f"{measure(name, end)} AS {name}_{end}"
        for name in ("score", "support", "distract", "supporting_share", "entropy", "elements_to_90")
        for end in ("low", "high")
    )
},
  {error_of(measure("support_square"))} AS support_stderr, {error_of(measure("distract_square"))} AS distract_stderr
FROM measures AS m
JOIN class_counts AS k ON k.class = m.class AND k.n_elements = m.n_elements
LEFT JOIN classes AS c ON c.id = m.class
ORDER BY m.class, m.n_elements
"""


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, rows = of_main_length(table)
    of_length = rows.to_pylist()
    by_score = sorted(of_length, key=lambda row: -row["score"])
    some = len(of_length) > _SHOWN
    shown = [*by_score[:_ENDS], *by_score[-_ENDS:]] if some else of_length
    top = by_score[0]
    accuracy = "accuracy" if analysed.explained == "label" else "precision"
    return Page(
        [
            f"{short_name(top['class'], analysed)} has the highest mean {'logit' if analysed.in_logits else 'score'} "
            f"of {len(of_length)} classes: {plain(top['score'])}, from a prior of {plain(top['prior'])}."
        ],
        ("class", "videos", accuracy, "support", "distract", "logit" if analysed.in_logits else "score"),
        [
            (
                class_name(row["class"], analysed),
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
                other_lengths(table, n),
            ]
        ),
    )


def _few(row: Row) -> bool:
    return bool(row["videos"] < _FEW)


def _accuracy(row: Row) -> str:
    """Return the accuracy of a class, or its interval if the class has few videos."""
    if not _few(row) or row["accuracy"] is None:
        return percent(row["accuracy"])
    return f"{100 * row['accuracy_low']:.0f}..{100 * row['accuracy_high']:.0f} %"


def _score(row: Row) -> str:
    """Return the mean score of a class, likewise; a single video has no interval."""
    if not _few(row) or row["score_low"] is None:
        return plain(row["score"])
    return f"{row['score_low']:.3f}..{row['score_high']:.3f}"


def finding(table: pa.Table, analysed: Analysed) -> Finding | None:
    """Return the class whose accuracy differs most from that of all classes together."""
    if not table.num_rows or analysed.explained != "label":
        return None
    _, of_length = of_main_length(table)
    rows = [row for row in of_length.to_pylist() if row["labelled"]]
    if len(rows) < 2:
        return None
    overall = sum(row["accuracy"] * row["labelled"] for row in rows) / sum(row["labelled"] for row in rows)
    sizes = [effect(row["accuracy_low"], row["accuracy_high"], overall) for row in rows]
    top = max(range(len(rows)), key=sizes.__getitem__)
    row = rows[top]
    sentence = (
        f"{short_name(row['class'], analysed)} is recognised in {percent(row['accuracy'])} of its {row['labelled']} "
        f"videos{within_percent(row['accuracy_low'], row['accuracy_high'])}; all classes together in "
        f"{percent(overall)}."
    )
    return Finding(FACET.name, sentence, sizes[top])


FACET = Facet(
    name="classes",
    title="Classes",
    reads=("videos", "attributions"),
    uses=("sequences",),
    counts=(
        Counts(
            "class_counts",
            ("class", "n_elements"),
            """
            SELECT class, n_elements, count(label) AS labelled, count_if(correct) AS correct
            FROM sequences GROUP BY ALL
            """,
        ),
    ),
    values=(MEASURES,),
    query=_QUERY,
    shares=(Share("_correct", "labelled", "accuracy_low", "accuracy_high"),),
    page=page,
    finding=finding,
)
