"""The tables of an analysis: reads an output in batches, and makes the tables of facets."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed, ClassName, add_priors, open_output
from esv_ray.analysis.batches import batches_of, load_batch
from esv_ray.analysis.database import connect, quoted, reading
from esv_ray.analysis.facets.facet import Counts, Facet, Share, Values
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.pools import Pool, add_rows, table_of
from esv_ray.analysis.statistics import wilson
from esv_ray.errors import DataError, SpecError
from esv_ray.output.schemas import SCHEMAS

MEMORY = 256_000_000
"""Bytes that DuckDB may use."""
_WRITTEN_ROWS = 100_000
_COMPACT_AT = 500_000  # rows of a table of totals that are added up before more are inserted


def analyze(
    output: str | PathLike[str],
    tables: str | Sequence[str] | None = None,
    class_: ClassName | None = None,
    features: str | PathLike[str] | None = None,
) -> dict[str, pa.Table]:
    """Return the tables of an analysis (`docs/reference/output.md`).

    Args:
        output: location of a job's output, finished or not.
        tables: names of tables; None: all that can be made from the output.
        class_: class to explain: `label` or `predicted`; None: the label if there are labels, else the predicted class.
        features: location of the feature table, whose key moments the table `moments` needs; None: that of run.json.

    Raises:
        DataError: there is no output, no unit is committed yet, a table cannot be read, or the output lacks the data
            of a requested table.
        SpecError: a table is unknown, or the output has no ESVs of that class.
    """
    tables = [tables] if isinstance(tables, str) else tables
    located = None if features is None else storage.given(features, "features")
    analyzed = open_output(storage.given(output, "output"), class_, located)
    with tables_of_facets(analyzed, chosen(analyzed, tables)) as made:
        return {each.facet.name: pq.read_table(each.file) if each.file else each.table for each in made}


def chosen(analyzed: Analyzed, names: Sequence[str] | None = None) -> list[Facet]:
    """Return facets by name, each once, in their order; None: all that can be made from the output.

    Raises:
        SpecError: there is no such table.
        DataError: the output lacks what a table needs.
    """
    if names is None:
        return [facet for facet in FACETS.values() if lacks(analyzed, facet) is None]
    unknown = [name for name in names if name not in FACETS]
    if unknown:
        raise SpecError(f"table: expected one of {', '.join(FACETS)}, got {unknown[0]!r:.60}")
    for facet in (FACETS[name] for name in names):
        missing = lacks(analyzed, facet)
        if missing is not None:
            raise DataError(f"{analyzed.output}: table {facet.name}: {missing}")
    return [facet for facet in FACETS.values() if facet.name in names]


def lacks(analyzed: Analyzed, facet: Facet) -> str | None:
    """Return what an output lacks for a facet, in words; None if nothing."""
    missing = [name for name in facet.reads if name not in analyzed.tables]
    if missing:
        return (
            f"expected the table {missing[0]} in the output, found none; run a job with `tables: [{missing[0]}]` into "
            "a new output"
        )
    if facet.several_methods and len(analyzed.methods) < 2:
        return f"expected values of several methods, got those of {analyzed.methods[0]}; see `methods` of the spec"
    if facet.marked and analyzed.lacks_moments is not None:
        return analyzed.lacks_moments
    if facet.labelled and analyzed.census.ok and not analyzed.census.labelled:
        return "expected labels, found none in the videos table"
    return None


def left_out(analyzed: Analyzed, made: Iterable[str]) -> list[str]:
    """Return which tables an output cannot have, and why, in sentences.

    Args:
        analyzed: the output.
        made: names of the tables that it has.
    """

    def needs(facet: Facet) -> list[str]:
        return [name for name in facet.reads if name not in analyzed.tables]

    there = set(made)
    absent = [facet for facet in FACETS.values() if facet.name not in there]
    unlabelled = [facet.name for facet in absent if facet.labelled and lacks(analyzed, facet) and not needs(facet)]
    without = [facet.name for facet in absent if needs(facet)]
    sentences = [f"Left out, since videos have no labels: {', '.join(unlabelled)}."] if unlabelled else []
    if any(facet.several_methods and not needs(facet) for facet in absent):
        names = [facet.name for facet in absent if facet.several_methods]
        sentences.append(
            f"Left out, since the job has values of one method only (`methods` of its spec): {', '.join(names)}."
        )
    if without:
        needed = list(dict.fromkeys(name for facet in absent for name in needs(facet)))
        sentences.append(f"Further tables ({', '.join(without)}) need a job with tables: [{', '.join(needed)}].")
    return sentences


@dataclass(frozen=True, eq=False)
class Made:
    """The table of a facet.

    Attributes:
        facet: the facet.
        table: its table; with `file`, the small table that its page is made of.
        file: Parquet file with the table, if it has rows per video: it may be large.
    """

    facet: Facet
    table: pa.Table
    file: Path | None


@contextmanager
def tables_of_facets(analyzed: Analyzed, facets: Sequence[Facet]) -> Iterator[list[Made]]:
    """Make the tables of facets; files among them are removed at the end.

    Raises:
        DataError: a table of the output cannot be read.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="esv-analyze-")))
        con = stack.enter_context(connect(memory=MEMORY))
        con.execute("SET enable_external_file_cache = false")  # a file is read in one batch only
        with reading(analyzed.output), threadpool_limits(1):  # sums of several threads may differ in their last bits
            add_priors(con, analyzed)
            pools = {values: _pools_of(values) for facet in facets for values in facet.values}
            files = _read_batches(con, analyzed, facets, pools, folder)
            for values, of_values in pools.items():
                _store_means(con, values, of_values)
            pools.clear()
            made = [Made(facet, _described(_final(con, facet), analyzed), files.get(facet.name)) for facet in facets]
        yield made


