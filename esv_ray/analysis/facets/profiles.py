"""Facet `profiles`: the mean ESV along the sequence, in tenths."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Facet, Page
from esv_ray.analysis.facets.measures import MEASURES, NAMES, PLACES
from esv_ray.analysis.facets.words import of_main_length, other_lengths, signed, span

_FIRST = len(NAMES) + 1  # lists of SQL begin at 1

_QUERY = f"""
WITH places AS (
  SELECT *, unnest(range({PLACES}))::INTEGER AS place FROM measures
), sized AS (
  SELECT *, ((place + 1) * n_elements + 9) // 10 - (place * n_elements + 9) // 10 AS elements FROM places
)
SELECT class, n_elements, place, videos * elements AS count, mean[{_FIRST} + place] AS mean,
  low[{_FIRST} + place] AS low, high[{_FIRST} + place] AS high, videos,
  sqrt(nullif(mean[{_FIRST + PLACES} + place], 0) / videos) AS stderr
FROM sized WHERE elements > 0
ORDER BY class NULLS FIRST, n_elements, place
"""


def page(table: pa.Table, analysed: Analysed) -> Page:
    """Return what is printed."""
    if not table.num_rows:
        return Page(["No ESVs of the class."])
    n, rows = of_main_length(table)
    of_length = rows.filter(pc.is_null(rows.column("class"))).to_pylist()
    top, least = (pick(of_length, key=lambda row: row["mean"]) for pick in (max, min))
    return Page(
        [
            f"Over all classes, the mean ESV is largest in tenth {top['place']} of the sequence "
            f"({signed(top['mean'], 4)}) and smallest in tenth {least['place']} ({signed(least['mean'], 4)})."
        ],
        ("tenth", "elements", "mean ESV", "95 %"),
        [
            (str(row["place"]), str(row["count"]), signed(row["mean"], 4), span(row["low"], row["high"]))
            for row in of_length
        ],
        note=other_lengths(table, n),
    )


FACET = Facet(
    name="profiles",
    title="Profile along the sequence",
    reads=("videos", "attributions"),
    uses=("sequences",),
    values=(MEASURES,),
    query=_QUERY,
    page=page,
)
