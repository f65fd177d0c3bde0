"""Checks of the rows of a table: joins that must be complete, and the first row that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def matched(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> pa.Table | None:
    """Return the join of two tables; None unless each row of one has exactly one of the other."""
    joined = left.join(right, list(keys), join_type="inner", use_threads=False)
    return joined if joined.num_rows == left.num_rows == right.num_rows else None


def first_wrong(table: pa.Table, keys: Sequence[str], passed: npt.NDArray[np.bool_], due: str) -> Iterator[str]:
    """Yield what the first row that does not pass was expected to have."""
    wrong = np.flatnonzero(~passed)
    if len(wrong):
        row = {name: table.column(name)[int(wrong[0])].as_py() for name in keys}
        others = ", ".join(f"{name} {row[name]}" for name in keys[2:])
        yield (
            f"video {row['video_id']!r} at {row['n_elements']} elements" + (f", {others}" if others else "") + f": "
            f"expected {due}" + (f"; {len(wrong)} such rows" if len(wrong) > 1 else "")
        )
