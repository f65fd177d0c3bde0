"""Progress and result of an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from esv_ray.input.faults import Counts


@dataclass(frozen=True)
class ImportProgress:
    """How far an import has come.

    Attributes:
        done: number of videos of the source that were read or left out.
        total: number of videos of the source, if it is known.
        rows: number of rows written.
    """

    done: int
    total: int | None
    rows: int


@dataclass(frozen=True)
class ImportResult:
    """What an import wrote.

    Attributes:
        rows: number of rows of the table: videos, or segments.
        frames: number of frames in all rows.
        dim: D.
        dtype: of the features.
        files: number of files.
        classes: number of classes in classes.csv; 0: there is none.
        skipped: what was not written.
        notes: what else is worth knowing.
        was_complete: whether an earlier run had written the table.
    """

    rows: int
    frames: int
    dim: int
    dtype: str
    files: int
    classes: int
    skipped: Counts
    notes: tuple[str, ...]
    was_complete: bool = False

    def stored(self) -> dict[str, Any]:
        """Return the result as JSON stores it."""
        return {
            "rows": self.rows,
            "frames": self.frames,
            "dim": self.dim,
            "dtype": self.dtype,
            "files": self.files,
            "classes": self.classes,
            "skipped": self.skipped.stored(),
            "notes": list(self.notes),
        }


@dataclass
class Extent:
    """How far the table has come; the footer of each file holds the one after it.

    Attributes:
        entries: number of entries that were read.
        part: number of rows of the last of them that are done, if some are left; else 0.
        rows, frames: number of those that were written.
        first: name of the first video that was written.
        skipped: what was left out.
        clipped: segments that were cut to their videos.
    """

    entries: int = 0
    part: int = 0
    rows: int = 0
    frames: int = 0
    first: str = ""
    skipped: Counts = field(default_factory=Counts)
    clipped: Counts = field(default_factory=Counts)

    def stored(self) -> dict[str, Any]:
        """Return it as JSON stores it."""
        values = {
            "entries": self.entries,
            "part": self.part,
            "rows": self.rows,
            "frames": self.frames,
            "first": self.first,
        }
        return values | {"skipped": self.skipped.stored(), "clipped": self.clipped.stored()}


def earlier_result(record: Mapping[str, Any]) -> ImportResult:
    """Return the result of an import that is complete."""
    result = record["result"]
    return ImportResult(
        **{name: int(result[name]) for name in ("rows", "frames", "dim", "files", "classes")},
        dtype=str(result["dtype"]),
        skipped=Counts(result["skipped"]),
        notes=tuple(str(note) for note in result["notes"]),
        was_complete=True,
    )
