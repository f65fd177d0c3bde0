"""Counts of what an import does not write, by reason, with the names of the first few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esv_ray.input.sources.records import RecordError

_NAMED = 5
_LONGEST = 120  # characters of a name


class Counts:
    """Numbers of videos, segments or labels by reason."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        """Start at nothing, or at what `stored` returned."""
        self._numbers: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        for reason, (number, names) in (stored or {}).items():
            self._numbers[str(reason)], self._names[str(reason)] = int(number), [str(name) for name in names]

    def add(self, error: RecordError, name: str, number: int = 1) -> None:
        """Count a fault of the video, segment or label with a name."""
        self._numbers[error.reason] = self._numbers.get(error.reason, 0) + number
        names = self._names.setdefault(error.reason, [])
        if len(names) < _NAMED:
            shown = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
            text = f"{shown} ({error.detail})" if error.detail else shown
            names.append(text.encode(errors="backslashreplace").decode())  # names of files may be no UTF-8

    @property
    def total(self) -> int:
        """Return the number of all together."""
        return sum(self._numbers.values())

    def stored(self) -> dict[str, Any]:
        """Return the counts as JSON stores them."""
        return {reason: [number, self._names[reason]] for reason, number in self._numbers.items()}

    def rows(self) -> list[tuple[str, int, str]]:
        """Return (reason, number, names of the first few), the most frequent reason first."""
        most = sorted(self._numbers.items(), key=lambda item: (-item[1], item[0]))
        return [
            (reason, number, ", ".join(self._names[reason]) + ", ..." * (number > len(self._names[reason])))
            for reason, number in most
        ]

    def text(self) -> str:
        """Return one line about all of them."""
        return "; ".join(f"{number}: {reason}: {names}" for reason, number, names in self.rows())


def joined(*counts: Counts) -> Counts:
    """Return the sum of counts."""
    numbers: dict[str, list[Any]] = {}
    for each in counts:
        for reason, (number, names) in each.stored().items():
            earlier, first = numbers.get(reason, [0, []])
            numbers[reason] = [earlier + number, [*first, *names][:_NAMED]]
    return Counts(numbers)
