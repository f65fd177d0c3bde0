"""An attributed video as a file: PNG, SVG, or a page for light and dark screens."""

from __future__ import annotations

import re
from html import escape
from pathlib import PurePosixPath

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.show.chart import check_figures, picture_of, video_chart
from esv_ray.show.html import values_table
from esv_ray.show.media import thumbnails_of
from esv_ray.show.theme import DARK, FONT, LIGHT, Theme
from esv_ray.show.video import AttributedVideo

KINDS = ("png", "svg", "html")
_WIDTH_HEIGHT = re.compile(rb'^(<svg[^>]*?) width="[0-9.]+" height="[0-9.]+"')


def check_picture(url: str) -> str:
    """Return the kind of a file by its suffix, before anything is read.

    Raises:
        SpecError: it is another one, or the libraries of figures are not installed.
    """
    kind = PurePosixPath(url).suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise SpecError(f"out: expected a file that ends in .png, .svg or .html, got {url!r:.200}")
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
    """Return a page that needs nothing else: the figure for light and for dark screens, and its values."""
    light, dark = (_svg(video, pictures, theme) for theme in (LIGHT, DARK))
    title = escape(video.video_id)
    style = f"""
body {{ margin: 0 auto; max-width: 1200px; padding: 16px; font-family: {FONT}; background: {LIGHT.background};
  color: {LIGHT.ink}; }}
svg {{ max-width: 100%; height: auto; }}
.dark {{ display: none; }}
.figure {{ overflow-x: auto; }}
.figure svg {{ min-width: 560px; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }}
th, td {{ text-align: right; padding: 3px 10px; border-bottom: 1px solid {LIGHT.grid}; }}
summary {{ cursor: pointer; margin: 12px 0; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: {DARK.background}; color: {DARK.ink}; }}
  .light {{ display: none; }}
  .dark {{ display: block; }}
  th, td {{ border-color: {DARK.grid}; }}
}}"""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}
</style>
</head>
<body>
<main>
<div class="figure light">{light}</div>
<div class="figure dark">{dark}</div>
<details><summary>Values</summary><div class="figure">{values_table(video)}</div></details>
</main>
</body>
</html>
""".encode()


def _svg(video: AttributedVideo, pictures: list[str | None], theme: Theme) -> str:
    """Return the figure as an inline SVG that fits the page's width."""
    svg = picture_of(video_chart(video, thumbnails=pictures, theme=theme), "svg")
    return _WIDTH_HEIGHT.sub(rb"\1", svg).decode()
