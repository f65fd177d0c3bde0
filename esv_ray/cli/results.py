"""Options and files of commands that print or write tables of results."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from esv_ray import storage
from esv_ray.cli.types import Count, Size

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "json", "parquet")

memory_option = click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="Memory for the query, such as 500MB or 2GB (default: 80 % of this machine's). Larger queries use the disk.",
)
threads_option = click.option(
    "--threads",
    type=Count(1, 256),
    default=1,
    show_default=True,
    help="Threads of the query; with more than one, sums may differ in their last digits.",
)


def format_of(kind: str | None, out: str | None) -> str:
    """Return the format that is asked for: --format, or that of the file's name, or table.

    Raises:
        UsageError: a file has neither, or cannot be written in the format.
    """
    if out is None:
        if kind == "parquet" and sys.stdout.isatty():
            raise click.UsageError("--format parquet: a terminal shows no Parquet; give --out, or > FILE")
        return kind or "table"
    suffix = PurePosixPath(out).suffix.lower().removeprefix(".")
    chosen = kind or suffix
    if chosen not in FORMATS:
        raise click.UsageError(
            f"--out: expected a file that ends in .csv, .json or .parquet, or --format, got {out!r:.200}"
        )
    if suffix in FORMATS and suffix != chosen:
        raise click.UsageError(f"--out: expected a file that ends in .{chosen}, as --format says, got {out!r:.200}")
    return chosen


def check_out(out: str, outputs: Sequence[str]) -> None:
    """Check that a file can be written, before anything is computed.

    Raises:
        SpecError: it would be one of the files of an output.
        DataError: nothing can be written there.
    """
    from esv_ray.output.layout import check_apart

    check_apart(out, outputs, "--out")
    folder, _, name = storage.absolute(out).rpartition("/")
    _check_writable(folder or "/", [name])


def check_out_folder(folder: str, outputs: Sequence[str], option: str = "--output") -> None:
    """Check that files can be written to a folder, before anything is computed; errors as for `check_out`."""
    from esv_ray.output.layout import check_apart

    check_apart(folder, outputs, option)
    _check_writable(storage.absolute(folder))


def _check_writable(folder: str, names: Sequence[str] = ()) -> None:
    from esv_ray.analysis.result_files import DOING

    storage.check_writable(folder, DOING, names)


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None, since JSON has none."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_result(schema: pa.Schema, batches: Iterable[pa.RecordBatch], kind: str, out: str | None) -> None:
    """Write rows to a file, which is replaced, or to the standard output.

    Raises:
        SpecError: the format has no such type.
        DataError: the rows cannot be computed, or the file cannot be written.
    """
    from esv_ray.analysis.result_files import write_file, write_rows

    if out is None:
        write_rows(schema, batches, kind, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    write_file(schema, batches, kind, out)
    click.echo(f"written: {out}", err=True)
