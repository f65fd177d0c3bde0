"""Facet `discards`: the score while elements are taken away (Fig. 3 of the paper)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Share, Values
from esv_ray.analysis.facets.finding import Finding, effect_between, means_of_several
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import beside, of_main_length, other_lengths, plain, within
from esv_ray.analysis.figures.wording import RANKED, method_name, method_place, order_name, order_place

_QUERY = f"""
WITH places AS (SELECT *, unnest(range(n_elements + 1))::INTEGER AS discarded FROM discard_means)
SELECT n_elements, method, "order", discarded, videos, mean[n_elements + 2 + discarded] AS accuracy,
  mean[discarded + 1] AS score, {bounded("low[discarded + 1]")} AS low,
  {bounded("high[discarded + 1]")} AS high,
  round(mean[n_elements + 2 + discarded] * videos) AS _correct
FROM places ORDER BY n_elements, method, "order", discarded
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No video has discards."])
    n, rows = of_main_length(table, analyzed)
    scores = {(row["method"], row["order"], row["discarded"]): row["score"] for row in rows.to_pylist()}
    steps = list(dict.fromkeys((0, n // 4, n // 2, 3 * n // 4, n)))
    curves = list(dict.fromkeys((method, order) for method, order, _ in scores))
    curves.sort(key=lambda curve: (order_place(curve[1]), method_place(curve[0])))
    half = [scores.get(("esv", order, n // 2)) for order in ("descending", "ascending")]
    return Page(
        [
            "Probability of the label (of the predicted class where there is no label) while elements are taken away: "
            "the model scores the shorter subsequence, down to the class prior.",
            f"Without {n // 2} of {n} elements it is {plain(half[0])} if those of the largest ESVs are taken away, "
            f"and {plain(half[1])} if those of the smallest are.",
        ],
        ("taken away", *(str(step) for step in steps)),
        [(_name(*curve), *(plain(scores.get((*curve, step))) for step in steps)) for curve in curves],
        names=1,
        note=other_lengths(table, n),
    )


def _name(method: str, order: str) -> str:
    return f"{method_name(method)}, {order_name(order)}" if order in RANKED else order_name(order)


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the score without the half of the elements with the largest ESVs, beside that without half at random."""
    if not table.num_rows:
        return None
    n, rows = of_main_length(table, analyzed)
    half = n // 2
    at_half = {
        row["order"]: row for row in rows.to_pylist() if row["method"] == "esv" and row["discarded"] == half and half
    }
    chosen, random = at_half.get("descending"), at_half.get("random")
    if chosen is None or random is None:
        return None
    compared = 2 * tables
    (low, high), (least, most) = means_of_several([chosen, random], "score", compared, least=0.0, most=1.0)
    sentence = (
        f"Without the {half} of {n} elements with the largest ESVs the mean score is {plain(chosen['score'])}"
        f"{within(low, high, 3, compared=compared)}; without {half} at random it is {plain(random['score'])}"
        f"{beside(least, most, 3)}."
    )
    return Finding(FACET.name, sentence, effect_between((low, high), (least, most)))


FACET = Facet(
    name="discards",
    title="Elements taken away",
    reads=("discards",),
    uses=(),
    values=(
        Values(
            "discard_means",
            {"n_elements": pa.int32(), "method": pa.string(), "order": pa.string()},
            """
            SELECT video_id, n_elements, method, "order", list_concat(
              list(score::DOUBLE ORDER BY discarded), list((predicted = class)::DOUBLE ORDER BY discarded)) AS values
            FROM discards GROUP BY ALL HAVING count(*) = n_elements + 1
            """,
        ),
    ),
    query=_QUERY,
    shares=(Share("_correct", "videos", "accuracy_low", "accuracy_high"),),
    page=page,
    finding=finding,
)
