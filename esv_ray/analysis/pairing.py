"""Two outputs side by side: the sequences that both have, batch by batch.

The batches are those of the first output. Footers of videos files hold hashes of the ids of their unit, so the units of
the second output that a batch needs are known without reading them: in memory are 12 bytes for each video of both
outputs (40 while they are sorted), and one batch. If both outputs list the videos in similar orders, each file is read
about once; otherwise a batch may need all units of the second output, which are then read as a stream and joined with
the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.batches import batches_of
from esv_ray.analysis.database import add_tables, reading
from esv_ray.errors import DataError
from esv_ray.output.layout import ATTRIBUTIONS, VIDEOS

_PAIRS = """
CREATE OR REPLACE TEMP TABLE pairs AS
SELECT video_id, n_elements, a.label AS label, b.label AS label_b, a.predicted AS predicted_a,
  b.predicted AS predicted_b, a.{explained} AS class,
  a.scores[a.{explained} + 1]::DOUBLE AS score_a, b.scores[a.{explained} + 1]::DOUBLE AS score_b
FROM a.videos AS a JOIN b.videos AS b USING (video_id, n_elements)
WHERE a.status = 'ok' AND b.status = 'ok'
"""
_SIDE = """
CREATE OR REPLACE TEMP TABLE side_{side} AS
SELECT video_id, n_elements, list(esv::DOUBLE ORDER BY element) AS esv_{side},
  list(stderr::DOUBLE ORDER BY element) AS stderr_{side}, list(frame_index ORDER BY element) AS frames_{side}
FROM {side}.attributions JOIN pairs USING (video_id, n_elements, class)
WHERE method = $method GROUP BY video_id, n_elements
"""
_BOTH = """
SELECT pairs.*, esv_a, esv_b, stderr_a, stderr_b, frames_a IS DISTINCT FROM frames_b AS other_frames
FROM pairs LEFT JOIN side_a USING (video_id, n_elements) LEFT JOIN side_b USING (video_id, n_elements)
ORDER BY n_elements, video_id
"""
_REPEATED = "SELECT video_id FROM pairs GROUP BY video_id, n_elements HAVING count(*) > 1 LIMIT 1"


@dataclass(frozen=True)
class Side:
    """An output and the method whose values are compared."""

    analyzed: Analyzed
    method: str


@dataclass(frozen=True)
class Index:
    """Which videos are in which units.

    Attributes:
        hashes: (V,) of ids, ascending.
        units: (V,) place of the unit in `Analyzed.units`.
    """

    hashes: npt.NDArray[np.uint64]
    units: npt.NDArray[np.int32]

    def of(self, units: Sequence[int]) -> npt.NDArray[np.uint64]:
        """Return the hashes of the videos of some units."""
        return self.hashes[np.isin(self.units, units)]


@dataclass(frozen=True)
class Overlap:
    """Numbers of videos, by id, whatever their status."""

    shared: int
    only_a: int
    only_b: int


def index_of(analyzed: Analyzed) -> Index:
    """Return which videos are in which units."""
    hashes = [np.frombuffer(footer.ids, ">u8").astype(np.uint64) for footer in analyzed.footers]
    joined = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
    places = np.repeat(np.arange(len(hashes), dtype=np.int32), [len(each) for each in hashes])
    order = np.argsort(joined, kind="stable")
    return Index(joined[order], places[order])


def overlap(a: Index, b: Index) -> Overlap:
    """Count the videos that two outputs share."""
    of_a, of_b = np.unique(a.hashes), np.unique(b.hashes)
    shared = len(np.intersect1d(of_a, of_b, assume_unique=True))
    return Overlap(shared, len(of_a) - shared, len(of_b) - shared)


def paired_batches(
    con: duckdb.DuckDBPyConnection, a: Side, b: Side, indexes: tuple[Index, Index]
) -> Iterator[pa.Table]:
    """Yield the sequences that are `ok` in both outputs, with the values of both where they are kept.

    Columns: video_id, n_elements, label, label_b, predicted_a, predicted_b, class (the label or predicted class of a),
    score_a, score_b (of that class), the lists esv_a, esv_b, stderr_a, stderr_b by element (null: not kept), and
    other_frames: whether the elements are different frames.

    Raises:
        DataError: a file cannot be read, or a video has more or fewer rows than elements.
    """
    place = {name: index for index, name in enumerate(a.analyzed.units)}
    tables = [VIDEOS, ATTRIBUTIONS]
    for names in batches_of(a.analyzed):
        hashes = indexes[0].of([place[name] for name in names])
        needed = np.unique(indexes[1].units[np.isin(indexes[1].hashes, hashes)])
        if not len(needed):
            continue
        add_tables(con, a.analyzed.output, names, tables, schema="a")
        add_tables(con, b.analyzed.output, [b.analyzed.units[unit] for unit in needed.tolist()], tables, schema="b")
        with reading(f"{a.analyzed.output} and {b.analyzed.output}"):
            con.execute(_PAIRS.format(explained=a.analyzed.explained))
            _check_once(con, a, b)
            con.execute(_SIDE.format(side="a"), {"method": a.method})
            con.execute(_SIDE.format(side="b"), {"method": b.method})
            rows = con.sql(_BOTH).to_arrow_table()
            _check_even(con, a, b)
        yield rows


def _check_once(con: duckdb.DuckDBPyConnection, a: Side, b: Side) -> None:
    """Raise `DataError` if a video occurs more than once."""
    repeated = con.execute(_REPEATED).fetchone()
    if repeated is not None:
        raise DataError(
            f"{a.analyzed.output} and {b.analyzed.output}: expected each video once, got {repeated[0]!r:.100} more "
            "often; see esv verify"
        )


def _check_even(con: duckdb.DuckDBPyConnection, a: Side, b: Side) -> None:
    """Raise `DataError` if a video has more or fewer values than elements."""
    for side, of in (("a", a), ("b", b)):
        query = f"SELECT video_id FROM side_{side} WHERE len(esv_{side}) <> n_elements LIMIT 1"
        uneven = con.execute(query).fetchone()
        if uneven is not None:
            raise DataError(
                f"{of.analyzed.output}: expected one value per element, got more or fewer for video "
                f"{uneven[0]!r:.100}; see esv verify {of.analyzed.output}"
            )
