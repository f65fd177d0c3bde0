"""Format names, numbers and notes for the pages of facets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.show.text import ClassText, distinct, quoted

_IN_SENTENCE = 44  # cells of a name
Row = dict[str, Any]


def of_main_length(table: pa.Table, analyzed: Analyzed | None = None) -> tuple[int, pa.Table]:
    """Return the number of elements that most videos have (of several, the largest), and the rows of that length.

    So all pages of an analysis show the same length, if their tables have it.

    Args:
        table: with rows.
        analyzed: whose videos are counted; None: the largest `videos` of a row of each length decides.
    """
    there = table.group_by("n_elements", use_threads=False).aggregate([] if analyzed else [("videos", "max")])
    counts = (
        analyzed.census.videos_of if analyzed else {row["n_elements"]: row["videos_max"] for row in there.to_pylist()}
    )
    n = max(there.column("n_elements").to_pylist(), key=lambda each: (counts.get(each) or 0, each))
    return n, table.filter(pc.equal(table.column("n_elements"), n))


def without_esvs(analyzed: Analyzed, *lengths: int) -> str:
    """Return a note on the videos of some lengths that are left out, for want of ESVs; "" if there are none."""
    count = sum(analyzed.without.get(n, 0) for n in lengths)
    if not count:
        return ""
    of = "their label" if analyzed.explained == "label" else "their predicted class"
    return f"Without {counted(count, 'video')} that {'has' if count == 1 else 'have'} no ESVs of {of}."


def other_lengths(table: pa.Table, n: int) -> str:
    """Return a note that a page shows one length of several; "" if there is one."""
    others = len(pc.unique(table.column("n_elements"))) - 1
    return f"Sequences of {counted(n, 'element')}; the table has {counted(others, 'other length')}." if others else ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for a sentence: `1 video`, `24,777 videos`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def class_name(class_id: int | None, analyzed: Analyzed) -> str:
    """Return the name of a class, or its id if the model has no names."""
    return "all classes" if class_id is None else class_text(class_id, analyzed.names)


def class_text(class_id: int, names: Sequence[str] | None) -> ClassText:
    """Return the name of a class, or its id if there are no names; `class 8` if its name is blank."""
    if names is None or not 0 <= class_id < len(names):
        return ClassText(str(class_id), class_id)
    return ClassText(names[class_id] if names[class_id].strip() else f"class {class_id}", class_id)


def short_name(class_id: int | None, analyzed: Analyzed, *, first: bool = False) -> str:
    """Return the name of a class for a sentence, in quotation marks; with its id if another one looks the same.

    A class without a name is called by its id: `class 8`.

    Args:
        class_id: None: all classes.
        analyzed: the output.
        first: whether it begins the sentence.
    """
    name = class_name(class_id, analyzed)
    if name == str(class_id) and not _is_named(class_id, analyzed):
        return f"{'Class' if first else 'class'} {name}"  # without a name, a lone number would be no subject
    if class_id is None:
        return name.capitalize() if first else name
    return quoted(distinct([name], _IN_SENTENCE, analyzed.names or ())[0])


def _is_named(class_id: int | None, analyzed: Analyzed) -> bool:
    return class_id is not None and analyzed.names is not None and 0 <= class_id < len(analyzed.names)


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def signed(value: float | None, digits: int = 3) -> str:
    """Return an ESV or a sum of them."""
    return "-" if value is None else f"{value:+.{digits}f}"


def plain(value: float | None, digits: int = 3) -> str:
    """Return a score, a prior or a mean count."""
    return "-" if value is None else f"{value:.{digits}f}"


def span(low: float | None, high: float | None, *, shares: bool = False) -> str:
    """Return a 95 % interval."""
    if low is None or high is None:
        return "-"
    return f"{100 * low:.1f}..{100 * high:.1f}" if shares else f"{low:+.4f}..{high:+.4f}"


def capitalized(text: str) -> str:
    """Return a text whose first letter is a capital; the others stay as they are."""
    return text[:1].upper() + text[1:]


def rounded(share: float) -> str:
    """Return a share in percent, as exact as the ends of intervals beside it: `12.5 %`, `25 %`."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def class_in_words(analyzed: Analyzed) -> str:
    """Return the class whose ESVs are analyzed."""
    return "the label" if analyzed.explained == "label" else "the predicted class"


def within(low: float | None, high: float | None, digits: int = 2, *, compared: int = 1) -> str:
    """Return a 95 % interval for a sentence; "" if there is none.

    Args:
        low, high: its ends.
        digits: after the decimal point.
        compared: number of values for all of which together the interval holds.
    """
    if low is None or high is None:
        return ""
    return f" (95 % interval {low:.{digits}f} to {high:.{digits}f}{_of_all(compared)})"


def beside(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return a second interval of a sentence, of the level of the first; "" if there is none."""
    return "" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})"


def within_percent(low: float | None, high: float | None, *, compared: int = 1) -> str:
    """Return the 95 % interval of a share for a sentence; "" if there is none.

    Args:
        low, high: its ends.
        compared: number of shares for all of which together the interval holds.
    """
    if low is None or high is None:
        return ""
    return f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %{_of_all(compared)})"


def _of_all(compared: int) -> str:
    return f", corrected for {compared:,} comparisons" if compared > 1 else ""


def joined(notes: Iterable[str]) -> str:
    """Return notes as one text."""
    return " ".join(note for note in notes if note)


def more(shown: int, there: int, noun: str) -> str:
    """Return a note that rows are left out; "" if none are."""
    return f"{there - shown} more {noun} in the table." if there > shown else ""
