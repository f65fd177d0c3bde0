"""esv dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import class_option
from esv_ray.cli.types import LOCATION, NAME, Count

if TYPE_CHECKING:
    from esv_ray.analysis.analyzed import ClassName

_PORTS = 65_535


@click.command(short_help="Explore an output in a browser: find videos, and see what led to their scores.")
@click.argument("output", type=LOCATION)
@click.option(
    "--media",
    type=LOCATION,
    metavar="URL",
    help="Source of the frames: videos (which pages also play), pictures, or a table of esv extract --thumbnails.",
)
@click.option(
    "--compare",
    "other",
    type=LOCATION,
    metavar="OUTPUT_B",
    help="A second output, whose ESVs of a video are shown beside those of OUTPUT.",
)
@class_option
@click.option("--host", type=NAME, default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=Count(min=0, max=_PORTS), default=8050, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--token",
    type=NAME,
    envvar="ESV_DASHBOARD_TOKEN",
    show_envvar=True,
    help="Secret of 16 or more characters that each visitor needs. Required with a --host that other machines reach.",
)
def dashboard(
    output: str,
    media: str | None,
    other: str | None,
    class_: ClassName | None,
    host: str,
    port: int,
    token: str | None,
) -> None:
    """Serve pages about an OUTPUT to a browser, until Ctrl-C.

    Find videos by id, class, outcome and scores; see the ESVs of a video for any class that is kept. The output may be
    unfinished: units that are committed later are added. Nothing is written.

    Only this machine can open the pages. From another one, forward the port (ssh -L 8050:localhost:8050 MACHINE), or
    listen on another address with --host and --token.

    Requires: pip install 'esv-ray[dashboard]'.

    \b
    Examples:
      esv dashboard esv/
      esv dashboard s3://bucket/esv --media s3://bucket/frames
      esv dashboard esv-2/ --compare esv-1/ --port 0

    \b
    Exit codes:
      2    there is no output, no unit is committed yet, or the address is not free
      130  stopped with Ctrl-C, the normal way to end it
    """
    from esv_ray.dashboard.serve import serve

    serve(output, media=media, compare=other, class_=class_, host=host, port=port, token=token, announce=click.echo)
