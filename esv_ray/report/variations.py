"""Tables of `esv smoothness`, `esv order` and `esv sanity`: outputs of their own, in the folder of an output."""

from __future__ import annotations

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed, open_output
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.tables import Made, lacks, tables_of_facets
from esv_ray.errors import EsvError
from esv_ray.output.layout import VARIATIONS, VARIATIONS_FOLDER
from esv_ray.show.text import printable

_MOST_REASON = 300  # characters


def variations_of(analyzed: Analyzed) -> tuple[list[tuple[Analyzed, Made]], list[str]]:
    """Return the tables of variations of an output, each with the output that it is of, and notes on those left out.

    A table that the job itself has is not looked for. One that cannot be read is left out: the report is about the
    output, which it is no part of.

    Args:
        analyzed: the output.

    Raises:
        DataError: the storage refuses to list the folder.
    """
    folder = storage.join(analyzed.output, VARIATIONS_FOLDER)
    there = {name.rstrip("/").rpartition("/")[2] for name in storage.list_names(folder, "list the variations")}
    parts: list[tuple[Analyzed, Made]] = []
    notes = []
    for name in VARIATIONS:
        if name not in there or name in analyzed.tables:
            continue
        try:
            parts.append(_table(analyzed, storage.join(folder, name), name))
        except EsvError as error:
            notes.append(f"Without {name}: {printable(str(error)[:_MOST_REASON])}")
    return parts, notes


def _table(analyzed: Analyzed, url: str, name: str) -> tuple[Analyzed, Made]:
    """Return the table of a variation, and the output that it is of.

    Raises:
        EsvError: it cannot be read, or it is of another model or other features.
    """
    variation = open_output(url)
    for what, own, other in (
        ("model", analyzed.manifest.model["digest"], variation.manifest.model["digest"]),
        ("features", analyzed.manifest.spec["features"], variation.manifest.spec["features"]),
    ):
        if own != other:
            raise EsvError(f"{url}: expected the {what} of {analyzed.output}, got others; run esv {name} again")
    missing = lacks(variation, FACETS[name])
    if missing is not None:
        raise EsvError(f"{url}: {missing}")
    with tables_of_facets(variation, [FACETS[name]]) as (made,):
        return variation, made
