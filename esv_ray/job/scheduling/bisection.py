"""Search for the rows of a unit that make it fail: group testing by halves, one probe at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_FAULTS_OF_A_ROW = 2  # of a single row, before it counts as poisoned
MOST_PASSES = 3  # over one unit

Rows = tuple[int, int]
"""First row, and the row after the last."""


@dataclass
class Bisection:
    """The search through a unit of `rows` rows.

    After a fault the first half of the rows is probed next; after a row is found poisoned, or a probe succeeds, the
    largest range left. So the first poisoned row is found in log2(rows) steps, and evidence that other rows are fine
    comes early.

    Attributes:
        rows: rows of the unit.
        poisoned: poisoned rows, and why.
        probe: rows to compute next; None: the whole unit without the poisoned rows.
    """

    rows: int
    poisoned: dict[int, str] = field(default_factory=dict)
    probe: Rows | None = None
    _left: list[Rows] = field(default_factory=list)
    _sibling: dict[Rows, Rows] = field(default_factory=dict)  # first half of failed rows -> their second half
    _faults_of_row: int = 0
    _passes: int = 0

    def __post_init__(self) -> None:
        self.start_again()

    def start_again(self) -> bool:
        """Search once more, because the whole unit failed again; return False if that is useless."""
        self._passes += 1
        productive = self._passes == 1 or bool(self.poisoned)
        if self._passes > MOST_PASSES or not productive:
            return False
        self._left = []
        start = 0
        for row in [*sorted(self.poisoned), self.rows]:
            if start < row:
                self._left.append((start, row))
            start = row + 1
        if self._passes == 1 and self.rows > 1:
            self._split(self._left.pop())  # the whole unit has failed often enough
        else:
            self._probe_largest()
        return self.probe is not None

    def succeeded(self) -> None:
        """Record that the probe raised no fault."""
        assert self.probe is not None, "a probe was running"
        # Failed rows hold a poisoned one: if it is not in the first half, the second half need not be probed whole.
        sibling = self._sibling.pop(self.probe, None)
        if sibling in self._left and sibling[1] - sibling[0] > 1:
            self._left.remove(sibling)
            self._split(sibling)
        else:
            self._probe_largest()

    def failed(self, reason: str) -> int | None:
        """Record that the probe failed; return the row that is poisoned by this evidence, if any."""
        assert self.probe is not None, "a probe was running"
        start, stop = self.probe
        self._sibling.pop(self.probe, None)
        if stop - start > 1:
            self._split(self.probe)
            return None
        self._faults_of_row += 1
        if self._faults_of_row < MOST_FAULTS_OF_A_ROW:
            return None
        self.poisoned[start] = reason
        self._probe_largest()
        return start

    def _split(self, rows: Rows) -> None:
        start, stop = rows
        middle = (start + stop) // 2
        self._left.append((middle, stop))
        self._set_probe((start, middle))
        self._sibling[start, middle] = (middle, stop)

    def _probe_largest(self) -> None:
        if not self._left:
            self._set_probe(None)
            return
        rows = max(self._left, key=lambda rows: rows[1] - rows[0])
        self._left.remove(rows)
        self._set_probe(rows)

    def _set_probe(self, rows: Rows | None) -> None:
        self.probe = rows
        self._faults_of_row = 1 if self.rows == 1 else 0  # the whole unit, which is this row, failed already
