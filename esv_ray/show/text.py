"""Text that is safe to print on a terminal, and shortened so that different names look different."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len

_GAP = "..."
_FRONTS = (0.75, 0.25, 1.0, 0.0)  # shares of a text before the gap, where those around the middle look the same


class ClassText(str):
    """The name of a class, which knows its id: `distinct` shows it where two names would look the same."""

    class_id: int

    def __new__(cls, name: str, class_id: int) -> ClassText:
        """Return the name with its id."""
        text = super().__new__(cls, name)
        text.class_id = class_id
        return text


def standard_error_note(mark: str) -> str:
    """Return what the standard errors of sampled ESVs are, shown by a sign or by marks such as ``Lines``."""
    return (
        f"{mark}: standard error, the typical distance of a sampled ESV from the exact one; with the adjusted "
        "estimator it is pooled over the elements of a class"
    )


def printable(text: str) -> str:
    """Return a text with its control characters escaped: ids and names of tables may hold any."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shortened(text: str, most: int) -> str:
    """Return a printable text of at most `most` cells of a terminal (Chinese characters and emoji take two each).

    It is shortened in the middle, where class names differ least.
    """
    return _cut(printable(text), most, 0.5)


def quoted(name: str) -> str:
    """Return a name for a sentence, in quotation marks: names of classes are phrases, and would not stand out."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{name}\N{RIGHT DOUBLE QUOTATION MARK}"


def distinct(texts: Sequence[str], most: int, classes: Iterable[str] = ()) -> list[str]:
    """Return texts as `shortened` does, but so that different ones look different.

    A class whose name would look like that of another one gets its id: `Putting s...he table (96)`. Other texts are cut
    elsewhere than in the middle, if that makes a difference.

    Args:
        texts: to be shown together; names of classes are `ClassText`.
        most: cells of a terminal.
        classes: names of all classes by id, whether they are shown or not.
    """
    wholes: dict[str, set[tuple[str, int | None]]] = {}
    others = (ClassText(name, class_id) for class_id, name in enumerate(classes))
    for text in (*texts, *(others if any(isinstance(text, ClassText) for text in texts) else ())):
        wholes.setdefault(shortened(text, most), set()).add(_whole(text))
    shown = []
    for text in texts:
        alike = wholes[shortened(text, most)]
        if len(alike) == 1:
            shown.append(shortened(text, most))
        elif isinstance(text, ClassText):
            number = f" ({text.class_id})"
            shown.append(shortened(text, most - len(number)) + number)
        else:
            plain = [printable(each) for each, _ in alike]
            cuts = (front for front in _FRONTS if len({_cut(each, most, front) for each in plain}) == len(plain))
            shown.append(_cut(printable(text), most, next(cuts, 0.5)))
    return shown


def _whole(text: str) -> tuple[str, int | None]:
    return str(text), text.class_id if isinstance(text, ClassText) else None


def _cut(text: str, most: int, front: float) -> str:
    """Return a printable text without a part, of which a share of what is kept stands before it."""
    if cell_len(text) <= most:
        return str(text)
    kept = max(0, most - len(_GAP))
    before = kept - int(kept * (1 - front))
    end, start = min(len(text), before), max(0, len(text) - (kept - before))
    while cell_len(text[:end]) > before:
        end -= 1
    while cell_len(text[start:]) > kept - before:
        start += 1
    return f"{text[:end]}{_GAP}{text[start:]}"
