"""The index of an output: a compact row per video and length, by which videos are found, filtered and sorted.

The index is made when the dashboard starts, one batch of units after the other, and grows with an unfinished output. So
pages work from the first batch on, and no request reads a table of the output whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from threading import Event, Lock, Thread, Timer
from typing import Any

import duckdb

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed, add_priors
from esv_ray.analysis.batches import batches_of, load_batch
from esv_ray.analysis.database import connect, reading
from esv_ray.errors import DataError, EsvError
from esv_ray.output.committed import committed_units, read_footers_of
from esv_ray.output.layout import VIDEOS

MEMORY = 400_000_000
"""Bytes that DuckDB may use; an index that does not fit is kept partly on disk."""
REFRESH = 5.0
"""Seconds between two checks of an output that grows."""
MOST_SECONDS = 5.0
"""Most seconds of a query."""
_THREADS = 2
_MOST_REASON = 300  # characters
_MAKE = """
CREATE TABLE listed (
  video_id VARCHAR, n_elements INTEGER, unit INTEGER, n_frames INTEGER, status VARCHAR, reason VARCHAR,
  label INTEGER, predicted INTEGER, correct BOOLEAN, class INTEGER, score DOUBLE, evidential DOUBLE,
  value DOUBLE, esv FLOAT[], stderr FLOAT[], distracted DOUBLE, supporting INTEGER, best INTEGER, worst INTEGER,
  difference DOUBLE, difference_stderr DOUBLE, misled DOUBLE, misleading INTEGER
)
"""
_ADD = f"""
INSERT INTO listed BY NAME
SELECT v.video_id, v.n_elements, p.unit, v.n_frames, v.status, v.reason[:{_MOST_REASON}] AS reason,
  v.label, v.predicted, v.label = v.predicted AS correct,
  e.class, e.probability AS score, e.probability - e.prior_probability AS evidential,
  s.value, s.esv, s.stderr, s.distracted, s.supporting, s.best, s.worst,
  d.difference, d.difference_stderr, CASE WHEN d.difference < 0 THEN -d.difference END AS misled, d.misleading
