"""The command `esv show`."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import output_option
from esv_ray.cli.types import LOCATION, NAME, Count
from esv_ray.errors import DataError, count_of

if TYPE_CHECKING:
    from esv_ray.show.video import AttributedVideo

_MISSING = 5  # frames without a picture that are named
_LISTED = 10  # videos of each outcome


@click.command(short_help="Show the ESVs of one video, in the terminal or as a picture.")
@click.argument("output", type=LOCATION)
@click.argument("video_id", type=NAME, required=False)
@click.option(
    "--class",
    "classes",
    type=NAME,
    multiple=True,
    metavar="CLASS",
    help="Class to show: label, predicted, an id or a name (default: label and predicted). Repeatable.",
)
@click.option(
    "--elements",
    type=Count(min=1),
    help="Number of elements, if the output has several lengths (default: the longest).",
)
@output_option(
    "Write a picture (.png, .svg) or a page (.html) instead of printing. Requires: pip install 'esv-ray[figures]'.",
    into="out",
)
@click.option(
    "--media",
    type=LOCATION,
    metavar="URL",
    help="Pictures, videos or a table of esv extract --thumbnails, for thumbnails in --output.",
)
def show(
    output: str,
    video_id: str | None,
    classes: tuple[str, ...],
    elements: int | None,
    out: str | None,
    media: str | None,
) -> None:
    """Show how much each element of a video contributed to its class scores.

    Without VIDEO_ID, list the first videos of OUTPUT that are misclassified, and the first that are classified
    correctly.

    With --output, thumbnails of the frames appear below the bars if --media gives pictures (VIDEO_ID/NUMBER.jpg), the
    videos themselves (VIDEO_ID.mp4, or a list as for esv extract) or a table of esv extract --thumbnails. Without
    --media, those of the feature table are used, if it has any.

    Each bar is the ESV of an element: to the right it supports the class, to the left it distracts from it. A video
    that is misclassified also shows the difference: ESVs of the label minus those of the predicted class.

    \b
    Examples:
      esv show esv/
      esv show esv/ video_0012
      esv show esv/ video_0012 --class "Dropping something" --output video.png
      esv show s3://bucket/esv clips/0012 --output video.html --media s3://bucket/frames
      esv show esv/ clips/0012 --output video.html --media videos/
    """
    from esv_ray.show.read import read_video
    from esv_ray.show.terminal import encodable, video_lines
    from esv_ray.storage import absolute

    if video_id is None:
        if classes or elements or out or media:
            raise click.UsageError("these options are for one video: give a VIDEO_ID; esv show OUTPUT lists some")
        _list(absolute(output))
        return
    if out is None and media is not None:
        raise click.UsageError("--media adds thumbnails to a picture or a page: give --output too")
    if out is not None:
        from esv_ray.show.files import check_picture

        check_picture(out)
    location = absolute(output)
    video = read_video(location, video_id, n_elements=elements, classes=classes)
    if out is None:
        click.echo(encodable("\n".join(video_lines(video)), sys.stdout.encoding))
        return
    from esv_ray.show.files import write_picture

    pictures = _pictures(media, location, video)
    missing = [int(frame) for frame, picture in zip(video.frame_index, pictures, strict=False) if picture is None]
    if missing:
        click.echo(f"no picture of {count_of(len(missing), 'frame')}: {missing[:_MISSING]}")
    write_picture(video, out, pictures=pictures)
    click.echo(f"written: {out}")


def _pictures(media: str | None, output: str, video: AttributedVideo) -> list[bytes | None]:
    """Return the pictures of a video's elements; none if there are no media.

    Raises:
        DataError: the media that the user gives have none of this video.
    """
    from esv_ray.media import open_media

    found = open_media(media, output)
    if found is None:
        return []
    with closing(found):
        try:
            return found.pictures(video.video_id, video.frame_index.tolist())
        except DataError as error:
            if media is not None:
                raise
            click.echo(f"no thumbnails: {error}")
            return []


def _list(output: str) -> None:
    """Print some videos to look at."""
    from esv_ray.show.listing import list_videos, listing_lines
    from esv_ray.show.terminal import encodable
    from esv_ray.show.text import printable

    listing = list_videos(output, _LISTED)
    lines = list(listing_lines(listing))
    if not lines:
        raise DataError(f"{output}: no video has ESVs; esv status and the table videos say why")
    click.echo(encodable("\n".join(lines), sys.stdout.encoding))
    first = (listing.wrong + listing.right + listing.unlabelled)[0].video_id
    click.echo(f"to see one of them: esv show {shlex.quote(printable(output))} {shlex.quote(printable(first))}")
