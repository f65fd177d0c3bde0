"""Units of an extraction: ranges of its videos, which are sorted by id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from esv_ray.errors import DataError
from esv_ray.extraction.videos.clip import Clip

_UNITS = 64  # of many videos, so that several actors share the work evenly
_FEWEST, _MOST = 4, 64  # videos of a unit
_MOST_UNITS = 1_000_000


@dataclass(frozen=True)
class VideoUnit:
    """The piece of work that is computed and committed whole.

    Attributes:
        index: number of the unit in the plan.
        start: number of its first video.
        clips: its videos.
        input: checksum of all videos of the plan.
    """

    index: int
    start: int
    clips: tuple[Clip, ...]
    input: str

    @property
    def rows(self) -> int:
        """Number of videos."""
        return len(self.clips)

    @property
    def source(self) -> str:
        """The videos of the plan, which have no order of reading."""
        return self.input

    @property
    def group(self) -> int:
        """Nothing is read together but the unit itself."""
        return self.index

    @property
    def covers(self) -> tuple[int, ...]:
        """The videos that it covers: index, number of the first, number after the last."""
        return self.index, self.start, self.start + len(self.clips)

    @property
    def name(self) -> str:
        """Name of its files in the output: its number, and a hash of what it covers."""
        content = repr((self.input, self.start, len(self.clips)))
        return f"part-{self.index:06d}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"


def videos_of_unit(videos: int, unit: int | Literal["auto"]) -> int:
    """Return the number of videos of a unit.

    Raises:
        DataError: there would be too many units.
    """
    size = min(_MOST, max(_FEWEST, -(-videos // _UNITS))) if unit == "auto" else unit
    if -(-videos // size) > _MOST_UNITS:
        raise DataError(f"videos: expected at most {_MOST_UNITS} units, got more; set compute.unit higher")
    return size


def units_of(clips: Sequence[Clip], checksum: str, size: int) -> tuple[VideoUnit, ...]:
    """Divide videos into units of a size."""
    return tuple(
        VideoUnit(index, start, tuple(clips[start : start + size]), checksum)
        for index, start in enumerate(range(0, len(clips), size))
    )
