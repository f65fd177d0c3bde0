"""Labels of videos: from a CSV, from the source, or from segments; names become class ids."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from esv_ray.errors import DataError
from esv_ray.input.class_names import few, read_classes
from esv_ray.input.faults import Lines, RecordError
from esv_ray.input.numbers import INT32_MAX, whole_number
from esv_ray.input.sources.csv_rows import CsvRows, read_csv
from esv_ray.input.sources.records import Entry

_COLUMNS = {"video_id": "video_id", "path": "path", "label": "label", "split": "split"}
# Suffixes of files that may stand in a CSV for a video; any other end, as in `clip.flow`, is a part of the name.
_OF_VIDEOS = frozenset(
    ("npy", "npz", "pt", "pth", "pkl", "mp4", "avi", "mkv", "webm", "mov", "mpg", "mpeg", "m4v", "flv", "wmv", "gif")
)
NO_CLASS = "a label that is no class"
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}$")


@dataclass(frozen=True)
class LabelTable:
    """The labels that a CSV gives to videos.

    Attributes:
        labels: texts by the key of a video, those of all its rows in the selected split.
        others: keys of videos in other splits only.
        texts: all label texts of the CSV, of every split: class ids do not depend on the split.
        stems: keys by their paths without suffix; None if the keys are ids. Several keys may have one.
        checksum: of the CSV.
    """

    labels: Mapping[str, Collection[str]]
    others: Collection[str]
    texts: Collection[str]
    stems: Mapping[str, Sequence[str]] | None
    checksum: str

    def key_of(self, entry: Entry) -> str:
        """Return the key of a video."""
        if self.stems is None:
            return entry.video_id
        return next(iter(self._keys_of(entry, self.stems)), entry.path)

    def label_of(self, entry: Entry) -> str | None:
        """Return the label of a video, or None if it has none.

        Raises:
            RecordError: it has several.
        """
        keys = [self.key_of(entry)] if self.stems is None else self._keys_of(entry, self.stems)
        texts = {text for key in keys for text in self.labels.get(key, ())}
        if len(texts) > 1:
            raise RecordError("several labels of one video", ", ".join(sorted(texts))[:80])
        return next(iter(texts), None)

    def _keys_of(self, entry: Entry, stems: Mapping[str, Sequence[str]]) -> Sequence[str]:
        """Return the paths of a video: as it is, without its suffix, or else with suffixes of other kinds of files."""
        for key in (entry.path, stem(entry.path)):
            if key in self.labels or key in self.others:
                return [key]
        return stems.get(stem(entry.path), ())


def stem(path: str) -> str:
    """Return a relative path without suffix."""
    return _SUFFIX.sub("", path)


def read_labels(url: str, split: str | None) -> LabelTable:
    """Read a CSV with the columns video_id or path, label, and optionally split.

    Args:
        url: its location.
        split: keep rows of this split only; None: all.

    Raises:
        DataError: it is malformed, or has no row of the split.
    """
    rows = read_csv(url, _COLUMNS, "read the labels")
    keys = [name for name in ("video_id", "path") if name in rows.columns]
    if len(keys) != 1 or "label" not in rows.columns:
        raise DataError(
            f"{url}: expected the columns video_id (or path) and label, got the header {rows.header!r:.120}"
        )
    check_split(rows, split)
    labels: dict[str, set[str]] = defaultdict(set)
    others: set[str] = set()
    faults = Lines()
    for line, row in rows.rows:
        key = row[keys[0]].removeprefix("./") if keys == ["path"] else row[keys[0]]
        with faults.at(line):
            if not key:
                raise RecordError(f"expected a {keys[0]}, got none")
        if split is None or row["split"] == split:
            labels[key] |= {label_text(row)} - {""}
        else:
            others.add(key)
    rows.check(faults)
    texts = {label_text(row) for _, row in rows.rows} - {""}
    stems = _by_stem((*labels, *sorted(others - labels.keys()))) if keys == ["path"] else None
    return LabelTable(dict(labels), others - labels.keys(), texts, stems, rows.checksum)


def label_text(row: Mapping[str, str]) -> str:
    """Return the label of a row of a CSV; empty if there is none: pandas and NumPy write ``nan`` for a missing one."""
    text = row.get("label", "")
    return "" if text.lower() == "nan" else text


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the paths of files by what is before their suffix."""
    stems: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        before, _, suffix = path.rpartition(".")
        if before and suffix.lower() in _OF_VIDEOS:
            stems[before].append(path)
    return dict(stems)


