"""The interface of the sources of features: entries, one per video, whose frames are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 2**32
"""Most bytes of one video: more than an hour of 2048 numbers at 30 frames per second."""


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a video.

    Attributes:
        features: (T, D), as the source has them; not yet checked.
        label: class id or name, if the source has labels.
        numbers: (T,) the number of each frame in its video, or None.
        times: (T,) seconds of each frame, or None.
    """

    features: npt.NDArray[Any]
    label: int | str | None = None
    numbers: npt.NDArray[np.int64] | None = None
    times: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """A video of a source.

    Attributes:
        video_id: its id.
        path: its name in the source, for labels given by path.
        read: returns the frames; raises `RecordError` if they are damaged.
    """

    video_id: str
    path: str
    read: Callable[[], Frames]


@dataclass(frozen=True, eq=False)
class Source:
    """An open source of features.

    Attributes:
        entries: yields the entries, each time in the same order.
        listed: whether listing the entries is cheap, because it reads no features.
        has_labels: whether the frames have labels.
        labels: yields all labels of the source, where it has some.
        state: changes with the content of the source.
        unmatched: number of files or keys that were left out because of their names.
    """

    entries: Callable[[], Iterator[Entry]]
    listed: bool
    state: str
    has_labels: bool = False
    labels: Callable[[], Iterable[int | str]] = tuple
    unmatched: int = 0
