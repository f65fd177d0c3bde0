"""DuckDB over outputs: the tables of committed units as views, on any storage.

Files on this machine are read by DuckDB itself. All others, and files whose path DuckDB would take for a pattern, are
read through `storage.EscapedFiles`, with this project's retries, limits and errors.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from esv_ray import storage
from esv_ray.errors import DataError, SpecError
from esv_ray.output.committed import committed_units
from esv_ray.output.layout import ATTRIBUTIONS
from esv_ray.output.manifest import Manifest, existing_manifest

FEWEST_BYTES = 64_000_000
"""Least memory limit: DuckDB needs most of it to read one row group."""


def connect(*, memory: int | None = None, threads: int = 1) -> duckdb.DuckDBPyConnection:
    """Open a database in memory.

    With one thread the same query over the same output gives the same bits. DuckDB makes its temporary folder when it
    first needs it, and removes it when the connection and all cursors are closed.

    Args:
        memory: bytes that DuckDB may use before it writes to the temporary folder; None: 80 % of this machine's or
            container's.
        threads: of a query.

    Raises:
        SpecError: the memory is less than `FEWEST_BYTES`.
    """
    if memory is not None and memory < FEWEST_BYTES:
        raise SpecError(f"memory: expected at least {FEWEST_BYTES // 10**6}MB, got {memory} bytes")
    spill = Path(tempfile.gettempdir()) / f"esv-{uuid.uuid4().hex}"
    config: dict[str, Any] = {"threads": threads, "temp_directory": str(spill), "python_enable_replacements": False}
    # Committed files do not change; without this DuckDB opens each file again to see whether it did.
    config |= {"validate_external_file_cache": "NO_VALIDATION", "autoinstall_known_extensions": False}
    if memory is not None:
        config["memory_limit"] = f"{memory}B"
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET enable_progress_bar = false")
    con.register_filesystem(storage.EscapedFiles())
    return con


def add_views(
    con: duckdb.DuckDBPyConnection,
    output: str,
    names: Sequence[str] | None = None,
    *,
    schema: str | None = None,
    manifest: Manifest | None = None,
) -> list[str]:
    """Add views over an output: `videos`, `attributions`, `classes`, and the further tables of its job.

    Args:
        con: from `connect`.
        output: its location.
        names: file names of units; None: all committed ones.
        schema: for the views, which is made if there is none; None: the default one.
        manifest: of the output; None: read it.

    Returns:
        The paths of the files, as DuckDB sees them.

    Raises:
        DataError: there is no output, no unit is committed yet, or a file cannot be read.
    """
    manifest = existing_manifest(output) if manifest is None else manifest
    if names is None:
        names = [unit.name for unit in committed_units(output, manifest.units, manifest.folders)]
    if not names:
        raise DataError(f"{output}: expected committed units, found none yet; run the job first")
    add_classes(con, manifest, schema=schema)
    return add_tables(con, output, names, manifest.folders, schema=schema)


def add_tables(
    con: duckdb.DuckDBPyConnection,
    output: str,
    names: Sequence[str],
    tables: Sequence[str],
    *,
    schema: str | None = None,
) -> list[str]:
    """Add views over some tables of some units, in place of those of other units; asks the storage for footers only.

    Args:
        con: from `connect`.
        output: its location.
        names: file names of units, at least one.
        tables: some of `Manifest.folders`.
        schema: for the views, as for `add_views`.

    Returns:
        The paths of the files, as DuckDB sees them.

    Raises:
        DataError: a file cannot be read.
    """
    _make_schema(con, schema)
    paths = []
    with reading(output):
        for table in tables:
            files = [storage.file_path(storage.join(output, table, name)) for name in names]
            # DuckDB would add a column for a folder such as label=1 in the location of the output.
            source = f"read_parquet({_listed(files)}, hive_partitioning = false)"
            con.execute(f"CREATE OR REPLACE VIEW {_named(table, schema)} AS {_select(con, table, source)}")
            paths += files
    return paths


def add_classes(con: duckdb.DuckDBPyConnection, manifest: Manifest, *, schema: str | None = None) -> None:
    """Add the table `classes`: id, and name, which is null if the model has no names."""
    _make_schema(con, schema)
    names = manifest.model["classes"] or [None] * manifest.model["n_classes"]
    table = pa.table({"id": pa.array(range(len(names)), pa.int32()), "name": pa.array(names, pa.string())})
    con.register("esv_classes", table)
    con.execute(f"CREATE OR REPLACE TABLE {_named('classes', schema)} AS SELECT * FROM esv_classes")
    con.unregister("esv_classes")


@contextmanager
def reading(output: str) -> Iterator[None]:
    """Turn errors of DuckDB into errors for users, for queries that are not the user's.

    Raises:
        DataError: a file is damaged or missing, the storage refuses, or the memory limit is reached.
    """
    try:
        yield
    except duckdb.Error as error:
        raise fault_of(error) or DataError(
            f"{output}: expected readable tables, got: {message_of(error)}; see esv verify {output}"
        ) from None


def fault_of(error: duckdb.Error) -> DataError | None:
    """Return the error for users if the storage or the memory is at fault; else None."""
    fault = storage.fault_in(str(error))
    if fault is not None:
        return DataError(fault)
    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(
            f"the query needs more memory than its limit ({message_of(error)}); raise the limit (--memory), or select "
            "less"
        )
    return None


def error_from(text: str) -> duckdb.Error:
    """Return DuckDB's error from its text, which begins with the name of its kind."""
    kind = text.strip().partition(" Error:")[0].replace(" ", "").lower() + "exception"
    kinds = {name.lower(): getattr(duckdb, name) for name in dir(duckdb) if name.endswith("Exception")}
    error: duckdb.Error = kinds.get(kind, duckdb.Error)(text)
    return error


def message_of(error: duckdb.Error) -> str:
    """Return the first line of DuckDB's message, without the name of its kind, with the locations of files."""
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = re.sub(r"^[\w ]+ Error: ", "", first)
    return " ".join(storage.unescaped(text).split())[:400]


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def _named(table: str, schema: str | None) -> str:
    return quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"


def _make_schema(con: duckdb.DuckDBPyConnection, schema: str | None) -> None:
    if schema is not None:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")


def _listed(paths: Sequence[str]) -> str:
    """Return paths as a list of SQL strings: a view takes no parameters."""
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def _select(con: duckdb.DuckDBPyConnection, table: str, source: str) -> str:
    """Return the query of a view; attributions of earlier versions get the column `method`."""
    columns = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    if table != ATTRIBUTIONS or "method" in columns:
        return f"SELECT * FROM {source}"
    return f"SELECT video_id, 'esv' AS method, * EXCLUDE (video_id) FROM {source}"
