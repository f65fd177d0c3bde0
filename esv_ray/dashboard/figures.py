"""Figures of the videos that a filter chooses: facets of `esv analyze` over the index, drawn as in a report.

Marks and rows of tables lead to the videos that they stand for, by the keys of the drawings (`figures.keys`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa

from esv_ray.analysis.facets.facet import Facet
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.facets.words import counted
from esv_ray.analysis.figures.keys import Key
from esv_ray.analysis.figures.recolor import colors_of, variable
from esv_ray.analysis.figures.registry import KEYS
from esv_ray.analysis.tables import tables_of_batches
from esv_ray.dashboard.filters import Filter, filter_of
from esv_ray.dashboard.index import Index
from esv_ray.dashboard.misled import most_misled
from esv_ray.errors import DataError, SpecError
from esv_ray.report.content import Section
from esv_ray.report.sections import READING, section_of
from esv_ray.show.chart import check_figures

NAMES = ("support", "positions", "profiles", "pairs", "classes", "confusions", "contrasts")
"""Facets in the order of the page: the index has all data of them, but for the elements of misled videos."""
MOST_SECONDS = 10.0
"""Most seconds to make the table of a figure."""
MOST_CLASSES = 24
"""Most classes of a confusion matrix."""
_MOST_WAIT = 30.0  # seconds for figures that others asked for
_MOST_ROWS = 100  # of a table on the page
_KEPT = 64  # figures in memory, of some 50 kB each
_BATCH_ELEMENTS = 2**19  # of the sequences of a batch, as in `analysis/batches.py`
_VIEWS = """
CREATE OR REPLACE TEMP VIEW chosen AS SELECT l.*, p.prior FROM picked AS l LEFT JOIN priors AS p USING (class)
  WHERE unit >= {first} AND unit < {stop};
CREATE OR REPLACE TEMP VIEW sequences AS
  SELECT video_id, n_elements, class, label, predicted, correct, prior, value AS score, esv::DOUBLE[] AS esv,
    stderr::DOUBLE[] AS stderr
  FROM chosen WHERE esv IS NOT NULL;
CREATE OR REPLACE TEMP VIEW explained AS
  SELECT video_id, n_elements, label, predicted, class, correct, prior, score AS probability
  FROM chosen WHERE status = 'ok' AND class IS NOT NULL;
CREATE OR REPLACE TEMP VIEW wrong AS
  SELECT video_id, n_elements, label, predicted FROM chosen WHERE label <> predicted;
CREATE OR REPLACE TEMP VIEW differences AS
  SELECT video_id, n_elements, label, predicted, misleading AS element, difference, difference_stderr AS stderr
  FROM chosen WHERE difference IS NOT NULL;
"""


class Figures:
    """Figures of an output, drawn one at a time and kept while the index is as it is."""

    def __init__(self, index: Index) -> None:
        """Draw figures of an index."""
        self._index = index
        self._turn = Lock()
        self._made = lru_cache(_KEPT)(self._make)

    def figure(self, name: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return a figure as JSON values.

        Args:
            name: one of `NAMES`.
            asked: filters (`filters.filter_of`). Without n, the most frequent number of elements.

        Raises:
            SpecError: there is no such figure, a filter has an invalid value, or the libraries of figures are not
                installed.
            DataError: the queries take too long, or figures that others asked for do.
        """
        if name not in NAMES:
            raise SpecError(f"name: expected one of {', '.join(NAMES)}, got {name!r:.80}")
        check_figures()
        chosen = filter_of(asked)
        if not self._turn.acquire(timeout=_MOST_WAIT):  # requests that wait hold threads, which others need
            raise DataError("other figures are being drawn; load the page again in a moment")
        try:
            return self._made(name, chosen.where, tuple(chosen.values.items()), self._index.progress.units)
        finally:
            self._turn.release()

    def _make(self, name: str, where: str, values: tuple[tuple[str, Any], ...], units: int) -> dict[str, Any]:
        del units  # a part of the key: what was drawn before is of fewer videos
        facet, analyzed = FACETS[name], self._index.analyzed
        chosen = Filter(where, dict(values))
        with self._index.reader(MOST_SECONDS) as con:
            n, videos = _length(con, chosen)
            if videos and not facet.rows:
                _pick(con, chosen, n)
                (table,) = tables_of_batches(con, [facet], _batches(con, n, videos))
                sentences = facet.page(table, analyzed).sentences
        if videos and facet.rows:  # of elements, which the index does not have
            table, videos = most_misled(self._index, chosen, n)
            sentences = [f"The most misled of {counted(videos, 'misclassified video')}, the most misled first."]
        if not videos:
            return {"name": name, "title": facet.title, "videos": 0}
        section = section_of(
            analyzed,
            name,
            (table, table.num_rows),
            table,
            title=facet.title,
            sentences=sentences,
            reading=READING[name],
            videos_of={n: videos},
            keyed=True,
        )
        return _json(section, facet, table, n, videos)


