"""Frames of videos, and requests for frames and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import numpy.typing as npt

from esv_ray.errors import SpecError

MOST_SIDE = 32768
"""Most pixels of a side of an image: of a decoded frame, and of a requested size."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One shown frame.

    Attributes:
        index: its number among all shown frames of the file, in presentation order, from 0.
        time: its presentation time in seconds from the start of the file, as ffmpeg shows it.
        image: (H, W, 3) uint8 RGB, in the orientation in which a player shows it, with square pixels.
    """

    index: int
    time: float
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fps:
    """Request the frame that is shown at each of the times start + k / rate; a frame is given once at most.

    Attributes:
        rate: frames per second.
    """

    rate: float

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0):
            raise SpecError(f"expected a rate above 0 frames per second, got {self.rate}")


@dataclass(frozen=True)
class Evenly:
    """Request min(count, T) of the T shown frames: those with the numbers floor((i + 0.5) * T / count).

    This is the rule by which a job samples elements (`esv_ray.input.frames.sample_frames`).

    Attributes:
        count: number of frames.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SpecError(f"expected at least 1 frame, got {self.count}")


@dataclass(frozen=True)
class Every:
    """Request all shown frames."""


@dataclass(frozen=True)
class Numbered:
    """Request the frames with some numbers (`VideoFrame.index`); numbers that the video does not have give no frame.

    Attributes:
        numbers: each once, ascending; given in any order.
    """

    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = tuple(sorted({int(number) for number in self.numbers}))
        if not numbers or numbers[0] < 0:
            raise SpecError(f"expected numbers of frames from 0, got {self.numbers!r:.100}")
        object.__setattr__(self, "numbers", numbers)


@dataclass(frozen=True)
class At:
    """Request the frame that is shown at each of some times; a frame is given once at most.

    Attributes:
        times: seconds from the start of the file, ascending; given in any order.
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        times = tuple(sorted({float(time) for time in self.times}))
        if not times or not all(isfinite(time) for time in times):
            raise SpecError(f"expected times in seconds, got {self.times!r:.100}")
        object.__setattr__(self, "times", times)


Request = Fps | Evenly | Every | Numbered | At
"""Which frames of a video are wanted."""


Interpolation = Literal["bicubic", "bilinear"]
"""How the pixels of a smaller or larger image are computed; smaller ones are made of all pixels (antialiased)."""


@dataclass(frozen=True)
class Stretch:
    """Resize frames to one size; the aspect ratio may change.

    Attributes:
        height: pixels.
        width: pixels.
        interpolation: between pixels.
    """

    height: int
    width: int
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        _check_sides(self.height, self.width)


@dataclass(frozen=True)
class ShortSide:
    """Resize frames so that their short side has a number of pixels, then cut out the center.

    Attributes:
        pixels: of the short side.
        crop: height and width of the center, each at most `pixels`; None: the whole frame.
        interpolation: between pixels.
    """

    pixels: int
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        _check_sides(self.pixels, *(self.crop or ()))
        if self.crop is not None and max(self.crop) > self.pixels:
            raise SpecError(
                f"expected a center of at most {self.pixels} x {self.pixels} pixels, the short side, got "
                f"{self.crop[0]} x {self.crop[1]}"
            )


Resize = Stretch | ShortSide
"""The size of the images of frames."""
Sizes = Resize | tuple[Resize | None, ...] | None
"""One size of images, or several at once; None: as a player shows the frames."""


def sizes_of(sizes: Sizes) -> tuple[Resize | None, ...]:
    """Return the sizes in which each frame is given.

    Raises:
        SpecError: there are none.
    """
    if sizes == ():
        raise SpecError("expected at least one size of images, got none")
    return sizes if isinstance(sizes, tuple) else (sizes,)


def _check_sides(*sides: int) -> None:
    if not all(1 <= side <= MOST_SIDE for side in sides):
        raise SpecError(f"expected sides of 1 to {MOST_SIDE} pixels, got {' x '.join(map(str, sides))}")
