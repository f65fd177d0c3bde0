"""Pages of the videos of an output: orders, and cursors, so that a page costs the same wherever it is."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esv_ray.dashboard.filters import LARGEST, filter_of, number_of
from esv_ray.dashboard.index import Index
from esv_ray.errors import DataError, SpecError

MOST_ROWS = 200
"""Most rows of a page."""
ORDERS = {
    "id": "video_id",
    "score": "score",
    "evidential": "evidential",
    "misled": "misled",
    "distracted": "distracted",
    "supporting": "supporting",
    "frames": "n_frames",
}
"""Columns by which videos can be ordered, by name."""
_COLUMNS = (
    "video_id, n_elements, n_frames, status, reason, label, predicted, correct, score, evidential, distracted, "
    "supporting, best, worst, misled, misleading"
)


@dataclass(frozen=True)
class Page:
    """Some videos in an order.

    Attributes:
        rows: columns of the index but `unit`, by name.
        total: number of videos of all pages.
        before, after: cursors of the page before and after this one; None where there is none.
    """

    rows: Sequence[Mapping[str, Any]]
    total: int
    before: str | None
    after: str | None


def page_of(index: Index, asked: Mapping[str, str]) -> Page:
    """Return a page of the videos of an output.

    Args:
        index: of the output.
        asked: filters (`filters.filter_of`); order, one of `ORDERS`; descending, 1 for yes; rows; after or before, a
            cursor of another page of the same order.

    Raises:
        SpecError: a value is not one that the parameter may have.
        DataError: the query takes too long.
    """
    chosen = filter_of(asked)
    order = asked.get("order") or "id"
    if order not in ORDERS:
        raise SpecError(f"order: expected one of {', '.join(ORDERS)}, got {order!r:.80}")
    descending = asked.get("descending") == "1"
    most = min(MOST_ROWS, number_of("rows", asked.get("rows") or "50"))
    backward = bool(asked.get("before"))
    cursor = asked.get("before") or asked.get("after") or ""
    key = _key(order, descending)
    # Going back, the order is reversed, and so are the rows at the end. Equal keys are always in the order of the ids.
    down, tie_down = descending != backward, backward
    sign, tie_sign = "<>"[not down], "<>"[not tie_down]
    where, values = chosen.where, dict(chosen.values)
    if cursor:
        where += (
            f" AND ({key} {sign} $at OR ({key} = $at AND (video_id {tie_sign} $at_id OR "
            f"(video_id = $at_id AND n_elements {tie_sign} $at_n))))"
        )
        values |= _place_of(cursor, order, descending)
    direction, ties = (" DESC" if each else "" for each in (down, tie_down))
    rows = index.query(
        f"SELECT {_COLUMNS}, {key} AS place FROM listed WHERE {where} "
        f"ORDER BY place{direction}, video_id{ties}, n_elements{ties} LIMIT {most + 1}",
        values,
    )
    more, rows = len(rows) > most, rows[:most]
    if backward:
        rows.reverse()
    ends = [_cursor(rows[place]) for place in (0, -1)] if rows else [None, None]
    ((total,),) = (
        row.values() for row in index.query(f"SELECT count(*) AS n FROM listed WHERE {chosen.where}", chosen.values)
    )
    return Page(
        rows=[{name: value for name, value in row.items() if name != "place"} for row in rows],
        total=total,
        before=ends[0] if (more if backward else bool(cursor)) else None,
        after=ends[1] if (True if backward else more) else None,
    )


def adjacent(index: Index, asked: Mapping[str, str], video_id: str, n_elements: int) -> tuple[Page, Page]:
    """Return the video before and the video after one, among those that a filter chooses, in an order.

    Args:
        index: of the output.
        asked: filters and order, as for `page_of`.
        video_id: the video; it need not pass the filters.
        n_elements: its length.

    Returns:
        Two pages of one row, or none.

    Raises:
        SpecError: a value is not one that the parameter may have.
        DataError: there is no such video, or the query takes too long.
    """
    order = asked.get("order") or "id"
    if order not in ORDERS:
        raise SpecError(f"order: expected one of {', '.join(ORDERS)}, got {order!r:.80}")
    rows = index.query(
        f"SELECT video_id, n_elements, {_key(order, asked.get('descending') == '1')} AS place FROM listed "
        "WHERE video_id = ? AND n_elements = ?",
        [video_id, n_elements],
    )
    if not rows:
        raise DataError(f"expected a video of the output, got {video_id!r:.100} with {n_elements} elements")
    at = {**asked, "rows": "1", "after": "", "before": ""}
    before, after = (page_of(index, at | {way: _cursor(rows[0])}) for way in ("before", "after"))
    return before, after


def _key(order: str, descending: bool) -> str:
    """Return the expression by which rows are ordered; rows without a value come last in either direction."""
    column = ORDERS[order]
    if column == "video_id":
        return column
    return f"coalesce({column}::DOUBLE, '{'-' if descending else ''}infinity'::DOUBLE)"


def _cursor(row: Mapping[str, Any]) -> str:
    at = row["place"] if isinstance(row["place"], str) or math.isfinite(row["place"]) else None
    return base64.urlsafe_b64encode(json.dumps([at, row["video_id"], row["n_elements"]]).encode()).decode()


def _place_of(cursor: str, order: str, descending: bool) -> dict[str, Any]:
    """Return the values of the parameters that a cursor stands for.

    Raises:
        SpecError: the cursor does not belong to this order.
    """
    try:
        at, video_id, n = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if order == "id":
            fits = isinstance(at, str)
        else:
            at = (-math.inf if descending else math.inf) if at is None else float(at)
            fits = True
        if fits and isinstance(video_id, str) and isinstance(n, int) and 0 <= n <= LARGEST:
            return {"at": at, "at_id": video_id, "at_n": n}
    except (ValueError, TypeError, RecursionError, binascii.Error):
        fits = False
    raise SpecError(f"after, before: expected a cursor of a page in this order, got {cursor!r:.80}")
