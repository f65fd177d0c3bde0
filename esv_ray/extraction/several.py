"""The folder of an extraction with several backbones, which holds a table of each."""

from __future__ import annotations

import json

from esv_ray import storage
from esv_ray.errors import JobError
from esv_ray.extraction.run_file import read_run
from esv_ray.input.files import SEVERAL
from esv_ray.output.layout import PROGRESS, SUBMISSIONS
from esv_ray.spec_extract import ExtractSpec

_DOING = "look into the output"


def check_folder(spec: ExtractSpec) -> None:
    """Check that an output may hold the tables of several backbones, if there are several.

    Raises:
        JobError: the output is a feature table itself, or holds other work.
        DataError: it holds something else.
    """
    if isinstance(spec.backbone, str) or storage.exists(storage.join(spec.output, SEVERAL)):
        return
    if read_run(spec.output) is not None:
        raise JobError(
            f"{spec.output}: expected a folder for the tables of several backbones, found the feature table of one; "
            "choose another --out"
        )
    storage.check_vacant(spec.output, {*(each.folder for each in spec.backbone), SEVERAL, PROGRESS, SUBMISSIONS})


def mark_folder(spec: ExtractSpec) -> None:
    """Mark the output of several backbones: readers of feature tables refuse it, and take one of its folders."""
    if not isinstance(spec.backbone, str):
        content = json.dumps({"written by": "esv extract", "holds": "a feature table in each folder"}).encode()
        storage.commit_new(storage.join(spec.output, SEVERAL), content, "mark the folder of tables")


def tables_in(output: str) -> list[str]:
    """Return the locations of the tables of several backbones, sorted; none if it is no such folder.

    Raises:
        JobError: a folder in it holds other work.
        DataError: a plan is damaged, or the storage refuses.
    """
    if not storage.exists(storage.join(output, SEVERAL)):
        return []
    folders, _ = storage.list_folder(output, _DOING)
    places = [storage.join(output, name) for name in folders if not storage.is_hidden(name)]
    return [place for place in places if read_run(place) is not None]