def matrix_of(index: Index, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return how often the classes that are confused most are predicted for each other.

    Args:
        index: of the output.
        asked: filters (`filters.filter_of`). Without n, the most frequent number of elements.

    Raises:
        SpecError: a filter has an invalid value.
        DataError: the query takes too long.
    """
    chosen = filter_of(asked)
    with index.reader(MOST_SECONDS) as con:
        n, _ = _length(con, chosen)
        pairs = con.execute(
            "SELECT * FROM ("
            f"SELECT label, predicted, count(*) AS videos FROM listed WHERE {chosen.where} AND status = 'ok' "
            "AND n_elements = $at AND label IS NOT NULL GROUP BY label, predicted"
            ") ORDER BY label <> predicted DESC, videos DESC, label, predicted",
            {**chosen.values, "at": n},
        ).fetchall()
    there = dict.fromkeys(class_id for label, predicted, _ in pairs for class_id in (label, predicted))
    classes = sorted(list(there)[:MOST_CLASSES])
    counts = {(label, predicted): videos for label, predicted, videos in pairs}
    return {
        "n": n,
        "classes": classes,
        "cells": [[counts.get((label, predicted), 0) for predicted in classes] for label in classes],
        "all_classes": len(there),
        "videos": sum(counts.values()),
    }


def _length(con: duckdb.DuckDBPyConnection, chosen: Filter) -> tuple[int, int]:
    """Return the most frequent length of the chosen videos with ESVs, of equal ones the longest, and their number."""
    counted = con.execute(
        f"SELECT n_elements, count(*) FROM listed WHERE status = 'ok' AND {chosen.where} "
        "GROUP BY 1 ORDER BY 2 DESC, 1 DESC LIMIT 1",
        chosen.values,
    ).fetchone()
    n, videos = counted or (0, 0)
    return n, videos


def _pick(con: duckdb.DuckDBPyConnection, chosen: Filter, n: int) -> None:
    """Make the table `picked` of the chosen videos of a length: a table takes parameters, and a view does not."""
    con.execute(
        f"CREATE TEMP TABLE picked AS SELECT * FROM listed WHERE status = 'ok' AND {chosen.where} AND n_elements = $at",
        {**chosen.values, "at": n},
    )


def _batches(con: duckdb.DuckDBPyConnection, n: int, videos: int) -> Iterator[int]:
    """Yield once for each batch of the videos in `picked`, with the tables that facets use in place.

    Raises:
        DataError: it takes too long.
    """
    ((units,),) = con.execute("SELECT max(unit) + 1 FROM picked").fetchall()
    size = max(1, _BATCH_ELEMENTS * units // max(1, n * videos))
    until = time.monotonic() + MOST_SECONDS
    for first in range(0, units, size):
        if time.monotonic() > until:
            raise DataError(
                f"{videos} videos are too many to make this figure in {MOST_SECONDS:g} s; filter by class or outcome, "
                "or run esv analyze --figures"
            )
        con.execute(_VIEWS.format(first=first, stop=first + size))
        yield first


def _json(section: Section, facet: Facet, table: pa.Table, n: int, videos: int) -> dict[str, Any]:
    figure = section.figure
    shown = section.table.slice(0, _MOST_ROWS)
    return {
        "name": facet.name,
        "title": section.title,
        "sentences": list(section.sentences),
        "reading": section.reading,
        "n": n,
        "videos": videos,
        "figure": None
        if figure is None
        else {
            "wide": figure.wide.decode(),
            "narrow": figure.narrow.decode(),
            "alt": figure.alt,
            "title": figure.title,
            "notes": figure.notes,
            "colors": [
                [variable(light), light, dark]
                for light, dark in sorted(colors_of(figure.wide) | colors_of(figure.narrow))
            ],
        },
        "columns": shown.column_names,
        "rows": [list(row.values()) for row in shown.to_pylist()],
        "links": [_link(KEYS[facet.name](row)) for row in table.slice(0, _MOST_ROWS).to_pylist()],
        "all_rows": section.rows,
    }


def _link(key: Key | None) -> dict[str, str] | None:
    """Return the conditions of the videos behind a row of a table; None where there are none."""
    return None if key is None else key.conditions
