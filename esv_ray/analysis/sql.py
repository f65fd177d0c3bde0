"""SQL of users over the tables of outputs: one SELECT statement, which reads nothing else and writes nothing.

Three fences, each of which suffices for most attempts:

- The syntax tree of the query (`select_only`).
- DuckDB's configuration: no access outside of the process but to the files of the units, and locked.
- Files of units that are symbolic links out of the output are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import duckdb
import pyarrow as pa

from esv_ray import storage
from esv_ray.analysis.database import add_views, connect, error_from, fault_of, message_of
from esv_ray.analysis.result_files import bit_texts
from esv_ray.analysis.select_only import check_query
from esv_ray.errors import DataError, SpecError, count_of
from esv_ray.output.committed import committed_units, read_footers_of
from esv_ray.output.layout import FOLDERS
from esv_ray.output.manifest import Manifest, existing_manifest

BATCH_ROWS = 10_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TAKEN = {"main", "temp", "system", "pg_catalog", "information_schema", "memory"}
_OF_THE_QUERY = (
    *(duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException, duckdb.ConversionException),
    *(duckdb.OutOfRangeException, duckdb.TypeMismatchException, duckdb.NotImplementedException),
    *(duckdb.PermissionException, duckdb.SyntaxException, duckdb.ConstraintException),
)


@dataclass(frozen=True)
class Opened:
    """Outputs that can be queried.

    Attributes:
        con: the database, locked; to be closed (``with opened.con``), which removes its temporary files.
        outputs: locations by the name of their views; "" for views without one.
        unfinished: one line for each output that lacks units.
        files: paths of the files of the views, as DuckDB sees them.
    """

    con: duckdb.DuckDBPyConnection
    outputs: Mapping[str, str]
    unfinished: tuple[str, ...]
    files: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """The result of a query, as it is computed; can be read once.

    Attributes:
        schema: names and types of the columns; no two have the same name.
        batches: of rows.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def table(self) -> pa.Table:
        """Return all rows."""
        return pa.Table.from_batches(list(self.batches), self.schema)


def sql(
    outputs: str | PathLike[str] | Mapping[str, str | PathLike[str]],
    query: str,
    *,
    memory: int | None = None,
    threads: int = 1,
) -> pa.Table:
    """Return the result of one SELECT statement of DuckDB's SQL over the tables of an output.

    The views are `videos`, `attributions`, `classes` (id, name), and the further tables of the job. SQL reads no other
    files, and writes nothing.

    Args:
        outputs: location of an output, finished or not; or several locations by name: the views are then `NAME.videos`
            and so on.
        query: the statement.
        memory: bytes that DuckDB may use before it writes temporary files; None: 80 % of this machine's memory.
        threads: DuckDB's threads; with one, the same query gives the same bits.

    Raises:
        SpecError: the query is not one SELECT statement, it failed, or a name is not an identifier.
        DataError: there is no output, no unit is committed yet, a file cannot be read, or there is not enough memory.
    """
    named = outputs if isinstance(outputs, Mapping) else {"": outputs}
    places = {name: storage.absolute(storage.given(url, "output")) for name, url in named.items()}
    if not isinstance(query, str):
        raise SpecError(f"query: expected one SELECT statement as a text, got {type(query).__name__}")
    opened = open_outputs(places, memory=memory, threads=threads)
    with opened.con:
        return select(opened, query).table()


def open_outputs(outputs: Mapping[str, str], *, memory: int | None = None, threads: int = 1) -> Opened:
    """Open outputs for queries.

    Args:
        outputs: locations by name: the views of an output are NAME.videos and so on; of "", videos and so on.
        memory, threads: as for `database.connect`.

    Raises:
        SpecError: a name is not an identifier of SQL, or is taken.
        DataError: there is no output, no unit is committed yet, or a file is a link out of its output.
        JobError: a file is of another job.
    """
    con = connect(memory=memory, threads=threads)
    _check_names(con, outputs)
    files: list[str] = []
    unfinished = []
    for name, output in outputs.items():
        manifest = existing_manifest(output)
        units = committed_units(output, manifest.units, manifest.folders)
        unfinished += _unfinished(name, output, manifest, len(units), sum(unit.rows for unit in units))
        read_footers_of(output, units, manifest.job, beside=manifest.folders[1:])
        paths = add_views(con, output, [unit.name for unit in units], schema=name or None, manifest=manifest)
        _check_links(output, paths)
        files += paths
    con.execute("SET allowed_paths = $paths", {"paths": files})
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return Opened(con, outputs, tuple(unfinished), files)


def select(opened: Opened, query: str) -> Rows:
    """Start one SELECT statement.

    Returns:
        Its result, which is computed while it is read. It must be read before the next one is started.

    Raises:
        SpecError: the query is not one SELECT statement, or DuckDB refuses it; one line says what to do.
        DataError: a file of the output is damaged, or the memory does not suffice. `Rows.batches` raises both, too.
    """
    try:
        check_query(opened.con, query)
        relation = opened.con.sql(query)
        bits = [place for place, kind in enumerate(relation.types) if str(kind) == "BIT"]
        reader = relation.to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as error:
        raise _error_of(opened, error) from None
    schema = _with_unique_names(reader.schema)
    for place in bits:
        schema = schema.set(place, schema.field(place).with_type(pa.string()))
    return Rows(schema, _batches(opened, reader, schema, bits))


