"""Drawings of videos: bars and waterfalls as small SVGs, whose colors and type are in the page's style.

Positions across are in percent, so that one drawing fits every screen without smaller text.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from esv_ray.show.geometry import Box, Scale, bars, levels, scale_of, waterfall
from esv_ray.show.text import printable
from esv_ray.show.video import AttributedVideo, ClassEsvs, FloatArray

HEIGHT = 104
"""Pixels between the lowest and the highest value of a plot."""
_TOP, _BOTTOM = 8, 20  # pixels above and below the plot; the frame numbers stand below
_WIDE, _NARROW = 640, 270  # pixels of the least wide plot on a page and on a phone
_CHARACTER, _GAP = 6.4, 8  # pixels of a digit, and between frame numbers
_APART = 13  # pixels between two lines of text


def esv_scale(videos: Sequence[AttributedVideo]) -> Scale:
    """Return the scale that bars of some videos share, with their standard errors."""
    ends: list[FloatArray] = []
    for each in (each for video in videos for each in shown_classes(video)):
        error = 0.0 if each.stderr is None else each.stderr
        ends += [each.esv, each.esv - error, each.esv + error]
    return scale_of(ends, HEIGHT)


def shown_classes(video: AttributedVideo) -> list[ClassEsvs]:
    """Return the ESVs for the label and for the predicted class, as far as they are kept; each class once."""
    wanted = [class_id for class_id in (video.label, video.predicted) if class_id is not None]
    found = [video.of_class(class_id) for class_id in dict.fromkeys(wanted)]
    return [each for each in found if each is not None] or list(video.classes[:1])


def bars_svg(video: AttributedVideo, each: ClassEsvs, scale: Scale, alt: str, *, half: bool = False) -> str:
    """Return a bar per element, with the band of its standard error and frame numbers.

    Args:
        video: the video.
        each: ESVs to draw.
        scale: of the values.
        alt: description, plain text.
        half: whether it has half of a page's width.
    """
    step = 100 / max(1, video.n)
    parts = [_axis(scale), _boxes(bars(each.esv, scale), step)]
    if each.stderr is not None:
        pairs = zip(each.esv.tolist(), each.stderr.tolist(), strict=True)
        for place, (value, error) in enumerate(pairs):
            if not abs(value) + error < float("inf"):
                continue
            top = scale.y(value + error)
            height = max(1.0, scale.y(value - error) - top)
            parts.append(_rect("e", (place + 0.28) * step, top, 0.44 * step, height))
    zero = scale.y(0.0)
    parts.append(f'<line class="z" x2="100%" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    parts.append(_frames(video, half))
    return _svg("bars", alt, parts)


def waterfall_svg(video: AttributedVideo, each: ClassEsvs, alt: str, *, half: bool = False) -> str:
    """Return the way from the prior to the score: a bar per element, in time order.

    Args:
        video: the video.
        each: ESVs to draw.
        alt: description, plain text.
        half: whether it has half of a page's width.
    """
    steps = levels(each.prior, each.esv)
    scale = scale_of([steps, [each.score]], HEIGHT, zero=False)
    step = 100 / max(1, video.n)
    parts = [_axis(scale), _boxes(waterfall(steps, scale), step)]
    for place, level in enumerate(steps[1:-1]):
        at = f"{scale.y(level):.1f}"
        parts.append(
            f'<line class="k" x1="{(place + 0.9) * step:.4g}%" x2="{(place + 1.1) * step:.4g}%" y1="{at}" y2="{at}"/>'
        )
    ends = {"prior": scale.y(each.prior), "score": scale.y(each.score)}
    for name, y in ends.items():
        parts.append(f'<line class="{name}" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
    for name, y in _moved_apart(ends).items():
        parts.append(f'<text class="{name}" x="100%" dx="5" y="{y + 4:.1f}">{name}</text>')
    parts.append(_frames(video, half))
    return _svg("waterfall", alt, parts)


def _svg(kind: str, alt: str, parts: Sequence[str]) -> str:
    height = HEIGHT + _TOP + _BOTTOM
    return (
        f'<svg class="plot {kind}" role="img" aria-label="{escape(printable(alt))}" width="100%" height="{height}">'
        f'<g transform="translate(0 {_TOP})"><rect class="at" y="{-_TOP}" height="{height}"/>{"".join(parts)}</g></svg>'
    )


def _boxes(boxes: Sequence[Box], step: float) -> str:
    share = 0.8 if len(boxes) <= 100 else 1.0
    return "".join(
        _rect("s" if box.supports else "d", (place + (1 - share) / 2) * step, box.y, share * step, box.height)
        for place, box in enumerate(boxes)
    )


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.4g}%" y="{y:.1f}" width="{width:.3g}%" height="{height:.1f}"/>'


def _axis(scale: Scale) -> str:
    """Return lines behind the marks, and their values on the left."""
    return "".join(
        f'<line class="g" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/><text class="t" x="-6" y="{y + 4:.1f}">{value:g}</text>'
        for value in scale.ticks()
        for y in (scale.y(value),)
    ).replace(">-", ">\N{MINUS SIGN}")


def _frames(video: AttributedVideo, half: bool) -> str:
    """Return the numbers of frames, as many as fit; those that do not fit on a phone have the class `w`."""
    numbers = [str(number) for number in video.frame_index.tolist()]
    room = _CHARACTER * max(map(len, numbers), default=1) + _GAP
    every = max(1, ceil(video.n * room / _WIDE))
    few = every * max(1, ceil(ceil(video.n * room / _NARROW) / every))
    step = 100 / max(1, video.n)
    return "".join(
        f'<text class="f{"" if place % few == 0 else " w"}" x="{(place + 0.5) * step:.4g}%" '
        f'y="{HEIGHT + _BOTTOM - 5}">{numbers[place]}</text>'
        for place in range(0, video.n, few if half else every)
    )


def _moved_apart(ends: dict[str, float]) -> dict[str, float]:
    """Return the heights of two texts, not over each other."""
    (upper, top), (lower, bottom) = sorted(ends.items(), key=lambda end: end[1])
    missing = max(0.0, _APART - (bottom - top)) / 2
    return {upper: top - missing, lower: bottom + missing}
