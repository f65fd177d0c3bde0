"""How the values of the methods of an output correlate within each video, for a batch of units."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.figures.wording import method_place
from esv_ray.core.correlation import FloatArray, pearson, spearman
from esv_ray.errors import DataError

_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("n_elements", pa.int32()),
        ("method_a", pa.string()),
        ("method_b", pa.string()),
        ("pearson", pa.float64()),
        ("spearman", pa.float64()),
    ]
)
_VALUES = """
SELECT video_id, n_elements, method, list(esv::DOUBLE ORDER BY element) AS esv
FROM explained JOIN attributions USING (video_id, n_elements, class)
GROUP BY video_id, n_elements, method ORDER BY n_elements, video_id, method
"""


def add_agreements(con: duckdb.DuckDBPyConnection, output: str) -> None:
    """Make the table `agreements` of a batch: a row per video, length and pair of methods that both have values.

    Columns: video_id, n_elements, method_a, method_b, pearson, spearman (null: the values of one are all equal).

    Args:
        con: with the batch's `explained` and `attributions`.
        output: its location, for errors.

    Raises:
        DataError: a video has more or fewer values than elements.
    """
    rows = con.sql(_VALUES).to_arrow_table()
    sizes = rows.column("esv").combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    uneven = np.flatnonzero(sizes != rows.column("n_elements").to_numpy())
    if len(uneven):
        video_id = rows.column("video_id")[int(uneven[0])].as_py()
        raise DataError(
            f"{output}: expected one value per element, got more or fewer for video {video_id!r:.100}; see esv verify "
            f"{output}"
        )
    tables = [_SCHEMA.empty_table(), *_pairs(rows)]
    con.register("esv_agreements", pa.concat_tables(tables))
    con.execute("CREATE OR REPLACE TEMP TABLE agreements AS SELECT * FROM esv_agreements")
    con.unregister("esv_agreements")


def _pairs(rows: pa.Table) -> Iterator[pa.Table]:
    """Yield the correlations of each pair of methods at each length."""
    lengths = rows.column("n_elements").to_numpy()
    methods = np.array(rows.column("method").to_pylist(), object)
    ordered = sorted(set(methods.tolist()), key=method_place)
    for n in np.unique(lengths).tolist():
        of_method = {name: _values(rows, np.flatnonzero((lengths == n) & (methods == name)), n) for name in ordered}
        for one, other in combinations(ordered, 2):
            (ids_a, a), (ids_b, b) = of_method[one], of_method[other]
            ids, at_a, at_b = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
            found = [pearson(a[at_a], b[at_b]), spearman(a[at_a], b[at_b])]
            columns = [
                pa.array(ids.tolist(), pa.string()),
                *(pa.array([value] * len(ids), kind) for value, kind in ((n, pa.int32()), (one, pa.string()))),
                pa.array([other] * len(ids), pa.string()),
                *(pa.array(values, mask=np.isnan(values)) for values in found),
            ]
            yield pa.table(columns, schema=_SCHEMA)


def _values(rows: pa.Table, places: npt.NDArray[np.int64], n: int) -> tuple[npt.NDArray[np.object_], FloatArray]:
    """Return the ids of some rows, all of n elements, and their values (V, n)."""
    chosen = rows.take(pa.array(places))
    flat = chosen.column("esv").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(chosen.column("video_id").to_pylist(), object), np.asarray(flat, np.float64).reshape(-1, n)
