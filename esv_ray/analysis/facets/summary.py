"""Facet `summary`: accuracy, and how elements contribute to the score, per length."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Share
from esv_ray.analysis.facets.measures import MEASURES, bin_of, error_of, measure, percentile
from esv_ray.analysis.facets.words import (
    Row,
    class_in_words,
    counted,
    joined,
    more,
    of_main_length,
    percent,
    plain,
    signed,
)

_SHOWN = 12
_MEDIANS = {"efficiency gap": "median_sampled_gap", "standard error of an ESV": "median_stderr"}

_QUERY = f"""
WITH errors AS (
  SELECT n_elements, {percentile(0.5)} AS value
  FROM (SELECT *, sum(count) OVER (PARTITION BY n_elements ORDER BY bin) AS below,
    sum(count) OVER (PARTITION BY n_elements) AS total FROM summary_errors)
  GROUP BY n_elements
), gaps AS (
  SELECT n_elements, {percentile(0.5)} AS value
  FROM (SELECT *, sum(count) OVER (PARTITION BY n_elements ORDER BY bin) AS below,
    sum(count) OVER (PARTITION BY n_elements) AS total FROM summary_gaps)
  GROUP BY n_elements
)
SELECT v.n_elements, v.videos, v.correct / nullif(v.labelled, 0) AS accuracy,
  {measure("score", "m.mean")} AS mean_score, {measure("prior", "m.mean")} AS mean_prior,
  {measure("support", "m.mean")} AS support, {measure("distract", "m.mean")} AS distract,
  {measure("supporting_share", "m.mean")} AS supporting_share, v.exact / v.videos AS exact_share,
  e.value AS median_stderr, v.labelled, coalesce(m.videos, 0) AS explained, v.correct AS _correct,
  {measure("score", "m.low")} AS score_low, {measure("score", "m.high")} AS score_high,
  {measure("support", "m.low")} AS support_low, {measure("support", "m.high")} AS support_high,
  {error_of(measure("support_square", "m.mean"), "m.videos")} AS support_stderr,
  {measure("distract", "m.low")} AS distract_low, {measure("distract", "m.high")} AS distract_high,
  {error_of(measure("distract_square", "m.mean"), "m.videos")} AS distract_stderr,
  v.largest_gap AS largest_exact_gap, g.value AS median_sampled_gap
FROM summary_videos AS v
LEFT JOIN (SELECT * FROM measures WHERE class IS NULL) AS m USING (n_elements)
LEFT JOIN errors AS e USING (n_elements)
LEFT JOIN gaps AS g USING (n_elements)
ORDER BY n_elements
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    rows = table.to_pylist()
    if not rows:
        return Page(["No video has ESVs."])
    of = "score" if not analyzed.in_logits else "logit"
    sentences = [_contributions(table, analyzed)]
    sentences += [accuracy_of(row) for row in rows[:1] if len(rows) == 1 and row["labelled"]]
    missing = sum(row["videos"] - row["explained"] for row in rows)
    if missing:
        sentences.append(f"{counted(missing, 'video')} without ESVs of that class: in the accuracy alone.")
    sentences.append(exactness_of(rows))
    return Page(
        sentences,
        ("n", "videos", "accuracy", "prior", "support", "distract", of, "share"),
        [
            (
                str(row["n_elements"]),
                str(row["videos"]),
                percent(row["accuracy"], 1),
                plain(row["mean_prior"]),
                signed(row["support"]),
                signed(row["distract"]),
                plain(row["mean_score"]),
                percent(row["supporting_share"]),
            )
            for row in rows[:_SHOWN]
        ],
        note=joined(
            [
                f"Means: {of} = prior + support + distract. Support is the sum of the ESVs above 0, distract that of "
                "the others; share is the fraction of elements above 0.",
                more(_SHOWN, len(rows), "lengths"),
            ]
        ),
    )


def _contributions(table: pa.Table, analyzed: Analyzed) -> str:
    """Return how the elements lead from the prior to the score, at the length that most videos have."""
    n, rows = of_main_length(table, analyzed)
    (row,) = rows.to_pylist()
    if row["mean_score"] is None:
        return f"No ESVs of {class_in_words(analyzed)}."
    of = "logit" if analyzed.in_logits else "score"
    return (
        f"With {counted(n, 'element')}, the mean {of} of {class_in_words(analyzed)} goes from "
        f"{plain(row['mean_prior'])}, the prior, to {plain(row['mean_score'])}: elements with ESVs above 0 "
        f"({percent(row['supporting_share'])} of them) add {plain(row['support'])}, the others take "
        f"{plain(abs(row['distract']))} away."
    )


def accuracy_of(row: Row) -> str:
    """Return the accuracy of a length in words, with its interval."""
    return (
        f"Accuracy {percent(row['accuracy'], 1)} of {counted(row['labelled'], 'labeled video')} (95 % interval "
        f"{100 * row['accuracy_low']:.1f} to {100 * row['accuracy_high']:.1f} %)."
    )


def exactness_of(rows: list[Row], kind: str = "") -> str:
    """Return how many sequences are exact and sampled, and how accurate they are.

    Args:
        rows: of the table.
        kind: of the estimator, where the sentence follows it: `exact` needs not be said twice.
    """
    exact = sum(round(row["exact_share"] * row["videos"]) for row in rows)
    sampled = sum(row["videos"] for row in rows) - exact
    gaps = [row["largest_exact_gap"] for row in rows if row["largest_exact_gap"] is not None]
    if kind == "exact" and not sampled:
        return counted(exact, "sequence") + (f" (largest efficiency gap {max(gaps):.1e})." if gaps else ".")
    texts = [f"{counted(exact, 'sequence')} exact" + (f" (largest efficiency gap {max(gaps):.1e})" if gaps else "")]
    if not exact:
        texts = []
    if sampled:
        last = max((row for row in rows if row["exact_share"] < 1), key=lambda row: row["videos"])
        values = [
            f"median {name} {last[column]:.1e}"
            for name, column in (
                ("efficiency gap", "median_sampled_gap"),
                ("standard error of an ESV", "median_stderr"),
            )
            if last[column] is not None
        ]
        at = f" at {last['n_elements']} elements" if len(rows) > 1 else ""
        texts.append(f"{counted(sampled, 'sequence')} sampled" + (f" ({', '.join(values)}{at})" if values else ""))
    return ", ".join(texts) + "."


FACET = Facet(
    name="summary",
    title="Summary",
    reads=("videos", "attributions"),
    uses=("sequences",),
    counts=(
        Counts(
            "summary_videos",
            ("n_elements",),
            """
            SELECT n_elements, count(*) AS videos, count(label) AS labelled, count_if(label = predicted) AS correct,
              count_if(exact) AS exact, max(efficiency_gap) FILTER (exact) AS largest_gap
            FROM videos WHERE status = 'ok' GROUP BY n_elements
            """,
        ),
        Counts(
            "summary_errors",
            ("n_elements", "bin"),
            f"""
            SELECT n_elements, {bin_of("error")} AS bin, count(*) AS count
            FROM (SELECT n_elements, unnest(stderr) AS error FROM sequences) WHERE error IS NOT NULL GROUP BY ALL
            """,
        ),
        Counts(
            "summary_gaps",
            ("n_elements", "bin"),
            f"""
            SELECT n_elements, {bin_of("efficiency_gap")} AS bin, count(*) AS count
            FROM videos WHERE status = 'ok' AND NOT exact GROUP BY ALL
            """,
        ),
    ),
    values=(MEASURES,),
    query=_QUERY,
    shares=(Share("_correct", "labelled", "accuracy_low", "accuracy_high"),),
    page=page,
)