def check_split(rows: CsvRows, split: str | None) -> None:
    """Refuse a split that a CSV does not have.

    Raises:
        DataError: it has no column split, or no row of this split.
    """
    if split is None:
        return
    if "split" not in rows.columns:
        raise DataError(f"{rows.url}: expected a column split, which --split asks for; add it, or leave --split out")
    found = {row["split"] for _, row in rows.rows}
    if split not in found:
        raise DataError(
            f"{rows.url}: expected rows with the split {split!r} (--split), got {', '.join(sorted(found))[:200]}"
        )


@dataclass(frozen=True)
class ClassIds:
    """The class ids of labels.

    Attributes:
        names: of the classes, by id; None if the labels are numbers and no names are given.
        by_name: ids of each name.
        all_names: whether every label is a name, digits too: there are words among them.
    """

    names: tuple[str, ...] | None
    by_name: Mapping[str, Collection[int]]
    all_names: bool = False

    def _expected(self, label: int | str, most: int) -> str:
        """Return what was expected in place of a label: names, if it is none of a number, or ids."""
        if self.names is None or not isinstance(label, str) or whole_number(label.strip()) is not None:
            return f"class ids are {f'0..{most}' if self.names is not None else '0 and up'}"
        return f"the classes are {few([name[:40] for name in self.names])}"

    def id_of(self, label: int | str) -> int:
        """Return the class id of a label: that of its name, else the number itself.

        Raises:
            RecordError: it is not among the classes.
        """
        name = label.strip() if isinstance(label, str) else str(label) if self.all_names else None
        ids = () if name is None else self.by_name.get(name, ())
        if len(ids) > 1:
            raise RecordError("a label that is the name of several classes", repr(label)[:80])
        if ids:
            return next(iter(ids))
        if self.all_names:
            raise RecordError(NO_CLASS, f"{label!r:.80}; it is not among the names")
        number = whole_number(label.strip()) if isinstance(label, str) else label
        most = len(self.names) - 1 if self.names is not None else INT32_MAX - 1
        if number is None or not 0 <= number <= most:
            raise RecordError(NO_CLASS, f"{label!r:.80}; {self._expected(label, most)}")
        return number


def class_ids(labels: Iterable[int | str], classes: str | None) -> tuple[ClassIds, list[str]]:
    """Decide the class ids of labels: those of a classes.csv; else numbers are ids, and names get ids in sorted order.

    Args:
        labels: all labels of the data set; not used with `classes`.
        classes: location of a CSV with the columns name and id, or None.

    Returns:
        The ids, and notes about the classes.

    Raises:
        ModelError: the CSV is malformed.
    """
    names: tuple[str, ...] | None = None
    notes: list[str] = []
    if classes is not None:
        names, notes = read_classes(classes)
    else:
        distinct = {label.strip() if isinstance(label, str) else label for label in labels}
        words = sorted(label for label in distinct if isinstance(label, str) and whole_number(label) is None)
        if words:
            names = tuple(sorted(str(label) for label in distinct))
        if words and len(words) < len(distinct):
            numbers = len(distinct) - len(words)
            notes.append(
                f"labels are names, since {few(words, 3)} is no number; {numbers} of {len(distinct)} "
                "are numbers, and get ids as names do: if they are class ids, correct the others, or leave them empty"
            )
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names or ()):
        by_name[name.strip()].append(index)
    return ClassIds(names, dict(by_name), all_names=classes is None and names is not None), notes
