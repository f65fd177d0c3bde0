"""esv export."""

from __future__ import annotations

import click

from esv_ray.cli.options import output_option
from esv_ray.cli.results import memory_option
from esv_ray.cli.types import LOCATION
from esv_ray.export.registry import FORMATS
from esv_ray.export.registry import export as write_export


@click.command(short_help="Write an output in the format of another program.")
@click.argument("output", type=LOCATION)
@click.option(
    "--to",
    required=True,
    type=click.Choice(list(FORMATS)),
    help="Format.",
)
@output_option("File or folder to write (default: esv-csv, esv.npz or esv.pkl in this folder).", into="path")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--exact-text", is_flag=True, help="csv: leave ids and names that look like formulas as they are.")
@memory_option
def export(
    output: str,
    to: str,
    path: str | None,
    overwrite: bool,
    exact_text: bool,
    memory: int | None,
) -> None:
    """Write an OUTPUT in the format of another program.

    csv: a folder with a file per table. npz: one file of arrays. play-fair: the pickle that the
    dashboard of the paper's authors reads.

    Existing files are not replaced without --overwrite.

    \b
    Examples:
      esv export esv/ --to csv --output tables/
      esv export s3://bucket/esv --to npz --output s3://bucket/esv.npz
      esv export esv/ --to play-fair --output esv.pkl

    \b
    Exit codes:
      0  the files were written
      2  the output cannot be read, lacks what the format needs, or the files exist or cannot be written
    """
    from esv_ray.export.request import Request

    place = path or FORMATS[to].default
    notes = write_export(to, Request(output, place, overwrite, exact_text=exact_text, memory=memory))
    for note in notes:
        click.echo(note)
    click.echo(f"written: {place}")