def _batches(
    opened: Opened, reader: pa.RecordBatchReader, schema: pa.Schema, bits: Sequence[int]
) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except duckdb.Error as error:
            raise _error_of(opened, error) from None
        except (pa.ArrowException, OSError, ValueError) as error:  # Arrow's stream keeps only the text
            raise _error_of(opened, error_from(str(error))) from None
        columns = [bit_texts(column) if place in bits else column for place, column in enumerate(batch.columns)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _check_names(con: duckdb.DuckDBPyConnection, outputs: Mapping[str, str]) -> None:
    """Raise `SpecError` unless every name is an identifier of its own; DuckDB ignores case."""
    seen: set[str] = set()
    for name in outputs:
        if name and (not _NAME.fullmatch(name) or name.lower() in _TAKEN or not _is_free(con, name)):
            raise SpecError(
                f"output: expected a name of letters, digits and _ that is no word of SQL, got {name!r:.80}; for "
                "example a=URL"
            )
        if name.lower() in seen:
            raise SpecError(f"output: expected different names, got {name!r} twice")
        seen.add(name.lower())


def _is_free(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Return whether a name can stand before views without quotes."""
    try:
        return len(con.extract_statements(f"SELECT {name}.videos.label FROM {name}.videos")) == 1
    except duckdb.Error:
        return False


def _unfinished(name: str, output: str, manifest: Manifest, units: int, rows: int) -> list[str]:
    if units == len(manifest.units):
        return []
    of = f"{name}: " if name else ""
    return [
        f"{of}unfinished: {units} of {count_of(len(manifest.units), 'unit')} committed, {rows} of "
        f"{count_of(manifest.rows, 'video')}"
    ]


def _check_links(output: str, paths: Sequence[str]) -> None:
    """Raise `DataError` if a file on this machine is, through links, outside of its output."""
    fs, folder = storage.open_location(output)
    if not storage.is_local(fs):
        return
    root = Path(folder).resolve()
    inside: dict[Path, bool] = {}
    for plain in map(storage.plain_path, paths):
        path = Path(plain)
        if path.parent not in inside:
            inside[path.parent] = path.parent.resolve().is_relative_to(root)
        if not inside[path.parent] or (path.is_symlink() and not path.resolve().is_relative_to(root)):
            raise DataError(
                f"{path}: expected a file of the output, got a link to {path.resolve()}, which is outside of it; copy "
                "that file here"
            )


def _error_of(opened: Opened, error: duckdb.Error) -> DataError | SpecError:
    """Return the error for users."""
    fault = fault_of(error)
    if fault is not None:
        return fault
    text = str(error)
    damaged = any(path in text for path in opened.files) or "esv-file://" in text
    if isinstance(error, _OF_THE_QUERY) or (isinstance(error, duckdb.InvalidInputException) and not damaged):
        return SpecError(f"query: {_reason(error)}{_advice(opened, error)}")
    outputs = ", ".join(opened.outputs.values())
    return DataError(f"{outputs}: expected readable tables, got: {message_of(error)}; see esv verify")


def _reason(error: duckdb.Error) -> str:
    """Return DuckDB's reason in one line, with its suggestions, without the excerpt of the query."""
    if isinstance(error, duckdb.PermissionException):
        return "SQL reads the views of the output and no other file"
    lines = str(error).split("\nLINE ")[0].splitlines()
    return " ".join(message_of(type(error)("\n".join(lines[:1]))).split() + " ".join(lines[1:]).split())[:500]


def _advice(opened: Opened, error: duckdb.Error) -> str:
    """Return what a query can use, if it named something else."""
    if isinstance(error, duckdb.ParserException) and 'near "order"' in str(error):
        return '; the view and the column of this name need double quotes: "order"'
    if not isinstance(error, duckdb.CatalogException | duckdb.BinderException | duckdb.PermissionException):
        return ""
    return f"; there are {'; '.join(_described(opened))}"


def _described(opened: Opened) -> list[str]:
    """Return the views, each with its columns; those of an output with a name only once for all outputs."""
    rows = opened.con.execute(
        "SELECT schema_name, table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY ALL"
    ).fetchall()
    order = [*FOLDERS, "classes"]
    rows.sort(key=lambda row: (order.index(row[1]), row[0]))
    first = next(name or "main" for name in opened.outputs)
    described = [
        f"{'' if schema == 'main' else schema + '.'}{table} ({', '.join(columns)})"
        for schema, table, columns in rows
        if schema == first
    ]
    others = [schema for schema in dict.fromkeys(row[0] for row in rows) if schema != first]
    return described + [f"the same in {', '.join(others)}"] * bool(others)


def _with_unique_names(schema: pa.Schema) -> pa.Schema:
    """Return a schema in which a name that occurs again has a number: JSON and data frames need different names."""
    names: list[str] = []
    for name in schema.names:
        unique, number = name, 2
        while unique in names:
            unique, number = f"{name}_{number}", number + 1
        names.append(unique)
    return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])
