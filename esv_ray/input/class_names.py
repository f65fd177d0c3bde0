"""classes.csv, the names of the classes by their ids, in the authors' own format and as spreadsheets write it."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from esv_ray import storage
from esv_ray.errors import ModelError, SpecError
from esv_ray.input.class_rows import ClassRow, class_rows

MOST_TABLE_BYTES = 50_000_000  # a line a class
_MOST_NAMED = 5
_COMPARED = 100_000  # names among which similar ones are looked for


def parse_classes(data: bytes, n_classes: int | None = None) -> tuple[str, ...]:
    """Read class names by id from a CSV with header name,id: every id 0..C-1 once.

    Raises:
        ModelError: the content is malformed.
    """
    return tuple(row.value for row in by_class(class_rows(data, "id", "name"), n_classes, missing=""))


def read_classes(url: str, n_classes: int | None = None) -> tuple[tuple[str, ...], list[str]]:
    """Read a file as `parse_classes`; errors name it.

    Returns:
        The names, and notes: which classes share a name. That is allowed, since ids identify classes and data sets have
        such names: two classes of ImageNet are "crane".
    """
    data = storage.read_bytes(url, "read the classes", most=MOST_TABLE_BYTES)
    with in_file(url):
        names = parse_classes(data, n_classes)
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_name.setdefault(name.strip(), []).append(index)
    nameless = by_name.pop("", [])
    notes = [f"{url}: {len(nameless)} of {len(names)} classes have an empty name: {few(nameless)}"] if nameless else []
    shared = [f"{name!r:.60} ({few(ids)})" for name, ids in by_name.items() if len(ids) > 1]
    if shared:
        notes.append(f"{url}: names of several classes: {few(shared)}")
    return names, notes


def classes_csv(names: Sequence[str]) -> bytes:
    """Write class names as `parse_classes` reads them."""
    return csv_bytes(["name", "id"], [[name, str(index)] for index, name in enumerate(names)])


def class_named(name: str, names: Sequence[str] | None, *, key: str = "class", words: Sequence[str] = ()) -> int:
    """Return the id of the class with a name; spaces around names make no difference.

    Args:
        name: as a user gives it.
        names: of the classes by id, or None.
        key: option or key of a spec, for the error.
        words: what the user may give besides names and ids.

    Raises:
        SpecError: there is no such class, or several have the name; says which names are nearest.
    """
    ids = [class_id for class_id, each in enumerate(names or ()) if each.strip() == name.strip() != ""]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise SpecError(f"{key}: {len(ids)} classes have the name {name!r:.80}: {ids[:_MOST_NAMED]}; give the id")
    near = nearest_names(name, [*words, *(names or ())])
    hint = f"; did you mean {' or '.join(f'{each!r:.80}' for each in near)}?" if near else ""
    if names is None:
        expected = ", ".join([*words, "or a class id" if words else "a class id"])
        raise SpecError(f"{key}: expected {expected}, since the model has no class names, got {name!r:.80}{hint}")
    some = few([f"{each!r:.80}" for each in names])
    raise SpecError(f"{key}: there is no class {name!r:.80}{hint or f'; the {len(names)} classes are {some}'}")


def nearest_names(name: str, names: Sequence[str], most: int = 3) -> list[str]:
    """Return the names that are most like a text, the most similar first; upper case makes no difference."""
    folded: dict[str, str] = {}
    for each in names[:_COMPARED]:
        folded.setdefault(each.strip().casefold(), each)
    return [folded[each] for each in difflib.get_close_matches(name.strip().casefold(), folded, n=most)]


@contextmanager
def in_file(url: str) -> Iterator[None]:
    """Name the file in a `ModelError` raised inside."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{url}: {error}") from None


def few(values: Sequence[object], most: int = _MOST_NAMED) -> str:
    """List the first few values, for a message."""
    return ", ".join(str(value) for value in values[:most]) + (", ..." if len(values) > most else "")


def by_class(rows: Sequence[ClassRow], n_classes: int | None, *, missing: str) -> list[ClassRow]:
    """Sort rows by class id, each of 0..C-1 once; `missing` is advice about missing classes."""
    ids = sorted(row.class_id for row in rows)
    expected = n_classes if n_classes is not None else (ids[-1] + 1 if ids else 0)
    if len(ids) == expected and ids == list(range(expected)) and ids:
        return sorted(rows, key=lambda row: row.class_id)
    one_based = len(ids) > 0 and ids == list(range(1, len(ids) + 1)) and n_classes in (None, len(ids))
    expected -= one_based and n_classes is None
    expectation = "expected one row for every class" + (f" 0..{expected - 1}" if expected else "")
    repeated = [index for index, count in Counter(ids).items() if count > 1]
    beyond = [index for index in ids if not 0 <= index < expected]
    if repeated:
        problem = f": class {few(repeated)} more than once; keep one row of each"
    elif one_based:
        problem = (
            f" with ids 1..{len(ids)}: ids count from 0, as labels do; subtract 1 from every id (and label), or add "
            "class 0 if it is missing"
        )
    elif beyond:
        problem = f": class {few(beyond)} is not among them"
    elif ids:
        present = set(ids)
        absent = (index for index in range(expected) if index not in present)
        problem = f": class {few([index for _, index in zip(range(_MOST_NAMED + 1), absent, strict=False)])} missing"
        problem += missing
    else:
        problem = ""
    raise ModelError(f"{expectation}, got {len(ids)} rows{problem}")


def csv_bytes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Write a CSV with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()