def _described(table: pa.Table, analyzed: Analyzed) -> pa.Table:
    return table.replace_schema_metadata(description(analyzed))


def description(analyzed: Analyzed) -> dict[str, str]:
    """Return the metadata of the tables: what they are made of."""
    content = {
        "class": analyzed.explained,
        "unit": "logit" if analyzed.in_logits else "probability",
        "committed_units": len(analyzed.units),
        "planned_units": len(analyzed.manifest.units),
    }
    return {"esv_ray": json.dumps(content)}


def _read_batches(
    con: duckdb.DuckDBPyConnection,
    analyzed: Analyzed,
    facets: Sequence[Facet],
    pools: Mapping[Values, Sequence[Pool]],
    folder: Path,
) -> dict[str, Path]:
    """Add up all batches: counts in tables of their names, values in pools; return the files of rows per video."""
    uses = list(dict.fromkeys(name for facet in facets for name in facet.uses))
    wanted = dict.fromkeys(name for facet in facets for name in (*facet.reads, *facet.reads_if_there))
    reads = [name for name in wanted if name in analyzed.tables]
    for name in wanted.keys() - {*reads}:
        con.register(name, SCHEMAS[name].empty_table())
    files = {facet.name: folder / f"{facet.name}.parquet" for facet in facets if facet.rows}
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for names in batches_of(analyzed):
            load_batch(con, analyzed, names, uses, reads)
            _add_batch(con, facets, pools)
            for facet in facets:
                if facet.rows:
                    rows = con.sql(facet.rows).to_arrow_reader(_WRITTEN_ROWS)
                    if facet.name not in writers:
                        schema = rows.schema.with_metadata(description(analyzed))
                        writer = pq.ParquetWriter(files[facet.name], schema, compression="zstd")
                        writers[facet.name] = stack.enter_context(writer)
                    for batch in rows:
                        writers[facet.name].write_batch(batch)
    return files


def tables_of_batches(
    con: duckdb.DuckDBPyConnection, facets: Sequence[Facet], batches: Iterable[object]
) -> list[pa.Table]:
    """Return the tables of facets without rows per video, from batches of whatever videos.

    Args:
        con: with the tables of `add_priors`; the tables of totals are made in it.
        facets: of which none has `rows`.
        batches: the tables that the facets use (`analysis/batches.py`) are in `con` when one of them is taken.
    """
    pools = {values: _pools_of(values) for facet in facets for values in facet.values}
    with threadpool_limits(1):
        for _ in batches:
            _add_batch(con, facets, pools)
        for values, of_values in pools.items():
            _store_means(con, values, of_values)
    return [_final(con, facet) for facet in facets]


def _add_batch(con: duckdb.DuckDBPyConnection, facets: Sequence[Facet], pools: Mapping[Values, Sequence[Pool]]) -> None:
    """Add a batch to the tables of counts, and to pools."""
    for each in {each.name: each for facet in facets for each in facet.counts}.values():
        _count(con, each)
    for values, of_values in pools.items():
        add_rows(of_values, con.sql(values.query).to_arrow_table())


def _count(con: duckdb.DuckDBPyConnection, counts: Counts) -> None:
    """Add the counts of a batch to their totals."""
    name = quoted(counts.name)
    made = con.execute("SELECT table_name FROM duckdb_tables() WHERE table_name = ?", [counts.name]).fetchall()
    if not made:
        con.execute(f"CREATE TEMP TABLE {name} AS {counts.query}")
        return
    con.execute(f"INSERT INTO {name} BY NAME {counts.query}")
    ((rows,),) = con.execute(f"SELECT count(*) FROM {name}").fetchall()
    if rows > _COMPACT_AT:
        _add_up(con, counts)


def _add_up(con: duckdb.DuckDBPyConnection, counts: Counts) -> None:
    """Leave one row per group in a table of totals."""
    name = quoted(counts.name)
    columns = con.execute(f"DESCRIBE {name}").fetchall()
    keys = [quoted(key) for key in counts.keys]
    sums = [
        f"{'max' if column.startswith('largest') else 'sum'}({quoted(column)})::{kind} AS {quoted(column)}"
        for column, kind, *_ in columns
        if column not in counts.keys
    ]
    grouped = f"GROUP BY {', '.join(keys)}" if keys else ""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {', '.join(keys + sums)} FROM {name} {grouped}")


def _pools_of(values: Values) -> list[Pool]:
    """Return a pool of the groups, and one of those that are added up."""
    pools = [Pool(tuple(values.keys))]
    if values.over is not None:
        pools.append(Pool(tuple(key for key in values.keys if key != values.over)))
    return pools


def _store_means(con: duckdb.DuckDBPyConnection, values: Values, pools: Sequence[Pool]) -> None:
    """Make the table of the means of pools."""
    con.register("esv_means", pa.concat_tables([table_of(pool, values.keys) for pool in pools]))
    con.execute(f"CREATE TEMP TABLE {quoted(values.name)} AS SELECT * FROM esv_means")
    con.unregister("esv_means")


def _final(con: duckdb.DuckDBPyConnection, facet: Facet) -> pa.Table:
    for counts in facet.counts:
        _add_up(con, counts)
    table = con.sql(facet.query).to_arrow_table()
    for share in facet.shares:
        table = _with_interval(table, share)
    return table.select([name for name in table.column_names if not name.startswith("_")])


def _with_interval(table: pa.Table, share: Share) -> pa.Table:
    counts = [
        table.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in (share.successes, share.trials)
    ]
    for name, ends in zip((share.low, share.high), wilson(*counts), strict=True):
        table = table.append_column(name, pa.array(ends, mask=np.isnan(ends)))
    return table
