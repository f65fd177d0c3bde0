"""Explained clips as a file: one picture, or a page with a section for each."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from esv_ray import storage
from esv_ray.clips.explaining import ExplainedClip
from esv_ray.errors import SpecError, count_of
from esv_ray.show.chart import picture_of, video_chart
from esv_ray.show.files import check_picture
from esv_ray.show.html import values_table
from esv_ray.show.page import Section, sections_page
from esv_ray.show.theme import DARK, LIGHT


def check_file(url: str, clips: int) -> str:
    """Return the kind of a file by its suffix, before anything is computed.

    Raises:
        SpecError: the suffix is unknown, the file can hold only one clip, or the libraries of figures are not
            installed.
    """
    kind = check_picture(url)
    if kind != "html" and clips > 1:
        raise SpecError(f"output: a .{kind} file shows one clip, got {count_of(clips, 'clip')}; give a .html file")
    return kind


def write_clips(clips: Sequence[ExplainedClip], url: str) -> None:
    """Write clips to a file; an existing one is replaced.

    Args:
        clips: at least one.
        url: ends in .png, .svg or .html.

    Raises:
        SpecError: as `check_file`.
        DataError: the file cannot be written.
    """
    kind = check_file(url, len(clips))
    data = _page(clips) if kind == "html" else picture_of(video_chart(clips[0].video, thumbnails=_urls(clips[0])), kind)
    storage.replace(url, data, "write the picture")


def _page(clips: Sequence[ExplainedClip]) -> bytes:
    names = [clip.video.video_id for clip in clips]
    title = names[0] if len(names) == 1 else f"ESVs of {count_of(len(names), 'clip')}"
    return sections_page(title, [_section(clip) for clip in clips])


def _section(clip: ExplainedClip) -> Section:
    light, dark = (
        picture_of(video_chart(clip.video, thumbnails=_urls(clip), theme=theme), "svg") for theme in (LIGHT, DARK)
    )
    values = f'<details><summary>Values</summary><div class="figure">{values_table(clip.video)}</div></details>'
    return Section(light, dark, values)


def _urls(clip: ExplainedClip) -> list[str]:
    return [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in clip.pictures]
