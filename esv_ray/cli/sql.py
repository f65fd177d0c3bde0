"""The command `esv sql`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from esv_ray.cli.results import FORMATS, check_out, format_of, memory_option, threads_option, write_result
from esv_ray.cli.types import LOCATION, Count, Name
from esv_ray.errors import count_of

if TYPE_CHECKING:
    from esv_ray.analysis.sql import Rows


class _Word(Name):
    """A location or a query."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text.

        Raises:
            UsageError: it is empty.
        """
        if not value.strip():
            raise click.UsageError(f"expected OUTPUT and QUERY, got {value!r}; a variable may be empty")
        return value


@click.command(short_help="Query the tables of an output with SQL.")
@click.argument("words", type=_Word(), nargs=-1, metavar="[OUTPUT] QUERY")
@click.option(
    "--output",
    "named",
    multiple=True,
    metavar="NAME=URL",
    help="Output with a name; its views are NAME.videos and so on. OUTPUT may then be left out. Repeatable.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", *FORMATS]),
    help="Format of the result (default: table, or --out's).",
)
@click.option("--out", type=LOCATION, metavar="URL", help="Write the result to this file (.csv, .json or .parquet).")
@click.option(
    "--rows", type=Count(1, 1_000_000), default=20, show_default=True, help="Maximum number of rows printed as a table."
)
@memory_option
@threads_option
def sql(
    words: tuple[str, ...],
    named: tuple[str, ...],
    kind: str | None,
    out: str | None,
    rows: int,
    memory: int | None,
    threads: int,
) -> None:
    """Run one SELECT statement of DuckDB's SQL over the tables of an OUTPUT.

    The views are videos, attributions, classes (id, name) and the further tables that the job wrote, such as discards.
    A query can read no other files, and cannot write. Printed numbers have six digits; the other formats have exact
    values.

    \b
    Examples:
      esv sql esv/ "SELECT status, count(*) FROM videos GROUP BY status"
      esv sql esv/ "FROM attributions LIMIT 10" --format csv
      esv sql esv/ "SELECT element, avg(esv) FROM attributions GROUP BY ALL" --out mean.parquet
      esv sql --output a=esv-1/ --output b=s3://bucket/esv-2 \\
          "SELECT count(*) FROM a.videos JOIN b.videos USING (video_id)"

    \b
    Exit codes:
      0  the result was written
      2  the query is not one SELECT statement, it failed, or an output cannot be read
    """
    from esv_ray.analysis.sql import open_outputs, select

    query, outputs = _request(words, named)
    kind = format_of(kind, out)
    if out is not None:
        check_out(out, list(outputs.values()))
    opened = open_outputs(outputs, memory=memory, threads=threads)
    with opened.con:
        for line in opened.unfinished:
            click.echo(line, err=True)
        result = select(opened, query)
        if kind == "table":
            _show(result, rows)
        else:
            write_result(result.schema, result.batches, kind, out)


def _request(words: Sequence[str], named: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the query, and the outputs by name; "" for the one without a name.

    Raises:
        UsageError: there is no query or no output, or there are too many words.
    """
    from esv_ray.storage import absolute

    if not 1 <= len(words) <= 2 or (len(words) == 1 and not named):
        raise click.UsageError(f"expected OUTPUT and QUERY, got {count_of(len(words), 'argument')}; quote the query")
    outputs = {"": absolute(LOCATION.convert(words[0], None, None))} if len(words) == 2 else {}
    for text in named:
        name, equals, url = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--output: expected NAME=URL, got {text!r:.80}")
        if name in outputs:
            raise click.UsageError(f"--output: expected different names, got {name!r:.80} twice")
        outputs[name] = absolute(LOCATION.convert(url, None, None))
    return words[-1], outputs


def _show(result: Rows, most: int) -> None:
    """Print the first rows as a table."""
    from esv_ray.analysis.result_files import readable, rows_of
    from esv_ray.show.table_text import table_lines
    from esv_ray.show.terminal import encodable

    rows = (tuple(map(readable, row)) for batch in result.batches for row in rows_of(batch))
    first = list(islice(rows, most + 1))
    lines = table_lines(result.schema.names, first[:most], shutil.get_terminal_size().columns)
    click.echo(encodable("\n".join(lines), sys.stdout.encoding))
    if not first:
        click.echo("no rows", err=True)
    if len(first) > most:
        click.echo(f"these are the first {count_of(most, 'row')}; --rows prints more, --format csv all", err=True)
