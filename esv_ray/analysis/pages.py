"""Pages of facets as lines of text: at most 80 columns; names are shortened in the middle, numbers never."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.facet import Page
from esv_ray.errors import count_of
from esv_ray.show.text import distinct, printable

WIDTH = 80
_GAP = 2
_FEWEST = 12  # cells of a name
_BOUND = "\ue000"  # not printable, so no text has it


def head_lines(analyzed: Analyzed) -> Iterator[str]:
    """Yield what a reader must know first: which output it is, how much of it is there, and what is in no table."""
    yield printable(f"output  {analyzed.output}")  # locations are not broken, so that they can be copied
    yield printable(f"model   {analyzed.manifest.spec['model']}, {len(analyzed.empty_values)} classes")
    of_class = "label" if analyzed.explained == "label" else "predicted class"
    yield f"ESVs of each video's {of_class}, in {'logit' if analyzed.in_logits else 'probability'}"
    if not analyzed.finished:
        yield f"{analyzed.progress}. The tables are of these."
    census = analyzed.census
    missing = [f"{count} {name}" for name, count in (("failed", census.failed), ("skipped", census.skipped)) if count]
    if missing:
        yield f"{count_of(census.ok, 'sequence')} with ESVs; {', '.join(missing)}, which are in no table below"


def page_lines(page: Page, width: int = WIDTH, *, classes: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of a page; `classes` are the names of all classes."""
    for sentence in page.sentences:
        yield from wrapped(sentence, width)
    if page.rows:
        yield from table_lines(page.columns, page.rows, names=page.names, width=width, classes=classes)
    if page.note:
        yield from wrapped(page.note, width)


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Return the lines of a sentence; only a word that is longer than a line, such as a name, is broken."""
    bound = printable(text).replace(" %", f"{_BOUND}%")  # a number and its unit stay on one line
    lines = Text(bound).wrap(Console(width=width), width)
    return [line.plain.rstrip().replace(_BOUND, " ") for line in lines]


def table_lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    names: int,
    width: int = WIDTH,
    classes: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the lines of a table: names and the first column to the left, numbers to the right.

    Args:
        columns: headers.
        rows: texts.
        names: how many of the first columns hold names, which are shortened so that a line fits.
        width: cells of a line.
        classes: names of all classes, from which those that are shown should look different (`distinct`).
    """
    if names:
        others = sum(
            _GAP + max(cell_len(row[place]) for row in (columns, *rows)) for place in range(names, len(columns))
        )
        longest = [max(cell_len(printable(row[place])) for row in (columns, *rows)) for place in range(names)]
        room = _shares(width - others - _GAP * (names - 1), longest)
        shown = [distinct([row[place] for row in rows], most, classes) for place, most in enumerate(room)]
        rows = [(*fitted, *row[names:]) for fitted, row in zip(zip(*shown, strict=True), rows, strict=True)]
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
        shares[place] = min(needed[place], max(_FEWEST, left // (len(needed) - turn)))
        left -= shares[place]
    return shares