FROM videos AS v
JOIN placed AS p USING (video_id, n_elements)
LEFT JOIN (
  SELECT video_id, n_elements, class, probability,
    CASE WHEN getvariable('in_logits') THEN exp(prior) ELSE prior END AS prior_probability
  FROM explained
) AS e USING (video_id, n_elements)
LEFT JOIN (
  SELECT video_id, n_elements, score AS value, esv::FLOAT[] AS esv, stderr::FLOAT[] AS stderr,
    -coalesce(list_sum(list_filter(esv, lambda x: x < 0)), 0) AS distracted,
    len(list_filter(esv, lambda x: x > 0)) AS supporting,
    list_position(esv, list_max(esv)) - 1 AS best, list_position(esv, list_min(esv)) - 1 AS worst
  FROM sequences
) AS s USING (video_id, n_elements)
LEFT JOIN (
  SELECT video_id, n_elements, min(difference) AS difference, arg_min(element, difference) AS misleading,
    arg_min(stderr, difference) AS difference_stderr
  FROM differences GROUP BY ALL
) AS d USING (video_id, n_elements)
"""
_PLACED = """
CREATE OR REPLACE TEMP TABLE placed AS
SELECT video_id, n_elements, any_value(list_position($paths, filename)) - 1 + $first AS unit
FROM read_parquet($paths, filename = true, hive_partitioning = false) GROUP BY ALL
"""


@dataclass(frozen=True)
class Progress:
    """Progress of indexing an output.

    Attributes:
        units: number of units that are indexed.
        committed: number of units that are committed.
        planned: number of units of the job.
        fault: why no more are indexed; "" if nothing is wrong.
    """

    units: int
    committed: int
    planned: int
    fault: str = ""

    @property
    def done(self) -> bool:
        """Whether every unit of the job is indexed."""
        return self.units == self.planned


class Index:
    """The index of an output, which a thread fills while it is queried.

    Columns of the table `listed`: those of `videos`, and

    - unit: place in `names` of the unit that has the video;
    - correct: whether the predicted class is the label; null without a label;
    - class, score, evidential: the class explained, its probability, and that minus its prior;
    - value, esv, stderr: for the class explained, the value of the full sequence (a logit if the ESVs are in logits),
      and the ESVs and their standard errors by element;
    - distracted, supporting, best, worst: absolute sum of the ESVs below 0, number of those above 0, and the elements
      with the largest and the smallest ESV, for the class explained;
    - difference, difference_stderr, misleading: of a misclassified video, the smallest ESV for the label minus that
      for the predicted class, its error, and its element; misled: the absolute value of a difference below 0.
    """

    def __init__(self, analyzed: Analyzed, *, memory: int = MEMORY) -> None:
        """Make an empty index; `fill` or `start` fills it.

        Args:
            analyzed: the output, from `open_output`.
            memory: bytes that DuckDB may use.
        """
        self.analyzed = analyzed
        self.names: list[str] = []
        self._con = connect(memory=memory, threads=_THREADS)
        self._con.execute(_MAKE)
        add_priors(self._con, analyzed)
        self._lock = Lock()
        self._committed = len(analyzed.units)
        self._indexed = 0
        self._fault = ""
        self._closed = Event()
        self._thread: Thread | None = None

    @property
    def progress(self) -> Progress:
        """How much is indexed."""
        with self._lock:
            return Progress(self._indexed, self._committed, len(self.analyzed.manifest.units), self._fault)

    def start(self, *, refresh: float = REFRESH) -> None:
        """Fill the index in a thread, and add what is committed later.

        Args:
            refresh: seconds between two looks at an output that grows.
        """
        self._thread = Thread(target=self._keep_up, args=(refresh,), name="esv-index", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop filling, and remove temporary files."""
        self._closed.set()
        self._con.interrupt()
        if self._thread is not None:
            self._thread.join(MOST_SECONDS)
        self._con.close()

    def fill(self) -> None:
        """Index the committed units that are not indexed yet.

        Raises:
            DataError: a table cannot be read.
            JobError: a file is of another job.
        """
        known = set(self.names)
        analyzed = self.analyzed
        new = tuple(name for name in self._committed_names() if name not in known)
        with self._con.cursor() as con, reading(analyzed.output):
            con.execute(f"SET VARIABLE in_logits = {analyzed.in_logits}")
            batches = iter(batches_of(replace(analyzed, units=new)) if new else ())
            first = () if known else _beginning_small(next(batches, ()))
            for names in chain(first, batches):
                if self._closed.is_set():
                    return
                self._add(con, names)

    def query(self, text: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query of `listed`.

        Args:
            text: SQL of this package, never a user's.
            values: of its parameters.

        Raises:
            DataError: it takes longer than `MOST_SECONDS`.
        """
        with self.reader(MOST_SECONDS) as con:
            found = con.execute(text, values)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    @contextmanager
    def reader(self, seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Return a connection to the index for queries of this package; temporary tables in it are its own.

        Args:
            seconds: after which its queries are interrupted.

        Raises:
            DataError: they were, or they need too much memory.
        """
        with self._con.cursor() as con:
            timer = Timer(seconds, con.interrupt)
            timer.start()
            try:
                yield con
            except duckdb.InterruptException:
                raise DataError(f"the request took longer than {seconds:g} s; select fewer videos") from None
            except duckdb.OutOfMemoryException:
                raise DataError("the request takes more memory than the index may use; select fewer videos") from None
            finally:
                timer.cancel()

    def _committed_names(self) -> Sequence[str]:
        """Return the units that are committed by now, in the order of the plan, and check that they are of the job."""
        analyzed = self.analyzed
        if analyzed.finished:
            return analyzed.units
        manifest = analyzed.manifest
        units = committed_units(analyzed.output, manifest.units, manifest.folders)
        known = set(analyzed.units)
        new = [unit for unit in units if unit.name not in known]
        read_footers_of(analyzed.output, new, manifest.job, beside=manifest.folders[1:])
        names = tuple(unit.name for unit in units)
        with self._lock:
            self._committed = len(names)
            self.analyzed = replace(analyzed, units=names, rows=sum(unit.rows for unit in units))
        return names

    def _add(self, con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
        """Index a batch of units at once: a reader sees all of its rows, or none."""
        analyzed = self.analyzed
        load_batch(con, analyzed, names, ("sequences", "differences"), (VIDEOS,))
        paths = [storage.file_path(storage.join(analyzed.output, VIDEOS, name)) for name in names]
        con.execute(_PLACED, {"paths": paths, "first": len(self.names)})
        self.names += names  # before their rows: a reader of a row looks its unit up
        con.execute(_ADD)
        with self._lock:
            self._indexed = len(self.names)

    def _keep_up(self, refresh: float) -> None:
        while not self._closed.is_set():
            try:
                self.fill()
            except EsvError as error:
                if self._closed.is_set():  # the query was interrupted
                    return
                with self._lock:
                    self._fault = str(error)
                return
            if self.progress.done:
                return
            self._closed.wait(refresh)


def _beginning_small(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the first unit of a batch, and then the others: pages have something to show after a moment."""
    yield from filter(None, (names[:1], names[1:]))
