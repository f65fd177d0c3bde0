"""The command `esv report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import class_option, output_option
from esv_ray.cli.types import LOCATION

if TYPE_CHECKING:
    from esv_ray.analysis.analyzed import ClassName


@click.command(short_help="Write one HTML file about an output: findings, figures and videos.")
@click.argument("output", type=LOCATION)
@output_option("File (.html) to write (default: OUTPUT/report.html).", into="out")
@click.option(
    "--media",
    type=LOCATION,
    metavar="URL",
    help="Pictures, videos or a table of esv extract --thumbnails, for thumbnails of the frames.",
)
@click.option(
    "--compare",
    "other",
    type=LOCATION,
    metavar="OUTPUT_B",
    help="Also compare with this output, as esv compare does, and show the videos that differ most.",
)
@class_option
@click.option(
    "--features",
    type=LOCATION,
    metavar="URL",
    help="Feature table to check the output against (default: that of the job, if it is on this machine or the "
    "output's kind of store).",
)
def report(
    output: str,
    out: str | None,
    media: str | None,
    other: str | None,
    class_: ClassName | None,
    features: str | None,
) -> None:
    """Write a report about an OUTPUT: one HTML file to read, send and print, without a network.

    It says what was explained, whether the output is complete and correct, and what was found. It shows the figures of
    esv analyze with their data, and up to 60 videos. An existing file is replaced.

    Thumbnails of the frames appear below the bars if --media gives pictures (VIDEO_ID/NUMBER.jpg, .png or .webp), the
    videos themselves (VIDEO_ID.mp4, or a list as for esv extract) or a table of esv extract --thumbnails. Without
    --media, those of the feature table are used, if it has any.

    Requires: pip install 'esv-ray[figures]'.

    \b
    Examples:
      esv report esv/
      esv report s3://bucket/esv --output report.html --media s3://bucket/frames
      esv report esv/ --media videos/
      esv report esv-2/ --compare esv-1/ --output change.html

    \b
    Exit codes:
      0  the report was written, even if the output is unfinished or has problems; the report then says so
      2  there is no output, no unit is committed yet, or the file cannot be written
    """
    from esv_ray.report.build import report as write_report

    location = write_report(output, out, media=media, compare=other, class_=class_, features=features)
    click.echo(f"written: {location}")
