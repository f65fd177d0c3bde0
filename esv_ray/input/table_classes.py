"""Class names beside a feature table: the classes.csv that `esv import features` writes into its folder.

They say which class each id in the table is. A model with other names for the same ids would give its videos the labels
of other classes, without an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError, ModelError
from esv_ray.input.class_names import MOST_TABLE_BYTES, parse_classes
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import name_in_labels
from esv_ray.machine import host_memory

CLASSES = "classes.csv"
_MODEL = "model.json"  # of a bundle
_MOST_FOLDERS = 8  # of a table that are looked into; of a table with more, its own folder alone
_SPACES = re.compile(r"[\s_-]+")


class TableClasses(NamedTuple):
    """Class names beside a feature table.

    Attributes:
        url: location of the file.
        names: by id.
    """

    url: str
    names: tuple[str, ...]


def classes_of_table(url: str, files: Sequence[InputFile]) -> list[TableClasses]:
    """Read the classes.csv in the folder of a table, and those in the folders of its files.

    A file of this name that is not a list of classes (header name,id) says nothing about ids, and is left out.

    Args:
        url: the table. A table whose labels are in a column of another name has no names; nor has a file in the folder
            of a model, where classes.csv has those of the model.
        files: its files, not empty.

    Raises:
        DataError: a file cannot be read.
    """
    root = storage.root_of(url, files[0].url)
    if root is None or any(file.columns.is_given("label") for file in files):
        return []
    if root == files[0].url:  # the table is one file
        root = root.rpartition("/")[0]
        if storage.exists(storage.join(root, _MODEL)):
            return []
    folders = list(dict.fromkeys([root, *(file.url.rpartition("/")[0] for file in files)]))
    return classes_in(folders if len(folders) <= _MOST_FOLDERS else [root])


def classes_in(folders: Sequence[str]) -> list[TableClasses]:
    """Read the classes.csv of folders; as `classes_of_table`."""
    found = []
    for folder in folders:
        place = storage.join(folder, CLASSES)
        if storage.exists(place):
            try:
                names = parse_classes(storage.read_bytes(place, "read the classes", most=MOST_TABLE_BYTES))
            except ModelError:
                continue
            found.append(TableClasses(place, names))
    return found


def check_same_classes(
    tables: Sequence[TableClasses], names: Sequence[str], place: str, files: Sequence[InputFile] | None = None
) -> None:
    """Check that class names beside a table are those of a model, for the ids that both have.

    Upper case, and underscores or hyphens in the place of spaces, make no difference; an empty name says nothing.

    Args:
        tables: names beside the table.
        names: of the model.
        place: where `names` are from, for the error.
        files: of the table. If its labels are names themselves, or if there are none, the ids play no part. None: the
            labels are ids.

    Raises:
        DataError: they differ; names the first id that does.
    """
    for table in tables:
        for index, (own, other) in enumerate(zip(table.names, names, strict=False)):
            if own.strip() and other.strip() and _plain(own) != _plain(other):
                if files is None or _are_ids(files):
                    raise DataError(_difference(table, index, own, other, place))
                return


def _are_ids(files: Sequence[InputFile]) -> bool:
    footers = read_footers(list(files))
    return has_labels(footers) and name_in_labels(footers, host_memory()) is None


def _difference(table: TableClasses, index: int, own: str, other: str, place: str) -> str:
    return (
        f"{table.url}: expected the classes of {place}, but class {index} is {own!r:.60} here and {other!r:.60} there, "
        "so labels would mean other classes; import the features again with the model's names (esv import features "
        "--classes), or, if the ids in the table are the model's, move this file away"
    )


def _plain(name: str) -> str:
    return _SPACES.sub(" ", name.strip().casefold())
