"""The most misled of the chosen videos, element by element: the rows of `contrasts` that its figure shows."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.dashboard.filters import Filter
from esv_ray.dashboard.index import Index
from esv_ray.show.read import attributed, read_stored

_MOST_VIDEOS = 3  # to draw one takes a third of a second
_CHOSEN = "{where} AND n_elements = $at AND difference IS NOT NULL"
_COLUMNS = {
    "video_id": pa.string(),
    "n_elements": pa.int32(),
    "label": pa.int32(),
    "predicted": pa.int32(),
    "element": pa.int32(),
    "frame_index": pa.int32(),
    "esv_label": pa.float64(),
    "esv_predicted": pa.float64(),
    "difference": pa.float64(),
    "stderr": pa.float64(),
}


def most_misled(index: Index, chosen: Filter, n: int) -> tuple[pa.Table, int]:
    """Return the rows of `contrasts` of the most misled of the chosen videos, and the number of those it is of.

    These are misclassified, with ESVs of both their label and their predicted class.

    Args:
        index: of the output; only the tables of the videos that are shown are read.
        chosen: the filter.
        n: number of elements.

    Raises:
        DataError: a table cannot be read, or a query takes too long.
    """
    where, values = _CHOSEN.format(where=chosen.where), {**chosen.values, "at": n}
    ((videos,),) = (row.values() for row in index.query(f"SELECT count(*) AS n FROM listed WHERE {where}", values))
    found = index.query(
        f"SELECT video_id, unit FROM listed WHERE {where} ORDER BY difference, video_id LIMIT {_MOST_VIDEOS}", values
    )
    rows = []
    for each in found:
        stored = read_stored(index.analyzed.output, index.names[each["unit"]], each["video_id"], n)
        video = attributed(index.analyzed.manifest, stored)
        label, predicted, difference = video.of_class(video.label), video.of_class(video.predicted), video.difference
        assert label is not None  # the index has their difference
        assert predicted is not None
        assert difference is not None
        errors = [None] * n if video.difference_stderr is None else video.difference_stderr.tolist()
        columns = (video.frame_index.tolist(), label.esv.tolist(), predicted.esv.tolist(), difference.tolist(), errors)
        first = (each["video_id"], n, video.label, video.predicted)
        rows += [(*first, element, *of_element) for element, of_element in enumerate(zip(*columns, strict=True))]
    lists = zip(*rows, strict=True) if rows else [[] for _ in _COLUMNS]
    arrays = [pa.array(values, kind) for values, kind in zip(lists, _COLUMNS.values(), strict=True)]
    return pa.table(dict(zip(_COLUMNS, arrays, strict=True))), videos
