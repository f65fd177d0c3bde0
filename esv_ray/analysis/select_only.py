"""Checks that a query of a user is one SELECT statement that neither writes nor reads files.

The kind of a statement does not suffice: DuckDB 2.0 calls a statement SELECT also if a part of its WITH clause inserts,
updates, deletes or copies to a file, and it has table functions that write logs and profiles or take addresses of
memory. So the whole syntax tree is checked: only queries in it, and only table functions of a list.
"""

from __future__ import annotations

import json
from typing import Any

import duckdb

from esv_ray.errors import SpecError

_MOST_QUERY = 100_000  # characters: DuckDB takes minutes to parse longer ones of hostile shapes
_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
TABLE_FUNCTIONS = {
    *("generate_series", "range", "repeat", "repeat_row", "unnest", "json_each", "json_tree", "summary"),
    *("histogram", "histogram_values", "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_schemas"),
    *("duckdb_tables", "duckdb_types", "duckdb_views", "pragma_show", "pragma_table_info", "pragma_version"),
    *("icu_calendar_names", "pg_timezone_names", "test_all_types", "pragma_collations"),
}
"""Table functions that queries may use: they read no files and change nothing.

`duckdb_views` shows where the files of the views are, which whoever runs the query named.
"""
_WRITING = {"write_log"}  # functions of values that write


def check_query(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """Check that a query is one SELECT statement that reads no other files.

    Raises:
        SpecError: it is not.
        duckdb.Error: its syntax is wrong.
    """
    if len(query) > _MOST_QUERY:
        raise SpecError(f"query: expected at most {_MOST_QUERY} characters, got {len(query)}; write a shorter one")
    if "\0" in query or (not query.isprintable() and _lone_surrogate(query)):
        raise SpecError("query: expected a text in UTF-8 without null characters")
    statements = con.extract_statements(query)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        got = " and ".join(kinds) or "none"
        raise SpecError(
            f"query: expected one SELECT statement, got {got}; SQL only reads, and a PIVOT needs its values: ON x IN "
            "(1, 2)"
        )
    _check_tree(con.execute("SELECT json_serialize_sql($query)", {"query": query}).fetchall()[0][0])


def _lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _check_tree(serialized: str) -> None:
    """Raise `SpecError` if the syntax tree of a query, as JSON, has a part that writes or that reads files."""
    try:
        tree: dict[str, Any] = json.loads(serialized)
    except RecursionError:
        raise SpecError("query: expected fewer nested parts; write a simpler one") from None
    if tree.get("error"):
        raise SpecError(f"query: {tree.get('error_message', 'DuckDB cannot analyze it')}; SQL only reads")
    waiting: list[Any] = [tree]
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _QUERIES:
            verb = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise SpecError(f"query: expected a query that only reads, got {verb} in it; write SELECT")
        if kind == "TABLE_FUNCTION":
            _check_function(str(part["function"].get("function_name")))
        if kind == "FUNCTION" and str(part.get("function_name")).lower() in _WRITING:
            raise SpecError(
                f"query: expected functions that only read, got {part['function_name']!r:.80}; leave it out"
            )


def _check_function(name: str) -> None:
    if name.lower() not in TABLE_FUNCTIONS:
        raise SpecError(
            f"query: the function {name!r:.80} is not available, since SQL reads the output only; select from its "
            f"views, or from one of {', '.join(sorted(TABLE_FUNCTIONS)[:6])}, ..."
        )
