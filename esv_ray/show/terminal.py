"""An attributed video as text: a bar per element."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from math import floor, inf, log10
from typing import NamedTuple

import numpy as np

from esv_ray.show.text import printable, standard_error_note
from esv_ray.show.video import AttributedVideo, FloatArray

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_ASCII = str.maketrans({**dict.fromkeys("▏▎▍", " "), **dict.fromkeys("▌▋▊▉█", "#"), "│": "|", "±": "~"})
_LEAST_BAR, _MOST_BAR = 6, 30  # characters of half a bar
_MOST_NAME = 48
_FEWEST_DIGITS, _MOST_DIGITS = 3, 8


class _Scale(NamedTuple):
    """What all blocks of a video share, so that they can be compared.

    Attributes:
        largest: value that fills half a bar.
        digits: decimals.
        width: characters of a line.
    """

    largest: float
    digits: int
    width: int


def video_lines(video: AttributedVideo, *, width: int | None = None) -> list[str]:
    """Return the lines that describe a video.

    Args:
        video: the video.
        width: characters of a line; None: that of the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    difference = video.difference
    lines = [f"{printable(video.video_id)}: {video.n} elements, {video.outcome}"]
    if video.has_errors:
        lines += textwrap.wrap(standard_error_note("±"), width)
    values = [each.esv for each in video.classes] + ([] if difference is None else [difference])
    largest = max((float(np.abs(each).max(initial=0.0)) for each in values), default=0.0) or 1.0
    stderrs = [each.stderr for each in video.classes] + ([] if difference is None else [video.difference_stderr])
    scale = _Scale(largest, _digits(largest, [each for each in stderrs if each is not None]), width)
    titles = video.short_titles(_MOST_NAME)
    for each in video.classes:
        lines += ["", f"{titles[each.class_id]}{video.roles(each)}", each.equation(video.unit)]
        lines += [*_bars(video, each.esv, each.stderr, scale)]
    if difference is not None:
        predicted = video.of_class(video.predicted)
        assert predicted is not None
        lines += ["", "difference: ESVs of the label minus those of the predicted class"]
        lines += [*_bars(video, difference, video.difference_stderr, scale)]
        worst = video.most_misleading
        assert worst is not None
        lines.append(
            f"most misleading: element {worst} (frame {video.frame_index[worst]}), by "
            f"{-difference[worst]:.3g} in {video.unit}, in favor of {titles[predicted.class_id]}"
        )
    return lines


def encodable(text: str, encoding: str | None) -> str:
    """Return a text with ASCII signs in the place of bars and the like, if an encoding lacks them."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding or "ascii", "replace").decode(encoding or "ascii")
    return text


def _bars(video: AttributedVideo, values: FloatArray, stderr: FloatArray | None, scale: _Scale) -> Iterator[str]:
    """Yield a line per element: element, frame, bar (the largest value fills it), value and standard error."""
    frames = [str(number) for number in video.frame_index.tolist()]
    element, frame = len(str(video.n - 1)), max(len("frame"), *map(len, frames))
    element = max(element, len("element"))
    texts = [f"{value:+.{scale.digits}f}" for value in values.tolist()]
    if stderr is not None:
        texts = [f"{text} ±{error:.{scale.digits}f}" for text, error in zip(texts, stderr.tolist(), strict=True)]
    left = scale.width - element - frame - max(map(len, texts)) - 6
    half = max(_LEAST_BAR, min(_MOST_BAR, left // 2))
    yield f"{'element':>{element}}  {'frame':>{frame}}"
    for place, (value, text) in enumerate(zip(values.tolist(), texts, strict=True)):
        bar = _bar(value / scale.largest, half)
        yield f"{place:>{element}}  {frames[place]:>{frame}}  {bar}  {text}".rstrip()


def _digits(largest: float, stderrs: Sequence[FloatArray]) -> int:
    """Return the decimals that show the largest value with four digits, or the largest standard error with two."""
    least = max(float(each.max(initial=0.0)) for each in stderrs) if stderrs else largest / 100
    if not 0 < least < inf:
        return _FEWEST_DIGITS
    return min(_MOST_DIGITS, max(_FEWEST_DIGITS, 1 - floor(log10(least))))


def _bar(share: float, half: int) -> str:
    """Return a bar of 2 * half + 1 characters with zero in the middle, for a share from -1 to 1."""
    if share < 0:
        filled = round(-share * half)
        return f"{'█' * filled:>{half}}│{'':<{half}}"
    eighths = round(share * half * 8)
    bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return f"{'':>{half}}│{bar:<{half}}"
