"""The command `esv export`."""

from __future__ import annotations

import click

from esv_ray.cli.options import output_option
from esv_ray.cli.types import LOCATION, NAME, Count, Size
from esv_ray.export.registry import FORMATS
from esv_ray.export.registry import export as write_export


@click.command(short_help="Write an output in the format of another program.")
@click.argument("output", type=LOCATION)
@click.argument("video_id", type=NAME, required=False)
@click.option("--to", required=True, type=click.Choice(list(FORMATS)), help="Format.")
@output_option(
    "File or folder to write (default: esv-csv, esv.npz, esv.pkl, esv-fiftyone or esv.rrd in this folder).",
    into="path",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--elements",
    type=Count(min=1),
    help="fiftyone, rerun: number of elements, if the output has several lengths (default: the longest).",
)
@click.option(
    "--videos",
    type=LOCATION,
    metavar="URL",
    help="fiftyone, rerun: the video files, as for esv extract (default: those that esv extract read).",
)
@click.option("--exact-text", is_flag=True, help="csv: leave ids and names that look like formulas as they are.")
@click.option("--memory", type=Size(), metavar="SIZE", help="Memory for reading the tables (default: 1GB).")
def export(
    output: str,
    video_id: str | None,
    to: str,
    path: str | None,
    overwrite: bool,
    elements: int | None,
    videos: str | None,
    exact_text: bool,
    memory: int | None,
) -> None:
    """Write an OUTPUT in the format of another program.

    Existing files are not replaced without --overwrite.

    \b
    Formats:
      csv        a folder with a file per table
      npz        one file of NumPy arrays
      play-fair  the pickle that the dashboard of the paper's authors reads
      fiftyone   a folder that FiftyOne imports: ESVs as fields of frames
      rerun      one video, VIDEO_ID, with its ESVs over time; requires: pip install 'esv-ray[rerun]'

    \b
    Examples:
      esv export esv/ --to csv --output tables/
      esv export s3://bucket/esv --to npz --output s3://bucket/esv.npz
      esv export esv/ --to fiftyone --videos clips/ --output fiftyone/
      esv export esv/ video_0012 --to rerun --videos clips/ --output video.rrd

    \b
    Exit codes:
      0  the files were written
      2  the output cannot be read, lacks what the format needs, or the files exist or cannot be written
    """
    from esv_ray.export.request import Request

    place = path or FORMATS[to].default
    request = Request(output, place, overwrite, video_id, elements, videos, exact_text, memory)
    for note in write_export(to, request):
        click.echo(note)
    click.echo(f"written: {place}")
