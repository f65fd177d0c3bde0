"""Write the bundles of a model that a source has read: outputs, prior and class names, the same for every source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch import Tensor

from esv_ray.core.games.model import check_classes
from esv_ray.errors import ModelError
from esv_ray.input.faults import check_all
from esv_ray.models.class_tables import read_classes
from esv_ray.models.priors import check_names_of_prior, check_source, difference, names_of_prior, prior_of
from esv_ray.models.saving import check_destination, exists_bundle
from esv_ray.models.sources.imported import Imported, Row


@dataclass(frozen=True)
class BundleRequest:
    """A bundle to write.

    Attributes:
        out: its folder.
        prior: source of the class prior (`priors.prior_of`).
        classes: location of the class names' CSV (name,id), or None.
        columns: the first and the end of the outputs to keep, of a model that answers several questions; None: all.
        compared: sources of other priors, whose differences from the prior are reported.
    """

    out: str
    prior: str
    classes: str | None = None
    columns: tuple[int, int] | None = None
    compared: tuple[str, ...] = ()


def read_all(read: Callable[[], Imported], requests: Sequence[BundleRequest]) -> Imported:
    """Read a model, and check the CSVs of its bundles, so that the faults of all files are reported at once.

    Args:
        read: reads the model.
        requests: its bundles.

    Raises:
        EsvError: a file cannot be read or is malformed.
    """
    checks: dict[str, Callable[[], object]] = {"the model": read}
    for request in requests:
        checks |= {source: partial(check_source, source) for source in (request.prior, *request.compared)}
        if request.classes is not None:
            checks[request.classes] = partial(read_classes, request.classes)
    imported: Imported = check_all(checks)[0]
    return imported


def import_bundles(imported: Imported, requests: Sequence[BundleRequest]) -> list[Row]:
    """Write bundles of a model, after all their parts have been checked. A bundle that is there already is unchanged.

    Args:
        imported: the model.
        requests: one bundle, or one for each question that the model answers.

    Returns:
        The summary: what was found, what F is, what was not used, and what was written.

    Raises:
        ModelError: there is one class; the prior or the class names are malformed or not of C classes; there is
            another bundle already.
        DataError: a file cannot be read or written.
    """
    size = f"D = {imported.feature_dim}, C = {imported.n_classes}"
    rows = [("found", f"{imported.found}, {size}"), ("F", imported.f), *imported.rows]
    rows += _overlaps([request.columns for request in requests if request.columns is not None])
    ready: list[tuple[Imported, str, Tensor, tuple[str, ...] | None]] = []
    complete = {request.out for request in requests if exists_bundle(request.out)}
    for request in requests:
        if request.out not in complete:
            check_destination(request.out)
        model = imported if request.columns is None else _cut(imported, *request.columns)
        check_classes(model.n_classes)
        names, name_rows = _class_names(request, model)
        for source in (request.prior, *request.compared):
            if names is not None:
                check_names_of_prior(source, names, request.classes or source)
        prior, notes = prior_of(request.prior, model.model, model.n_classes, names)
        rows.append(("prior", _with_notes(request.prior, notes)))
        for source in request.compared:
            other, _ = prior_of(source, model.model, model.n_classes, names)
            rows.append(("", f"{source}: {difference(prior, other)}"))
        rows += name_rows
        before = "; the bundle was complete before, nothing was changed" if request.out in complete else ""
        rows.append(("model", f"{request.out}{before}"))
        ready.append((model, request.out, prior, names))
    for model, out, prior, names in sorted(
        ready, key=lambda each: each[1] not in complete
    ):  # those only compared first
        model.save(out, prior, names)
    return rows


def _overlaps(columns: Sequence[tuple[int, int]]) -> list[Row]:
    """Return a note if an output is kept in several bundles."""
    ordered = sorted(columns)
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            return [("note", f"outputs: column {start} is kept in more than one bundle")]
    return []


def _class_names(request: BundleRequest, model: Imported) -> tuple[tuple[str, ...] | None, list[Row]]:
    """Return the class names and their rows: of the files, or beside the table of the prior, where none are given."""
    n_classes = model.n_classes
    if request.classes is None and model.classes is not None:
        return model.classes, [("classes", f"{n_classes} names of the files")]
    if request.classes is None:
        beside = names_of_prior(request.prior)
        if beside is None:
            return None, [("classes", "without names; --classes gives them")]
        if len(beside.names) != n_classes:
            return None, [("note", f"{beside.url}: {len(beside.names)} class names, not {n_classes}, are not used")]
        return beside.names, [("classes", f"{beside.url} (beside the table of the prior)")]
    names, notes = read_classes(request.classes, n_classes)
    own = [note.removeprefix(f"{request.classes}: ") for note in notes]
    return names, [("classes", _with_notes(request.classes, own))]


def _with_notes(url: str, notes: Sequence[str]) -> str:
    return f"{url}: {'; '.join(notes)}" if notes else url


def _cut(imported: Imported, start: int, stop: int) -> Imported:
    """Keep some of the outputs."""
    if imported.cut is None:
        raise ModelError("outputs: the outputs of this model cannot be cut; import it without --outputs")
    if stop > imported.n_classes:
        raise ModelError(f"outputs: expected columns of {imported.n_classes} outputs, got {start}:{stop}")
    return imported.cut(start, stop)
