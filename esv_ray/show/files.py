"""An attributed video as a file: PNG, SVG, or a page for light and dark screens."""

from __future__ import annotations

from pathlib import PurePosixPath

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.show.chart import check_figures, picture_of, video_chart
from esv_ray.show.html import values_table
from esv_ray.show.media import thumbnails_of
from esv_ray.show.page import figure_page
from esv_ray.show.theme import DARK, LIGHT
from esv_ray.show.video import AttributedVideo

KINDS = ("png", "svg", "html")


def check_picture(url: str) -> str:
    """Return the kind of a file by its suffix, before anything is read.

    Raises:
        SpecError: it is another one, or the libraries of figures are not installed.
    """
    kind = PurePosixPath(url).suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise SpecError(f"output: expected a file that ends in .png, .svg or .html, got {url!r:.200}")
    check_figures()
    return kind


def write_picture(video: AttributedVideo, url: str, *, media: str | None = None) -> list[str]:
    """Write a video's figure; an existing file is replaced.

    Args:
        video: the video.
        url: ends in .png, .svg or .html.
        media: folder with pictures of the frames (`media.thumbnails_of`), or None.

    Returns:
        Notes: elements without a picture.

    Raises:
        SpecError: as `check_picture`.
        DataError: the media cannot be read, or the file cannot be written.
    """
    kind = check_picture(url)
    pictures, notes = ([], []) if media is None else thumbnails_of(media, video)
    page = kind == "html"
    data = _page(video, pictures) if page else picture_of(video_chart(video, thumbnails=pictures), kind)
    storage.replace(url, data, "write the picture")
    return notes


def _page(video: AttributedVideo, pictures: list[str | None]) -> bytes:
    """Return a page with the figure and its values."""
    light, dark = (picture_of(video_chart(video, thumbnails=pictures, theme=theme), "svg") for theme in (LIGHT, DARK))
    values = f'<details><summary>Values</summary><div class="figure">{values_table(video)}</div></details>'
    return figure_page(video.video_id, light, dark, values)
