"""Reasons of rows that fail or are left out, counted and described."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

VARYING = r"'[^']*'|\d+(\.\d+)?(e[-+]?\d+)?( [kMGTPE]?B\b)?"
"""What differs from row to row in reasons of a kind, as a regular expression (of Python and of RE2)."""
_SHOWN = 3  # kinds of reasons in a message


def reason_kind(reason: str) -> str:
    """Return a reason with `#` in place of what differs from row to row: numbers, amounts and quoted text."""
    return re.sub(VARYING, "#", reason)


def describe_reasons(rows: Mapping[str, int]) -> str:
    """Describe why rows are left out: the most frequent kinds of reasons, each with its rows and an example.

    Args:
        rows: number of rows by reason.
    """
    kinds: dict[str, Counter[str]] = {}
    for reason, count in rows.items():
        kinds.setdefault(reason_kind(reason), Counter())[reason] += count
    most = sorted(kinds.items(), key=lambda item: (-item[1].total(), item[0]))
    shown = [_described(counts) for _, counts in most[:_SHOWN]]
    others = sum(counts.total() for _, counts in most[_SHOWN:])
    return "; ".join([*shown, *([f"{others} for other reasons"] if others else [])])


def _described(reasons: Counter[str]) -> str:
    """Describe reasons of one kind by the most frequent one."""
    example = min(reasons, key=lambda reason: (-reasons[reason], reason))
    similar = f" [and {len(reasons) - 1} similar]" if len(reasons) > 1 else ""
    return f"{reasons.total()}: {example}{similar}"
