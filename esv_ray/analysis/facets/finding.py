"""A finding: one sentence that a facet's table says, with the size of its effect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What a table says in one sentence.

    Attributes:
        facet: name of the table, and of its figure.
        sentence: with numbers and, where there is one, the interval.
        effect: from 0 to 1: how far the share or score is from what chance would give, as a part of the largest
            distance possible; the end of the 95 % interval that is nearer to chance counts. 0: none.
    """

    facet: str
    sentence: str
    effect: float
