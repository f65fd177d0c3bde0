"""Measures of a sequence that several facets share, and SQL for percentiles."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.analysis.facets.facet import Values

NAMES = (
    "score",
    "support",
    "distract",
    "supporting_share",
    "prior",
    "support_square",
    "distract_square",
)
PLACES = 10

_ELEMENTS_TO_90 = """
list_reduce(
  list_transform(positive, lambda x: {'sum': x, 'count': 1}),
  lambda a, b: {'sum': a.sum + b.sum, 'count': a.count + (a.sum < 0.9 * support)::INTEGER}
).count
"""

MEASURES = Values(
    "measures",
    {"class": pa.int32(), "n_elements": pa.int32()},
    f"""
    WITH parts AS (
      SELECT *, list_reverse_sort(list_filter(esv, lambda x: x > 0)) AS positive,
        list_transform(stderr, lambda x: coalesce(x * x, 0)) AS square
      FROM sequences
    ), sums AS (
      SELECT *, coalesce(list_sum(positive), 0) AS support,
        coalesce(list_sum(list_filter(esv, lambda x: x <= 0)), 0) AS distract,
        list_sum(list_transform(range(1, n_elements + 1), lambda i: CASE WHEN esv[i] > 0 THEN square[i] ELSE 0 END))
          AS support_square
      FROM parts
    )
    SELECT video_id, class, n_elements, list_concat(
      [score, support, distract, len(positive) / n_elements, prior, support_square, list_sum(square) - support_square],
      list_transform(range({PLACES}), lambda p: coalesce(list_avg(
        esv[(p * n_elements + 9) // 10 + 1 : ((p + 1) * n_elements + 9) // 10]), 0)),
      list_transform(range({PLACES}), lambda p: coalesce(list_sum(
        square[(p * n_elements + 9) // 10 + 1 : ((p + 1) * n_elements + 9) // 10])
        / (((p + 1) * n_elements + 9) // 10 - (p * n_elements + 9) // 10) ** 2, 0))
    ) AS values
    FROM sums
    """,
    over="class",
)
"""Per sequence: the measures of `NAMES`, then the mean ESV of each tenth, then the squared error of that mean.

- support_square, distract_square: sums of squared standard errors (`statistics.mean_stderr`); 0 if exact.
- Element e of n is in tenth floor(10 e / n).
"""


CONCENTRATION = Values(
    "concentration",
    {"class": pa.int32(), "n_elements": pa.int32(), "measure": pa.string()},
    f"""
    WITH sums AS (
      SELECT *, list_reverse_sort(list_filter(esv, lambda x: x > 0)) AS positive,
        list_sum(list_filter(esv, lambda x: x > 0)) AS support, list_sum(list_transform(esv, lambda x: abs(x))) AS total
      FROM sequences
    ), measured AS (
      SELECT video_id, class, n_elements, unnest(['entropy', 'elements_to_90']) AS measure, unnest([
        CASE WHEN total > 0 THEN list_sum(list_transform(esv, lambda x: CASE WHEN x = 0 THEN 0
          ELSE -abs(x) / total * log2(abs(x) / total) END)) END,
        CASE WHEN len(positive) > 0 THEN {_ELEMENTS_TO_90} END
      ]) AS value
      FROM sums
    )
    SELECT video_id, class, n_elements, measure, [value] AS values FROM measured WHERE value IS NOT NULL
    """,
)
"""How much few elements do, of the sequences where it is defined.

- entropy: of the shares of the absolute ESVs, in bits: 0 if one element does everything, log2(n) if all do the same.
  Not defined if all ESVs are 0.
- elements_to_90: fewest elements whose ESVs add up to 90 % of the support. Not defined without an ESV above 0.
"""

_RANGES = {"support": ("0", "'Infinity'"), "distract": ("'-Infinity'", "0"), "supporting_share": ("0", "1")}


def measure(name: str, part: str = "mean") -> str:
    """Return the SQL of a measure's mean, or of an end of its interval: low or high."""
    value = f"{part}[{NAMES.index(name) + 1}]"
    if name == "score":
        return f"CASE WHEN getvariable('in_logits') THEN {value} ELSE {bounded(value)} END"
    return bounded(value, *_RANGES[name]) if name in _RANGES else value


def bounded(value: str, least: str = "0", most: str = "1") -> str:
    """Return the SQL of a mean or of an end of its interval within possible values; null stays null.

    The intervals of few videos are wide, and symmetric ones may leave the range.
    """
    return f"CASE WHEN {value} IS NOT NULL THEN greatest({least}::DOUBLE, least({most}::DOUBLE, {value})) END"


def error_of(square: str, videos: str = "videos") -> str:
    """Return the SQL of the standard error of a mean due to sampling, from the mean of squares; null if exact."""
    return f"sqrt(nullif({square}, 0) / {videos})"


BINS = 1024  # per octave: percentiles are right to 0.04 %
_OFFSET = 2**20


def bin_of(value: str) -> str:
    """Return the SQL of a number's bin: an integer that grows with the number."""
    octave = f"floor({BINS} * log2(abs({value}))) + {_OFFSET}"
    return f"CASE WHEN {value} = 0 THEN 0 ELSE sign({value}) * ({octave}) END::BIGINT"


def percentile(share: float, bins: str = "bin", below: str = "below", total: str = "total") -> str:
    """Return the SQL of a percentile of binned numbers.

    Args:
        share: in [0, 1].
        bins, below, total: columns: the bin, the count up to it, and the count of the group.
    """
    chosen = f"min({bins}) FILTER ({below} >= {share} * {total})"
    return f"(sign({chosen}) * pow(2, (abs({chosen}) - {_OFFSET} + 0.5) / {BINS}))"
