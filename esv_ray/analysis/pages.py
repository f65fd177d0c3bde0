"""Pages of facets as lines of text: at most 80 columns; names are shortened in the middle, numbers never."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.facets.facet import Page
from esv_ray.errors import count_of
from esv_ray.show.text import printable, shortened

WIDTH = 80
_GAP = 2
_FEWEST = 12  # characters of a name


def head_lines(analysed: Analysed) -> Iterator[str]:
    """Yield what a reader must know first: how much of a job is there, and what is not in the tables."""
    if not analysed.finished:
        yield f"{analysed.progress}. The tables are of these."
    census = analysed.census
    missing = [f"{count} {name}" for name, count in (("failed", census.failed), ("skipped", census.skipped)) if count]
    if missing:
        yield f"{count_of(census.ok, 'sequence')} with ESVs; {', '.join(missing)}, which are in no table below"


def page_lines(page: Page, width: int = WIDTH) -> Iterator[str]:
    """Yield the lines of a page."""
    for sentence in page.sentences:
        yield from wrapped(sentence, width)
    if page.rows:
        yield from table_lines(page.columns, page.rows, names=page.names, width=width)
    if page.note:
        yield from wrapped(page.note, width)


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Return the lines of a sentence; only a word that is longer than a line, such as a name, is broken."""
    bound = printable(text).replace(" %", "\0%")  # a number and its unit stay on one line
    return [line.replace("\0", " ") for line in textwrap.wrap(bound, width, break_on_hyphens=False)]


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, names: int, width: int = WIDTH
) -> Iterator[str]:
    """Yield the lines of a table: names and the first column to the left, numbers to the right.

    Args:
        columns: headers.
        rows: texts.
        names: how many of the first columns hold names, which are shortened so that a line fits.
        width: of a line.
    """
    if names:
        others = sum(_GAP + max(len(row[place]) for row in (columns, *rows)) for place in range(names, len(columns)))
        longest = [max(cell_len(row[place]) for row in (columns, *rows)) for place in range(names)]
        room = _shares(width - others - _GAP * (names - 1), longest)
        rows = [(*(shortened(name, most) for name, most in zip(row, room, strict=False)), *row[names:]) for row in rows]
    widths = [max(cell_len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    for row in (columns, *rows):
        pads = [" " * (size - cell_len(text)) for text, size in zip(row, widths, strict=True)]
        cells = [
            text + pad if place < max(1, names) else pad + text
            for place, (text, pad) in enumerate(zip(row, pads, strict=True))
        ]
        yield (" " * _GAP).join(cells).rstrip()


def _shares(width: int, needed: Sequence[int]) -> list[int]:
    """Divide a width among columns: what the narrow ones do not need goes to the others."""
    shares, left = [0] * len(needed), width
    for turn, place in enumerate(sorted(range(len(needed)), key=lambda place: needed[place])):
        shares[place] = max(_FEWEST, min(needed[place], left // (len(needed) - turn)))
        left -= shares[place]
    return shares
