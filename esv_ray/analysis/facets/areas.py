"""Facet `areas`: faithfulness of each method, measured on the curves of the facet `discards`."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import of_main_length, other_lengths, plain, signed, within
from esv_ray.analysis.figures.wording import method_name

MEASURES = ("deletion_auc", "insertion_auc", "comprehensiveness", "sufficiency", "average_drop", "monotonicity")
"""Measures of a video, from its score s(k) without the k most influential elements, and t(k) with these alone.

- deletion_auc, insertion_auc: area under s and t, by trapezoids, over the share of elements (Petsiuk et al. 2018).
- comprehensiveness, sufficiency: mean of s(0) - s(k) and of s(0) - t(k) over k = 1, 5, 10, 20 and 50 % of the elements,
  rounded up (DeYoung et al. 2020).
- average_drop: how much of the score is lost with the more influential half alone, as a share: max(0, s(0) - t(n/2)) /
  s(0), half rounded up (after Chattopadhay et al. 2018).
- monotonicity: share of the steps of s that do not raise the score (after Luss et al. 2021).
"""
_HEADERS = ("deletion", "insertion", "compr.", "suff.", "drop", "monotone")

_CURVES = """
WITH curves AS (
  SELECT video_id, n_elements AS n, method,
    list(score::DOUBLE ORDER BY discarded) FILTER ("order" = 'descending') AS s,
    list(score::DOUBLE ORDER BY discarded) FILTER ("order" = 'ascending') AS remaining
  FROM discards WHERE "order" IN ('descending', 'ascending') GROUP BY ALL
), whole AS (
  SELECT *, list_reverse(remaining) AS t, list_transform([1, 5, 10, 20, 50], lambda q: (q * n + 99) // 100) AS ks
  FROM curves WHERE len(s) = n + 1 AND len(remaining) = n + 1
), measured AS (
  SELECT video_id, n AS n_elements, method, [
    (list_sum(s) - (s[1] + s[n + 1]) / 2) / n,
    (list_sum(t) - (t[1] + t[n + 1]) / 2) / n,
    list_avg(list_transform(ks, lambda k: s[1] - s[k + 1])),
    list_avg(list_transform(ks, lambda k: s[1] - t[k + 1])),
    CASE WHEN s[1] > 0 THEN greatest(0, s[1] - t[(n + 1) // 2 + 1]) / s[1] ELSE 0 END,
    list_avg(list_transform(range(1, n + 1), lambda k: (s[k + 1] <= s[k])::DOUBLE))
  ] AS values
  FROM whole
)
"""


def _columns(table: str, suffix: str) -> str:
    return ", ".join(
        f"{bounded(f'{table}.{part}[{place}]', _least(name, suffix))} AS {name}{suffix}{end}"
        for place, name in enumerate(MEASURES, start=1)
        for part, end in (("mean", ""), ("low", "_low"), ("high", "_high"))
        if suffix or end
    )


def _least(name: str, suffix: str) -> str:
    """Return the smallest value possible; the largest is 1."""
    return "-1" if suffix or name in ("comprehensiveness", "sufficiency") else "0"


_QUERY = f"""
SELECT m.n_elements, m.method, m.videos,
  {", ".join(f"m.mean[{place}] AS {name}" for place, name in enumerate(MEASURES, start=1))},
  {_columns("m", "")},
  {_columns("d", "_minus_esv")}
FROM area_means AS m LEFT JOIN area_differences AS d USING (n_elements, method)
ORDER BY m.n_elements, m.method
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No video has discards in descending and ascending order."])
    n, rows = of_main_length(table, analyzed)
    of_length = sorted(rows.to_pylist(), key=lambda row: row["deletion_auc"])
    best = of_length[0]
    return Page(
        [
            f"The score falls fastest when elements are taken away by {method_name(best['method'])}: deletion area "
            f"{plain(best['deletion_auc'])}.",
            "Faithful values have a low deletion area, sufficiency and drop, and a high insertion area, "
            "comprehensiveness and monotonicity. What is taken away is left out: the model scores the rest.",
        ],
        ("method", *_HEADERS),
        [(method_name(row["method"]), *(plain(row[name]) for name in MEASURES)) for row in of_length],
        names=1,
        note=other_lengths(table, n),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the deletion area of the ESVs beside that of values at random, where the job has such values."""
    if not table.num_rows:
        return None
    _, rows = of_main_length(table, analyzed)
    of_method = {row["method"]: row for row in rows.to_pylist()}
    esv, random = of_method.get("esv"), of_method.get("random")
    if esv is None or random is None:
        return None
    name, area = "deletion_auc_minus_esv", random["deletion_auc"]
    ((low, high),) = means_of_several([random], name, tables, f"{name}_low", f"{name}_high")  # paired by video
    sentence = (
        f"The area under the score is {plain(esv['deletion_auc'])} if the elements with the largest ESVs are taken "
        f"away first, and {plain(area)} in the order of random values; difference {signed(random[name])}"
        f"{within(low, high, 3, compared=tables)}; by chance 0."
    )
    return Finding(FACET.name, sentence, effect(low, high, 0.0, least=area - 1, most=area))


FACET = Facet(
    name="areas",
    title="Faithfulness",
    reads=("discards",),
    uses=(),
    values=(
        Values(
            "area_means",
            {"n_elements": pa.int32(), "method": pa.string()},
            f"{_CURVES} SELECT * FROM measured",
        ),
        Values(
            "area_differences",
            {"n_elements": pa.int32(), "method": pa.string()},
            f"""
            {_CURVES}
            SELECT m.video_id, m.n_elements, m.method,
              list_transform(range(1, {len(MEASURES) + 1}), lambda i: m.values[i] - e.values[i]) AS values
            FROM measured AS m JOIN measured AS e USING (video_id, n_elements)
            WHERE m.method <> 'esv' AND e.method = 'esv'
            """,
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
)
