"""Faults of inputs, all reported at once: counted by reason, with an example of each and the names of the first few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from esv_ray.errors import EsvError

_NAMED = 10
_DETAILED = 5  # of the named ones
_LONGEST = 120  # characters of a name


class RecordError(Exception):
    """A fault of a video, a segment, a label or a line; the reading continues with the next one.

    Attributes:
        reason: the same text for all that have this fault.
        detail: about this one, may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Counts:
    """Numbers of videos, segments, labels or lines by reason."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        """Start at nothing, or at what `stored` returned."""
        self._numbers: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        for reason, (number, names) in (stored or {}).items():
            self._numbers[str(reason)], self._names[str(reason)] = int(number), [str(name) for name in names]

    def add(self, error: RecordError, name: str, number: int = 1) -> None:
        """Count a fault of the video, segment, label or line with a name; the first few of a reason are kept."""
        self._numbers[error.reason] = self._numbers.get(error.reason, 0) + number
        names = self._names.setdefault(error.reason, [])
        if len(names) < _NAMED:
            shown = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
            text = f"{shown} ({error.detail})" if error.detail and len(names) < _DETAILED else shown
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


class Lines:
    """Faults of the lines of a file, which is read to its end before they are reported."""

    def __init__(self, noun: str = "line") -> None:
        """Start without faults; `noun` is what a line is."""
        self._noun = noun
        self._examples: dict[str, str] = {}  # by reason: the first fault
        self._others: dict[str, list[str]] = {}

    @contextmanager
    def at(self, name: object) -> Iterator[None]:
        """Keep a `RecordError` that is raised inside as a fault of a line, given by its number or its place."""
        try:
            yield
        except RecordError as error:
            detail = f", {error.detail}" if error.detail.startswith("got ") else f": {error.detail}"
            text = f"{self._noun} {name}: {error.reason}{detail if error.detail else ''}".strip()
            if self._examples.setdefault(error.reason, text) != text:
                self._others.setdefault(error.reason, []).append(str(name))

    def text(self) -> str:
        """Return one line about all faults: the first one of each reason, and where else; empty if there are none."""
        texts = []
        for reason, example in [*self._examples.items()][:_NAMED]:
            others = self._others.get(reason)
            texts.append(example + (f" [also {_few(others)}]" if others else ""))
        more = len(self._examples) - _NAMED
        return "; ".join([*texts, *([f"and {more} other faults"] if more > 0 else [])])


def check_all(checks: Mapping[str, Callable[[], Any]]) -> list[Any]:
    """Run independent checks of inputs, and report the faults of all of them at once.

    Args:
        checks: by the name of the input; a message may contain it.

    Returns:
        What they return.

    Raises:
        EsvError: of the first check that fails; its message has those of the others, too.
    """
    results: list[Any] = []
    errors: dict[str, EsvError] = {}
    for name, check in checks.items():
        try:
            results.append(check())
        except EsvError as error:
            errors[name] = error
    if not errors:
        return results
    first = next(iter(errors.values()))
    if len(errors) == 1:
        raise first
    alike: dict[str, list[str]] = {}
    for name, each in errors.items():
        alike.setdefault(str(each).replace(name, "#"), []).append(name)
    texts = [str(errors[names[0]]) + (f" [also {_few(names[1:])}]" if names[1:] else "") for names in alike.values()]
    shown = "; ".join(f"({number}) {text}" for number, text in enumerate(texts[:_NAMED], start=1))
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    raise type(first)(f"{len(errors)} inputs have faults: {shown}{more}") from None


def _few(names: list[str]) -> str:
    more = len(names) - _NAMED + 1
    return ", ".join(names[: _NAMED - 1]) + (f" and {more} more" if more > 0 else "")
