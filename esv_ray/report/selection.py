"""Which videos a report shows: the first of five rankings. The same output gives the same videos.

Of a video with several lengths, the longest counts. The rankings are made with the tables, in the same pass over the
output: each batch leaves its first videos only, so memory does not grow with the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Counts, Facet, Page

MOST = 60
"""Most videos of a report."""
_RANKINGS = {
    "most misled": """
      SELECT video_id, n_elements, -min(difference) AS largest FROM differences GROUP BY ALL HAVING min(difference) < 0
    """,
    "best": "SELECT video_id, n_elements, score AS largest FROM sequences",
    "worst": "SELECT video_id, n_elements, -score AS largest FROM sequences",
    "most distracted": """
      SELECT video_id, n_elements, -list_sum(list_filter(esv, lambda x: x < 0)) AS largest FROM sequences
      WHERE list_min(esv) < 0
    """,
    "most evenly supported": """
      SELECT video_id, n_elements, n_elements * list_min(esv) AS largest FROM sequences
      WHERE list_min(esv) > 0 AND n_elements > 1
    """,
}
"""Videos by the largest value:

- most misled: of the element with the largest ESV for the predicted class less that for the label.
- best, worst: score of the class explained.
- most distracted: absolute sum of the ESVs below 0.
- most evenly supported: smallest ESV times the number of elements, if all ESVs are above 0. At most score minus prior,
  which it is if all ESVs are equal.
"""
REASONS = tuple(_RANKINGS)
_EACH = MOST // len(_RANKINGS)
_FIRST = f"QUALIFY row_number() OVER (PARTITION BY ranking ORDER BY largest DESC, video_id) <= {_EACH}"
_LONGEST = "SELECT video_id, max(n_elements) AS n_elements FROM sequences GROUP BY video_id"


def _ranked() -> str:
    parts = [f"SELECT {place} AS ranking, * FROM ({query})" for place, query in enumerate(_RANKINGS.values())]
    return " UNION ALL ".join(parts)


def _page(table: pa.Table, analyzed: Analyzed) -> Page:
    del analyzed
    return Page([f"{len(set(table.column('video_id').to_pylist()))} videos."])


FACET = Facet(
    name="chosen videos",
    title="Videos",
    reads=("videos", "attributions"),
    uses=("sequences", "differences"),
    counts=(
        Counts(
            "chosen_videos",
            ("ranking", "video_id", "n_elements"),
            f"""
            SELECT ranking, video_id, n_elements, largest FROM ({_ranked()})
            JOIN ({_LONGEST}) USING (video_id, n_elements) WHERE isfinite(largest) {_FIRST}
            """,
        ),
    ),
    query=f"""
    SELECT ranking, video_id, n_elements, largest FROM chosen_videos {_FIRST}
    ORDER BY ranking, largest DESC, video_id
    """,
    page=_page,
)
"""Rankings as a table: ranking (place in `REASONS`), video_id, n_elements, largest. It is no table of an analysis."""


@dataclass(frozen=True)
class Chosen:
    """A video of a report.

    Attributes:
        video_id: the video.
        n_elements: its length.
        places: its place, from 1, in the rankings among whose first it is, in the order of `REASONS`.
    """

    video_id: str
    n_elements: int
    places: Mapping[str, int]


def chosen_videos(table: pa.Table) -> list[Chosen]:
    """Return the videos of the rankings, each once, in the order of their first ranking.

    Args:
        table: of `FACET`.
    """
    places: dict[tuple[str, int], dict[str, int]] = {}
    ranked: Counter[str] = Counter()
    for row in table.to_pylist():
        reason = REASONS[row["ranking"]]
        ranked[reason] += 1
        places.setdefault((row["video_id"], row["n_elements"]), {})[reason] = ranked[reason]
    return [Chosen(video_id, n, found) for (video_id, n), found in places.items()]
