"""Elements of a video from its frames: single frames, or clips of several; in batches of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.decoding import VideoFrame
from esv_ray.extraction.backbones.backbone import Images

_SAME = 0.999
"""Cosine above which an element nearly equals the one before."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive elements of a video.

    A batch holds elements of one video only, and its place in the video fixes its size. So no feature depends on other
    videos, on their order, or on the actor: a batch of another size may round differently.

    Attributes:
        images: (N, H, W, 3), or (N, k, H, W, 3) for clips of k frames.
        index: (N,) number of each element's frame in the file, of a clip its middle one.
        time: (N,) seconds of these frames.
    """

    images: Images
    index: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]

    @property
    def shown(self) -> Images:
        """(N, H, W, 3): the frame that stands for each element."""
        return self.images if self.images.ndim == 4 else self.images[:, self.images.shape[1] // 2]


class Batches:
    """Collects the frames of a video, in order, into batches of elements."""

    def __init__(self, *, clip: int, stride: int, size: int) -> None:
        """Start a video.

        Args:
            clip: k, frames of an element; 1: an element is a frame.
            stride: frames from the start of an element to the start of the next.
            size: frames of a batch; of clips at least one is in it.
        """
        self._clip, self._stride, self._most = clip, stride, max(1, size // clip)
        self._window: list[VideoFrame] = []
        self._elements: list[list[VideoFrame]] = []
        self._frames = 0

    def add(self, frame: VideoFrame) -> Batch | None:
        """Take the next frame; return a batch if it is full."""
        self._window.append(frame)
        del self._window[: -self._clip]
        self._frames += 1
        first = self._frames - self._clip
        if first >= 0 and first % self._stride == 0:
            self._elements.append(list(self._window))
        return self.rest() if len(self._elements) == self._most else None

    def rest(self) -> Batch | None:
        """Return the elements that are in no batch yet; None if there are none."""
        elements, self._elements = self._elements, []
        return _batch(elements) if elements else None


def _batch(elements: list[list[VideoFrame]]) -> Batch:
    middle = [element[len(element) // 2] for element in elements]
    images = np.stack([frame.image for element in elements for frame in element])
    clip = len(elements[0])
    return Batch(
        images if clip == 1 else images.reshape(len(elements), clip, *images.shape[1:]),
        np.array([frame.index for frame in middle], np.int64),
        np.array([frame.time for frame in middle], np.float64),
    )


def nearly_repeated(features: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (T,) whether each of (T, D) features nearly equals the one before: a cosine over 0.999, or both are 0."""
    repeated = np.zeros(len(features), dtype=bool)
    norms = np.array([np.linalg.norm(feature.astype(np.float64)) for feature in features])
    for place in range(1, len(features)):
        product = norms[place - 1] * norms[place]
        if not product:
            repeated[place] = norms[place - 1] == norms[place]
            continue
        inner = float(features[place - 1].astype(np.float64) @ features[place].astype(np.float64))
        repeated[place] = inner > _SAME * product
    return repeated
