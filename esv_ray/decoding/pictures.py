"""Images of decoded frames: RGB, square pixels, turned as a player turns them, resized."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from esv_ray.decoding.frames import MOST_SIDE, Resize, Stretch

if TYPE_CHECKING:
    from fractions import Fraction

    import av
    import av.video.reformatter

_MOST_ASPECT = 16  # of a pixel; more is damage
_SLANT = 0.0175  # tangent of 1 degree, within which ffmpeg rounds an angle


class Turn(NamedTuple):
    """How a player turns a frame: rows and columns are swapped first, then the result is mirrored."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False


def turn_of(frame: av.VideoFrame) -> Turn:
    """Return the turn that the display matrix of a frame asks for; only quarter turns and mirrorings are followed.

    The matrix maps a source position (p, q) to (a p + c q, b p + d q), y downwards (libavutil/display.h).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Turn()
    a, b, _, c, d = (int(value) for value in np.frombuffer(cast(bytes, data), dtype="<i4", count=5))
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if straight and max(abs(b), abs(c)) <= _SLANT * straight:
        return Turn(False, a < 0, d < 0)
    if crossed and max(abs(a), abs(d)) <= _SLANT * crossed:
        return Turn(True, c < 0, b < 0)
    return Turn()


class Pictures:
    """Converts the frames of one video; holds the scaler that its frames share."""

    def __init__(self, resize: Resize | None) -> None:
        """Create the converter for a size; None: as a player shows the frames."""
        from av.video.reformatter import VideoReformatter

        self._resize = resize
        self._scaler: av.video.reformatter.VideoReformatter = VideoReformatter()

    def image(self, frame: av.VideoFrame, aspect: Fraction | None) -> npt.NDArray[np.uint8]:
        """Return the (H, W, 3) image of a frame, given the width of its pixels divided by their height."""
        turn = turn_of(frame)
        height, width = shown_size(frame, aspect, Turn())
        crop: tuple[int, int] | None = None
        if isinstance(self._resize, Stretch):
            height, width = self._resize.height, self._resize.width
            if turn.transposed:
                height, width = width, height
        elif self._resize is not None:
            short = self._resize.pixels
            scale = min(height, width)
            height, width = (max(1, (side * short + scale // 2) // scale) for side in (height, width))
            crop = self._resize.crop
        scaled = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        image = scaled.to_ndarray()
        if turn.transposed:
            image = image.transpose(1, 0, 2)
        if turn.left_right:
            image = image[:, ::-1]
        if turn.top_bottom:
            image = image[::-1]
        if crop is not None:
            top, left = (image.shape[0] - crop[0]) // 2, (image.shape[1] - crop[1]) // 2
            image = image[top : top + crop[0], left : left + crop[1]]
        return np.ascontiguousarray(image)


def shown_size(frame: av.VideoFrame, aspect: Fraction | None, turn: Turn) -> tuple[int, int]:
    """Return height and width of a frame as a player shows it."""
    height, width = frame.height, frame.width
    if aspect is not None and aspect != 1 and 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        width = min(MOST_SIDE, max(1, round(width * aspect)))
    return (width, height) if turn.transposed else (height, width)
