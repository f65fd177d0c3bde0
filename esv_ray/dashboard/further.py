"""What the further tables of a job (`tables` of its spec) hold of one video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.analysis.database import reading
from esv_ray.core.discards import by_contribution
from esv_ray.dashboard.index import Index
from esv_ray.dashboard.video import MOST_CLASSES, rows_of, stored_video
from esv_ray.errors import DataError, SpecError
from esv_ray.output.layout import ATTRIBUTIONS, DISCARDS, INTERACTIONS, MARGINALS
from esv_ray.show.read import StoredVideo, attributed

METHODS = "methods"
TABLES = (INTERACTIONS, MARGINALS, DISCARDS, METHODS)
"""What the page of a video has figures of: further tables, and the values of other methods in `attributions`."""
_QUERIES = {
    INTERACTIONS: (
        "SELECT class, list(interaction ORDER BY element_i, element_j) AS values FROM {table} "
        "WHERE {video} AND list_contains($classes, class) GROUP BY class"
    ),
    MARGINALS: (
        "SELECT class, list(marginal ORDER BY element, scale) AS values FROM {table} "
        "WHERE {video} AND list_contains($classes, class) GROUP BY class"
    ),
    METHODS: (
        "SELECT class, method, list(esv ORDER BY element) AS values FROM {table} "
        "WHERE {video} AND list_contains($classes, class) GROUP BY class, method ORDER BY method <> 'esv', method"
    ),
    DISCARDS: (
        'SELECT method, "order", any_value(class) AS class, list(score ORDER BY discarded) AS scores, '
        "list(predicted ORDER BY discarded) AS predicted, list(best ORDER BY discarded) AS best "
        'FROM {table} WHERE {video} GROUP BY method, "order" ORDER BY method = \'esv\' DESC, method, "order"'
    ),
}
_OF_VIDEO = "video_id = $video_id AND n_elements = $n"
_SHARE = 0.9  # of the probability of the whole sequence, as in the facet `needed` of `esv analyze`


def kept_tables(index: Index) -> dict[str, bool]:
    """Return which of `TABLES` an output has."""
    analyzed = index.analyzed
    return {name: len(analyzed.methods) > 1 if name == METHODS else name in analyzed.tables for name in TABLES}


def further_of(
    index: Index, name: str, video_id: str, n_elements: int | None, classes: Sequence[int]
) -> dict[str, Any]:
    """Return a further table of one video as JSON values.

    Args:
        index: of the output.
        name: one of `TABLES`.
        video_id: the video.
        n_elements: its length; None: the longest.
        classes: ids; of `discards` there is one class only.

    Returns:
        interactions: `classes`, each with `class` and `values` of the pairs (0, 1), (0, 2), ..., (n - 2, n - 1).
        marginals: `classes`, each with `class` and `values`: (n, n), by element and by length 1..n with the element.
        methods: `classes`, each with `class` and `methods`: `method` and `values` by element.
        discards: `class`, `curves` (method, order, scores of 0..n elements taken away), and what is enough (`_enough`).

    Raises:
        DataError: the output has no such table, there is no such video, or the table cannot be read.
        SpecError: the name is unknown, there are too many classes, or the video has no such length.
    """
    if name not in TABLES:
        raise SpecError(f"name: expected one of {', '.join(TABLES)}, got {name!r:.80}")
    if len(classes) > MOST_CLASSES:
        raise SpecError(f"classes: expected at most {MOST_CLASSES}, got {len(classes)}")
    if not kept_tables(index)[name]:
        key = "methods" if name == METHODS else "tables"
        raise DataError(f"{index.analyzed.output}: expected {name}, found none; see `{key}` of the spec")
    stored = stored_video(index, video_id, n_elements)
    rows = _rows(index, name, stored, classes)
    if name == DISCARDS:
        return _discards(index, stored, rows)
    if name == METHODS:
        of_class: dict[int, list[dict[str, Any]]] = {each: [] for each in classes}
        for row in rows:
            values = _finite(np.array(row["values"], float))
            of_class[row["class"]].append({"method": row["method"], "values": values})
        return {"classes": [{"class": each, "methods": found} for each, found in of_class.items() if found]}
    return _by_class(name, stored.row["n_elements"], rows, classes)


def _by_class(name: str, n: int, rows: Sequence[dict[str, Any]], classes: Sequence[int]) -> dict[str, Any]:
    """Return the interactions or the marginals of some classes, in their order."""
    found = {row["class"]: row["values"] for row in rows}
    values = {
        each: np.reshape(np.array(found[each], float), (n, n) if name == MARGINALS else -1)
        for each in classes
        if each in found
    }
    return {"classes": [{"class": each, "values": _finite(of_class)} for each, of_class in values.items()]}


def _rows(index: Index, name: str, stored: StoredVideo, classes: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of a query of one unit's file, of which DuckDB reads only row groups that may have the video."""
    output, row = index.analyzed.output, stored.row
    units = {each["n_elements"]: each["unit"] for each in rows_of(index, row["video_id"])}
    folder = ATTRIBUTIONS if name == METHODS else name
    path = storage.file_path(storage.join(output, folder, index.names[units[row["n_elements"]]]))
    text = _QUERIES[name].format(table="read_parquet($path, hive_partitioning = false)", video=_OF_VIDEO)
    values: dict[str, Any] = {"path": path, "video_id": row["video_id"], "n": row["n_elements"]}
    with reading(output):
        return index.query(text, values if name == DISCARDS else values | {"classes": list(classes)})


def _discards(index: Index, stored: StoredVideo, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"class": None, "curves": [], "enough": None}
    curves = [
        {"method": row["method"], "order": row["order"], "scores": _finite(np.array(row["scores"], float))}
        for row in rows
    ]
    return {"class": rows[0]["class"], "curves": curves, "enough": _enough(index, stored, rows)}


def _enough(index: Index, stored: StoredVideo, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how few elements are enough for the class.

    Returns:
        predicted: the class predicted for the whole sequence.
        kept: of the elements with the largest ESVs for the class, how many keep this prediction, however many of the
            others are there, in the order of their ESVs.
        without: the class predicted for one of them fewer; None if one is enough.
        elements: which these are, in time order; None if the output keeps no ESVs of the class.
        best: the fewest elements of any subsequence that reaches `_SHARE` of the probability of the whole; None
            unless all subsequences are known.
    """
    ordered = {row["order"]: row for row in rows if row["method"] == "esv"}
    if "ascending" not in ordered:
        return None
    row = ordered["ascending"]
    predicted, n = row["predicted"], stored.row["n_elements"]
    changed = next((place for place in range(1, n) if predicted[place] != predicted[0]), n)
    kept = n - changed + 1
    best = None
    if all(value is not None for value in row["best"][:n]):
        enough = [n - place for place in range(n) if row["best"][place] >= _SHARE * row["scores"][0]]
        best = min(enough)
    elements = None
    if row["class"] in stored.kept:
        (of_class,) = attributed(index.analyzed.manifest, stored, [row["class"]]).classes
        order = by_contribution(of_class.esv[None], descending=False)[0]
        elements = sorted(order[n - kept :].tolist())
    without = None if kept == 1 else predicted[changed]
    return {
        "predicted": predicted[0],
        "kept": kept,
        "without": without,
        "elements": elements,
        "best": best,
        "share": _SHARE,
    }


def _finite(values: npt.NDArray[np.float64]) -> list[Any]:
    """Return numbers as JSON has them, rounded; those that are not finite are null."""
    plain = np.round(values, 7).astype(object)
    plain[~np.isfinite(values)] = None
    found: list[Any] = plain.tolist()
    return found
