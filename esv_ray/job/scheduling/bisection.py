"""Which videos of a unit are at fault: group testing by halves, one probe at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_SOLO_FAULTS = 2  # of a single video, before it is condemned
MOST_INQUESTS = 3  # into one unit

Rows = tuple[int, int]  # start, stop


@dataclass
class Inquest:
    """The search for the videos that make a unit of `rows` rows fail.

    After a fault its first half is looked at; after a video is condemned, or rows are cleared, the largest range left:
    so the first offender is found in log2(rows) steps, and evidence that others are well comes early.

    Attributes:
        rows: of the unit.
        condemned: rows found at fault, and why.
        next: the rows to compute now; None: the unit as a whole, without the condemned.
    """

    rows: int
    condemned: dict[int, str] = field(default_factory=dict)
    next: Rows | None = None
    _left: list[Rows] = field(default_factory=list)
    _sibling: dict[Rows, Rows] = field(default_factory=dict)  # of two halves of what failed, the one looked at later
    _solo_faults: int = 0
    _held: int = 0  # inquests so far

    def __post_init__(self) -> None:
        self.again()

    def again(self) -> bool:
        """Look into the unit once more, since as a whole it failed again; False if that has been done often enough."""
        self._held += 1
        found_before = self._held == 1 or bool(self.condemned)
        if self._held > MOST_INQUESTS or not found_before:
            return False
        self._left = []
        start = 0
        for row in [*sorted(self.condemned), self.rows]:
            if start < row:
                self._left.append((start, row))
            start = row + 1
        if self._held == 1 and self.rows > 1:
            self._split(self._left.pop())  # as a whole it has failed often enough
        else:
            self._largest()
        return self.next is not None

    def cleared(self) -> None:
        """The rows `next` were computed without harm."""
        assert self.next is not None, "something was looked at"
        # What failed holds an offender: if it is not in the first half, there is no need to ask the second as a whole.
        sibling = self._sibling.pop(self.next, None)
        if sibling in self._left and sibling[1] - sibling[0] > 1:
            self._left.remove(sibling)
            self._split(sibling)
        else:
            self._largest()

    def guilty(self, reason: str) -> int | None:
        """The rows `next` failed; returns the row that is condemned thereby, if any."""
        assert self.next is not None, "something was looked at"
        start, stop = self.next
        self._sibling.pop(self.next, None)
        if stop - start > 1:
            self._split(self.next)
            return None
        self._solo_faults += 1
        if self._solo_faults < MOST_SOLO_FAULTS:
            return None
        self.condemned[start] = reason
        self._largest()
        return start

    def _split(self, rows: Rows) -> None:
        start, stop = rows
        middle = (start + stop) // 2
        self._left.append((middle, stop))
        self._look_at((start, middle))
        self._sibling[start, middle] = (middle, stop)

    def _largest(self) -> None:
        if not self._left:
            self._look_at(None)
            return
        rows = max(self._left, key=lambda rows: rows[1] - rows[0])
        self._left.remove(rows)
        self._look_at(rows)

    def _look_at(self, rows: Rows | None) -> None:
        self.next = rows
        self._solo_faults = 1 if self.rows == 1 else 0  # as a unit it failed already
