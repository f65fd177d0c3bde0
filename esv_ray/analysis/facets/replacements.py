"""Facet `replacements`: deletion and insertion where elements are left out, and where something takes their place."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect_between, means_of_several
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import beside, joined, of_main_length, other_lengths, plain, within
from esv_ray.analysis.figures.wording import method_name, method_place

REPLACED_BY = {"removal": "left out", "neighbor": "neighbor repeated", "mean": "mean element"}
"""What becomes of elements that are taken away, in words; `removal` is the table `discards` of the job."""
_IN_PLACE = {"removal": "nothing", "neighbor": "nearest left", "mean": "mean element"}
_INSTEAD = {"neighbor": "a repeated neighbor", "mean": "the mean element"}
MEASURES = ("deletion_auc", "insertion_auc", "random_auc")
"""Areas under a video's score, by trapezoids, while all elements but the last are taken away one by one: the most
influential first, the least influential first (the same as adding the most influential to the last one), at random.

Without any element there is no neighbor to repeat, so the step to no element is left out of all three, and the areas
of `areas`, which count it, are others.
"""

_MEASURED = """
WITH scores AS (
  SELECT video_id, n_elements, method, replaced_by, "order", discarded, score FROM replacements
  UNION ALL
  SELECT video_id, n_elements, method, 'removal' AS replaced_by, "order", discarded, score FROM discards
), curves AS (
  SELECT video_id, n_elements, replaced_by, method, "order",
    (sum(score::DOUBLE) - sum(score::DOUBLE) FILTER (discarded IN (0, n_elements - 1)) / 2) / (n_elements - 1) AS area
  FROM scores WHERE discarded < n_elements AND n_elements > 1
  GROUP BY video_id, n_elements, replaced_by, method, "order" HAVING count(*) = n_elements
), measured AS (
  SELECT video_id, n_elements, replaced_by, method,
    any_value(area) FILTER ("order" = 'descending') AS deletion,
    any_value(area) FILTER ("order" = 'ascending') AS insertion,
    any_value(area) FILTER ("order" = 'random') AS random
  FROM curves GROUP BY ALL
), complete AS (
  SELECT *, list_concat([deletion, insertion], CASE WHEN method = 'esv' THEN [random] ELSE [] END) AS values
  FROM measured WHERE deletion IS NOT NULL AND insertion IS NOT NULL AND (random IS NOT NULL OR method <> 'esv')
)
"""
_MEAN = "mean"
_KEYS = {"n_elements": pa.int32(), "replaced_by": pa.string(), "method": pa.string()}


def _columns(table: str, suffix: str, ends: tuple[str, ...]) -> str:
    least = "-1" if suffix else "0"
    return ", ".join(
        f"{bounded(f'{table}.{end or _MEAN}[{place}]', least)} AS {name}{suffix}{end and '_' + end}"
        for place, name in enumerate(MEASURES, start=1)
        for end in ends
    )


_QUERY = f"""
SELECT m.n_elements, m.replaced_by, m.method, m.videos, {_columns("m", "", ("",))},
  {_columns("m", "", ("low", "high"))}, {_columns("d", "_minus_removal", ("", "low", "high"))}
FROM replacement_means AS m LEFT JOIN replacement_differences AS d USING (n_elements, replaced_by, method)
ORDER BY m.n_elements, list_position({list(REPLACED_BY)}, m.replaced_by), m.method
"""


def page(table: pa.Table, analyzed: Analyzed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No video has two or more elements and scores with replaced elements."])
    n, rows = of_main_length(table, analyzed)
    words = list(REPLACED_BY)
    of_length = sorted(rows.to_pylist(), key=lambda row: (method_place(row["method"]), words.index(row["replaced_by"])))
    of_esv = {row["replaced_by"]: row["deletion_auc"] for row in of_length if row["method"] == "esv"}
    areas = joined([f"{plain(of_esv[by])} ({word})," for by, word in REPLACED_BY.items() if by in of_esv])
    return Page(
        [
            f"Deletion area by ESV: {areas.removesuffix(',')}.",
            "Left out, elements leave a shorter subsequence, which a multi-scale model was trained on. A repeated "
            "neighbor or the mean element keeps the length, but may be unlike anything that the model has seen: "
            "compare with the area in random order.",
        ],
        ("method", "in their place", "deletion", "insertion", "random"),
        [
            (
                method_name(row["method"]),
                _IN_PLACE[row["replaced_by"]],
                *(plain(row[name]) for name in MEASURES),
            )
            for row in of_length
        ],
        names=2,
        note=joined(
            [
                "" if "removal" in of_esv else "For elements that are left out, the job needs the table discards, too.",
                other_lengths(table, n),
            ]
        ),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the deletion area of the ESVs with something in the elements' place, beside that in random order."""
    if not table.num_rows:
        return None
    n, of_length = of_main_length(table, analyzed)
    rows = [
        row
        for row in of_length.to_pylist()
        if row["method"] == "esv" and row["replaced_by"] in _INSTEAD and row["random_auc"] is not None
    ]
    compared = 2 * len(rows) * tables
    by_esv, at_random = (
        means_of_several(rows, name, compared, f"{name}_low", f"{name}_high", least=0.0, most=1.0)
        for name in ("deletion_auc", "random_auc")
    )
    found = []
    for row, (low, high), (least, most) in zip(rows, by_esv, at_random, strict=True):
        sentence = (
            f"With {_INSTEAD[row['replaced_by']]} in the place of elements, the area under the score is "
            f"{plain(row['deletion_auc'])} if those with the largest of {n} ESVs are replaced first"
            f"{within(low, high, 3, compared=compared)}, and {plain(row['random_auc'])} in random order"
            f"{beside(least, most, 3)}."
        )
        found.append(Finding(FACET.name, sentence, effect_between((low, high), (least, most))))
    return max(found, key=lambda each: each.effect, default=None)


FACET = Facet(
    name="replacements",
    title="Elements replaced",
    reads=("replacements",),
    reads_if_there=("discards",),
    uses=(),
    values=(
        Values("replacement_means", _KEYS, f"{_MEASURED} SELECT * FROM complete"),
        Values(
            "replacement_differences",
            _KEYS,
            f"""
            {_MEASURED}
            SELECT m.video_id, m.n_elements, m.replaced_by, m.method,
              list_transform(range(1, len(m.values) + 1), lambda i: m.values[i] - r.values[i]) AS values
            FROM complete AS m JOIN complete AS r USING (video_id, n_elements, method)
            WHERE m.replaced_by <> 'removal' AND r.replaced_by = 'removal'
            """,
        ),
    ),
    query=_QUERY,
    page=page,
    finding=finding,
)
