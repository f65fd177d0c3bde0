"""Facet `agreement`: how alike the values of different methods are within a video."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page, Values
from esv_ray.analysis.facets.finding import Finding, effect, means_of_several
from esv_ray.analysis.facets.measures import bounded
from esv_ray.analysis.facets.words import Row, counted, of_main_length, other_lengths, signed, within
from esv_ray.analysis.figures.wording import METHODS, method_name

_KEYS = {"n_elements": pa.int32(), "method_a": pa.string(), "method_b": pa.string()}
_PLACE = "coalesce(list_position([{}], {}), {}), {}"
_ORDER = ", ".join(
    _PLACE.format(", ".join(f"'{name}'" for name in METHODS), column, len(METHODS) + 1, column)
    for column in ("method_a", "method_b")
)
_QUERY = f"""
SELECT n_elements, method_a, method_b, compared AS videos, p.mean[1] AS pearson, s.mean[1] AS spearman,
  {bounded("p.low[1]", "-1")} AS pearson_low, {bounded("p.high[1]", "-1")} AS pearson_high,
  {bounded("s.low[1]", "-1")} AS spearman_low, {bounded("s.high[1]", "-1")} AS spearman_high
FROM agreement_videos LEFT JOIN agreement_pearson AS p USING (n_elements, method_a, method_b)
LEFT JOIN agreement_spearman AS s USING (n_elements, method_a, method_b)
ORDER BY n_elements, {_ORDER}
"""


def page(table: pa.Table, analyzed: Analyzed | None = None) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No video has values of two methods."])
    n, rows = of_main_length(table, analyzed)
    of_length = rows.to_pylist()
    known = [row for row in of_length if row["spearman"] is not None]
    sentences = [
        f"Correlation of the values of two methods in each video, of {counted(n, 'element')}: means over videos."
    ]
    if len(known) > 1:
        most, least = (choose(known, key=lambda row: float(row["spearman"])) for choose in (max, min))
        sentences.append(
            f"{_pair(most, ' and ')} agree most (rank correlation {signed(most['spearman'], 2)}), "
            f"{_pair(least, ' and ')} least ({signed(least['spearman'], 2)})."
        )
    return Page(
        sentences,
        ("methods", "videos", "Pearson", "Spearman", "95 %"),
        [
            (
                _pair(row, ", "),
                str(row["videos"]),
                signed(row["pearson"]),
                signed(row["spearman"]),
                "-" if row["spearman_low"] is None else f"{row['spearman_low']:+.2f}..{row['spearman_high']:+.2f}",
            )
            for row in of_length
        ],
        names=1,
        note=other_lengths(table, n),
    )


def finding(table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
    """Return the method whose values are most like the ESVs; ranks that have nothing in common correlate at 0."""
    if not table.num_rows:
        return None
    _, of_length = of_main_length(table, analyzed)
    rows = [
        row
        for row in of_length.to_pylist()
        if "esv" in (row["method_a"], row["method_b"])
        and "random" not in (row["method_a"], row["method_b"])
        and row["spearman"] is not None
    ]
    compared = len(rows) * tables
    found = []
    ends = means_of_several(rows, "spearman", compared, "spearman_low", "spearman_high", least=-1.0, most=1.0)
    for row, (low, high) in zip(rows, ends, strict=True):
        (other,) = {row["method_a"], row["method_b"]} - {"esv"}
        how = "alike" if row["spearman"] > 0 else "in opposite orders"
        sentence = (
            f"ESV and {method_name(other)} rank the elements of a video {how}: mean rank correlation "
            f"{signed(row['spearman'], 2)}{within(low, high, compared=compared)}; by chance 0."
        )
        found.append(Finding(FACET.name, sentence, effect(low, high, 0.0, least=-1.0)))
    return max(found, key=lambda each: each.effect, default=None)


def _pair(row: Row, between: str) -> str:
    return f"{method_name(row['method_a'])}{between}{method_name(row['method_b'])}"


def _values(measure: str) -> Values:
    query = f"""
    SELECT video_id, n_elements, method_a, method_b, [{measure}] AS values FROM agreements WHERE {measure} IS NOT NULL
    """
    return Values(f"agreement_{measure}", _KEYS, query)


FACET = Facet(
    name="agreement",
    title="Agreement of methods",
    reads=("attributions",),
    uses=("explained", "agreements"),
    counts=(
        Counts(
            "agreement_videos",
            tuple(_KEYS),
            "SELECT n_elements, method_a, method_b, count(*) AS compared FROM agreements GROUP BY ALL",
        ),
    ),
    values=(_values("pearson"), _values("spearman")),
    query=_QUERY,
    page=page,
    finding=finding,
    several_methods=True,
)
