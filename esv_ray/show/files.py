"""An attributed video as a file: PNG, SVG, or a page for light and dark screens."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import PurePosixPath

from esv_ray import storage
from esv_ray.errors import DataError, SpecError
from esv_ray.show.chart import check_figures, picture_of, video_chart
from esv_ray.show.html import values_table
from esv_ray.show.page import figure_page
from esv_ray.show.theme import DARK, LIGHT
from esv_ray.show.video import AttributedVideo

KINDS = ("png", "svg", "html")
_STARTS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/webp": b"RIFF"}


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


def write_picture(video: AttributedVideo, url: str, *, pictures: Sequence[bytes | None] = ()) -> None:
    """Write a video's figure; an existing file is replaced.

    Args:
        video: the video.
        url: ends in .png, .svg or .html.
        pictures: JPEG, PNG or WebP file of each element's frame, or None; none at all: no row of pictures.

    Raises:
        SpecError: as `check_picture`.
        DataError: a picture is none, or the file cannot be written.
    """
    kind = check_picture(url)
    urls = [
        None if picture is None else _data_url(picture, int(frame))
        for picture, frame in zip(pictures, video.frame_index, strict=bool(pictures))
    ]
    data = _page(video, urls) if kind == "html" else picture_of(video_chart(video, thumbnails=urls), kind)
    storage.replace(url, data, "write the picture")


def _data_url(picture: bytes, frame: int) -> str:
    """Return a picture as a data URL.

    Raises:
        DataError: it is of another kind.
    """
    for kind, start in _STARTS.items():
        if picture.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(picture).decode()}"
    got = f"bytes that begin with {picture[:8].hex(' ')}" if picture else "nothing that can be read"
    raise DataError(f"picture of frame {frame}: expected a JPEG, PNG or WebP file, got {got}; check --media")


def _page(video: AttributedVideo, pictures: Sequence[str | None]) -> bytes:
    """Return a page with the figure and its values."""
    light, dark = (picture_of(video_chart(video, thumbnails=pictures, theme=theme), "svg") for theme in (LIGHT, DARK))
    values = f'<details><summary>Values</summary><div class="figure">{values_table(video)}</div></details>'
    return figure_page(video.video_id, light, dark, values)
