"""The request for an import of features: its options, and which of them each format has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from esv_ray.errors import SpecError

Format = Literal["numpy", "hdf5", "lmdb", "tar", "rows", "play-fair"]
Layout = Literal["TD", "DT"]
MAX_SKIPPED = 0.01
"""Largest share of videos, segments and labels that may be left out by default; as `max_failed` of a job."""

_OF_FORMATS: Mapping[str, tuple[Format, ...]] = {
    "layout": ("numpy", "hdf5", "tar"),
    "match": ("numpy", "hdf5", "lmdb", "tar"),
    "key": ("numpy", "hdf5", "tar"),
    "frames_key": ("hdf5",),
    "id": ("rows",),
    "order": ("rows",),
    "features": ("rows",),
}


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how.

    Attributes:
        format: of the source.
        source: location of a file, a folder or a glob.
        out: folder of the table.
        labels: CSV of the labels, or None.
        classes: CSV of the class names, or None.
        segments: CSV of the segments, or None.
        keep_unlabelled: whether to write videos without a label.
        split: rows of the CSVs to keep; of play-fair the group.
        layout: of the arrays.
        match: regular expression that picks videos and names ids.
        key: name of the array in a file or group.
        frames_key: name of the frame numbers in a group.
        id, order, features: columns of a table with one row per frame.
        fps, stride, window: where the rows of the features lie in their videos (`segments.timing_of`).
        dtype: type of the features in the table; None: that of the first video.
        max_skipped: largest share of videos, segments and labels that may be left out.
    """

    format: Format
    source: str
    out: str
    labels: str | None = None
    classes: str | None = None
    segments: str | None = None
    keep_unlabelled: bool = False
    split: str | None = None
    layout: Layout = "TD"
    match: str | None = None
    key: str | None = None
    frames_key: str | None = None
    id: str | None = None
    order: str | None = None
    features: str | None = None
    fps: float | None = None
    stride: float | None = None
    window: float | None = None
    dtype: str | None = None
    max_skipped: float = MAX_SKIPPED

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            SpecError: one of them has no effect, is missing, or is out of range.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name, formats in _OF_FORMATS.items():
            if getattr(self, name) != defaults[name] and self.format not in formats:
                raise SpecError(f"{_option(name)} has no effect on --from {self.format}, only on {', '.join(formats)}")
        missing = [_option(name) for name in ("id", "features") if getattr(self, name) is None]
        if self.format == "rows" and missing:
            raise SpecError(f"--from rows needs the names of columns: {' and '.join(missing)}")
        timed = [_option(name) for name in ("stride", "window") if getattr(self, name) is not None]
        if timed and self.format == "lmdb":
            raise SpecError(f"{timed[0]} has no effect on --from lmdb, whose keys number the frames")
        if timed and self.frames_key is not None:
            raise SpecError(f"--frames-key gives the frame numbers, and so does {timed[0]}; leave one out")
        if self.fps is not None and self.segments is None and not timed:
            raise SpecError("--fps has no effect alone; give --segments in seconds, or --stride or --window")
        if self.split is not None and self.format != "play-fair" and not (self.labels or self.segments):
            raise SpecError("--split selects rows of --labels or --segments, and neither is given")
        for name in ("fps", "stride", "window"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1e9:
                raise SpecError(f"{_option(name)}: expected a number above 0, got {value}")
        if not 0 <= self.max_skipped <= 1:
            raise SpecError(f"--max-skipped: expected a share from 0 to 1, got {self.max_skipped}")

    def has(self, option: str) -> bool:
        """Return whether the format has an option, a name of a field."""
        return self.format in _OF_FORMATS.get(option, (self.format,))

    def identity(self) -> dict[str, str]:
        """Return the options that decide the content of the table, by name, but for those that are locations."""
        ignored = {"out", "max_skipped", "source", "labels", "classes", "segments"}
        return {
            _option(field.name): str(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ignored and getattr(self, field.name) != field.default
        }


def _option(name: str) -> str:
    return {"format": "--from", "source": "SOURCE"}.get(name, "--" + name.replace("_", "-"))
