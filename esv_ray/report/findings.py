"""The findings of a report: what tables say in one sentence each, the largest effects, and how they were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.finding import Finding, largest
from esv_ray.analysis.facets.words import counted, of_main_length
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.analysis.statistics import FEWEST
from esv_ray.analysis.tables import Made

MOST = 3
"""Findings of a report."""


@dataclass(frozen=True)
class Findings:
    """What the first screen says.

    Attributes:
        shown: at most `MOST`: those that are clear of chance first, then those that come nearest to it.
        note: of how many tables, how many are clear of chance, and why there are fewer than `MOST`; "" without any.
    """

    shown: Sequence[Finding]
    note: str


def findings_of(parts: Iterable[tuple[Analyzed, Made]]) -> Findings:
    """Return what the tables found: the largest effects.

    Tables without a figure are left out. The largest are looked for, so the intervals hold for all tables together.

    Args:
        parts: tables, each with the output that it is of.
    """
    telling = [
        (analyzed, made.table, made.facet.finding)
        for analyzed, made in parts
        if made.facet.finding is not None and made.facet.name in CHARTS
    ]
    telling = [each for each in telling if each[2](each[1], each[0]) is not None]
    found = []
    for analyzed, table, finding_of in telling:
        finding = finding_of(table, analyzed, len(telling))
        if finding is not None:
            found.append(replace(finding, sentence=f"{finding.sentence}{_of_which(table, analyzed)}"))
    shown = largest(found, MOST)
    return Findings(shown, _note(found, shown) if found else "")


def _note(found: Sequence[Finding], shown: Sequence[Finding]) -> str:
    """Return how the shown findings were chosen."""
    clear = sum(finding.clear for finding in found)
    sentences = [
        f"Of {counted(len(found), 'table')} that can be compared with chance, {clear or 'none'} "
        f"{'is' if clear <= 1 else 'are'} clear of it."
    ]
    if shown:
        sentences.append("The intervals hold for all of them together.")
    if not all(finding.clear for finding in shown):
        sentences.append(
            "A finding that is not clear of chance describes these videos only: its interval includes what chance "
            "gives. Of these tables, those whose intervals come nearest to leaving it out are shown."
        )
    if len(shown) < MOST:
        fewer = f"Fewer than {MOST} findings are shown" if shown else "No finding is shown"
        why = "no other table can be compared with chance"
        if len(shown) < len(found):
            of = " of the other tables" if shown else ""
            why = f"there is no interval{of}, which would need {FEWEST} videos that differ"
        sentences.append(f"{fewer}: {why}.")
    return " ".join(sentences)


def _of_which(table: pa.Table, analyzed: Analyzed) -> str:
    """Return which videos a finding is of: those of one length, where there are several."""
    videos_of = analyzed.census.videos_of
    if len(videos_of) < 2 or "n_elements" not in table.column_names:
        return ""
    n, _ = of_main_length(table, analyzed)
    return f" This is of the {counted(videos_of.get(n, 0), 'sequence')} with {counted(n, 'element')}."
