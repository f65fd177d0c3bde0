"""Images of decoded frames: RGB, square pixels, turned as a player turns them, resized."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from esv_ray.decoding.frames import MOST_SIDE, Resize, Stretch
from esv_ray.errors import DataError, short_text

if TYPE_CHECKING:
    from fractions import Fraction

    import av
    from av.video.reformatter import VideoReformatter

    from esv_ray.decoding.selection import Shown

Image = npt.NDArray[np.uint8]
"""(H, W, 3)."""
Pictures = tuple[Image, ...]
"""A frame in each of the sizes that are asked for."""

_MOST_ASPECT = 16  # of a pixel; more is damage
_SLANT = 0.0175  # tangent of 1 degree, within which ffmpeg rounds an angle


class Turn(NamedTuple):
    """How a player turns a frame: rows and columns are swapped first, then the result is mirrored."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False


class Decoded(NamedTuple):
    """A decoded frame.

    Attributes:
        frame: as the decoder gives it.
        aspect: width of its pixels divided by their height; None: not stated.
        turn: how a player turns it; None: by a part of a quarter, which is not followed.
    """

    frame: av.VideoFrame
    aspect: Fraction | None
    turn: Turn | None


def turn_of(frame: av.VideoFrame) -> Turn | None:
    """Return the turn that the display matrix of a frame asks for; None if that is no quarter turn or mirroring.

    Ask seldom: a frame and its side data hold each other, so that the frame is freed only by a garbage collection.

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
    return None


class Images:
    """Converts the frames of one video; holds the scalers that its frames share."""

    def __init__(self, source: str, sizes: tuple[Resize | None, ...]) -> None:
        """Create the converter.

        Args:
            source: name of the video, for errors.
            sizes: of the images; None: as a player shows the frames.
        """
        from av.video.reformatter import Interpolation, VideoReformatter

        self._source, self._sizes = source, sizes
        self._scalers = [VideoReformatter() for _ in sizes]  # a scaler is set up for one size at a time
        self._plain = Interpolation.BICUBIC
        fine = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        self._fine = {"bicubic": Interpolation.BICUBIC | fine, "bilinear": Interpolation.BILINEAR | fine}

    def of(self, shown: Shown, decoded: Decoded) -> Pictures:
        """Return the (H, W, 3) image of a frame in each size.

        Raises:
            DataError: it cannot be converted.
        """
        import av

        try:
            pairs = zip(self._sizes, self._scalers, strict=True)
            return tuple(self._converted(decoded, size, scaler) for size, scaler in pairs)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            frame = decoded.frame
            raise DataError(
                f"{self._source}, frame {shown.index}: cannot convert {frame.width} x {frame.height} pixels of "
                f"{frame.format.name} to RGB: {short_text(error)}"
            ) from error

    def bytes_of(self, size: tuple[int, int]) -> int:
        """Return the bytes of the images of a frame, given height and width of coded frames."""
        return sum(3 * height * width for height, width in (_size_of(each, size) for each in self._sizes))

    def _converted(self, decoded: Decoded, resize: Resize | None, scaler: VideoReformatter) -> Image:
        turn = decoded.turn or Turn()
        height, width = shown_size(decoded, Turn())
        crop: tuple[int, int] | None = None
        if isinstance(resize, Stretch):
            height, width = resize.height, resize.width
            if turn.transposed:
                height, width = width, height
        elif resize is not None:
            least, short = min(height, width), resize.pixels
            height, width = (min(MOST_SIDE, (side * short + least // 2) // least) for side in (height, width))
            crop = resize.crop
        frame = decoded.frame
        is_scaled = (height, width) != (frame.height, frame.width)
        how = self._fine["bicubic" if resize is None else resize.interpolation] if is_scaled else self._plain
        image = scaler.reformat(frame, width, height, "rgb24", interpolation=how, threads=1).to_ndarray()
        if turn.transposed:
            image = image.transpose(1, 0, 2)
        if turn.left_right:
            image = image[:, ::-1]
        if turn.top_bottom:
            image = image[::-1]
        if crop is not None:
            top, left = (image.shape[0] - crop[0]) // 2, (image.shape[1] - crop[1]) // 2
            image = image[top : top + crop[0], left : left + crop[1]]
        return cast(Image, np.ascontiguousarray(image))


def _size_of(resize: Resize | None, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of an image, given those of coded frames."""
    if isinstance(resize, Stretch):
        return resize.height, resize.width
    if resize is None:
        return size
    return resize.crop or (resize.pixels, resize.pixels * max(1, max(size) // max(1, min(size)) + 1))


def shown_size(decoded: Decoded, turn: Turn) -> tuple[int, int]:
    """Return height and width of a frame with square pixels, turned."""
    height, width, aspect = decoded.frame.height, decoded.frame.width, decoded.aspect
    if aspect is not None and aspect != 1 and 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        width = min(MOST_SIDE, max(1, round(width * aspect)))
    return (width, height) if turn.transposed else (height, width)
