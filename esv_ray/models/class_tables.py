"""prior.csv and classes.csv, in the authors' own formats and as spreadsheets and pandas write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.games.model import check_prior
from esv_ray.errors import ModelError
from esv_ray.input.class_names import (
    MOST_TABLE_BYTES,
    by_class,
    classes_csv,
    csv_bytes,
    few,
    in_file,
    parse_classes,
    read_classes,
)
from esv_ray.input.class_rows import class_rows
from esv_ray.input.faults import Lines, RecordError

__all__ = [
    "MOST_TABLE_BYTES",
    "classes_csv",
    "few",
    "in_file",
    "parse_classes",
    "parse_prior",
    "prior_csv",
    "read_classes",
    "read_prior",
]

_SUM_ERROR = 1e-4  # of shares, as `check_prior` has it
_PERCENT_ERROR = 0.1  # percents are rounded
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# Digits in groups of three, as spreadsheets show counts; one group alone may as well be a fraction of three digits.
_GROUPS = re.compile(r"([+-]?[1-9][0-9]{0,2}([.,'_\s\u2019])[0-9]{3}(?:\2[0-9]{3})*)(?:[.,][0-9]*)?")
_GROUP = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")


def parse_prior(data: bytes, n_classes: int | None = None) -> Tensor:
    """Read (C,) float64 from a CSV with header class,prior: every class 0..C-1 once, sums to one.

    Raises:
        ModelError: the content is malformed, or holds counts or percents.
    """
    prior, quantity = _prior(data, n_classes)
    if quantity is not None:
        raise ModelError(
            f"prior: expected probabilities that sum to 1, got {quantity} with a sum of {float(prior.sum()):.6g}; "
            "divide each by their sum"
        )
    return check_prior(prior)


def read_prior(url: str, names: Sequence[str] | None = None) -> tuple[Tensor, list[str]]:
    """Read a prior file as `parse_prior` does, but divide counts and percents by their sum.

    Args:
        url: location of the file.
        names: of the classes, which may stand for their ids; None: not known.

    Returns:
        The prior, (C,) float64, and notes: what was divided, and which classes have a prior of 0.

    Raises:
        ModelError: the content is malformed; names the file.
    """
    data = storage.read_bytes(url, "read the prior", most=MOST_TABLE_BYTES)
    with in_file(url):
        prior, quantity = _prior(data, None, names)
        notes = []
        if quantity is not None:
            notes.append(f"prior: {quantity}, divided by their sum {float(prior.sum()):.6g}")
            prior = prior / prior.sum()
        zeros = torch.nonzero(check_prior(prior) == 0)[:, 0].tolist()
        if zeros:
            notes.append(f"prior of 0 for {len(zeros)} of {len(prior)} classes: {few(zeros)}")
        return prior, notes


def prior_csv(prior: Tensor) -> bytes:
    """Write a prior as `parse_prior` reads it, to the last bit."""
    return csv_bytes(["class", "prior"], [[str(index), repr(float(value))] for index, value in enumerate(prior)])


def _prior(data: bytes, n_classes: int | None, names: Sequence[str] | None = None) -> tuple[Tensor, str | None]:
    """Read the column `prior`: (C,) float64, and its quantity if not shares ("counts", "percents"), else None."""
    rows = by_class(
        class_rows(data, "class", "prior", names), n_classes, missing="; a class without videos has prior 0"
    )
    cells = {row.class_id: row.value.strip() for row in rows}
    signed = all(text.endswith("%") for text in cells.values())
    if signed:
        cells = {class_id: text.removesuffix("%").strip() for class_id, text in cells.items()}
    texts = cells
    if rows[0].delimiter != "," and not any("." in text for text in texts.values()):
        texts = {class_id: text.replace(",", ".", 1) for class_id, text in texts.items()}  # a decimal comma
    values, faults = [], Lines("class")
    for class_id, text in texts.items():
        with faults.at(class_id):
            values.append(_value(text, cells[class_id]))
    if wrong := faults.text():
        raise ModelError(wrong)
    total, prior = math.fsum(values), torch.tensor(values, dtype=torch.float64)
    if abs(total - 1) <= _SUM_ERROR and not signed:
        return prior, None
    percents = abs(total - 100) <= _PERCENT_ERROR
    if not signed:
        _check_groups(cells, percents=percents)
    if total > 1 and not signed and all(value.is_integer() for value in values):
        return prior, "counts"
    if percents:
        return prior, "percents"
    raise ModelError(
        f"prior: expected probabilities that sum to 1 (or counts, or percents), got a sum of {total:.6g}"
        + (" %" if signed else "")
        + "; check that no class is missing"
    )


def _check_groups(cells: Mapping[int, str], *, percents: bool) -> None:
    """Refuse counts of which one may be read as a thousand times another: 1,000 beside 500.

    Args:
        cells: by class, as they are.
        percents: whether they sum to 100 as fractions.

    Raises:
        ModelError: fractions of three digits are ambiguous with groups of three digits.
    """
    grouped = [class_id for class_id, text in cells.items() if _GROUP.fullmatch(text)]
    others = [text for text in cells.values() if not _GROUP.fullmatch(text)]
    if not grouped:
        return
    # Fractions are written in every cell: 0.000 beside 5.000. Counts of less than a thousand have no group.
    if all(re.search("[.,]", text) for text in others) and (others or percents):
        return
    if all(re.fullmatch(r"[+-]?\d+([.,]0*)?", text, re.ASCII) for text in others):
        faults = Lines("class")
        for class_id in grouped:
            with faults.at(class_id):
                raise _grouped(cells[class_id])
        raise ModelError(faults.text())


def _grouped(text: str) -> RecordError:
    match = _GROUPS.fullmatch(text)
    assert match is not None
    plain = re.sub(r"[^0-9+-]", "", match[1])
    either = f", which may be {plain} or {float(text.replace(',', '.')):g}" if _GROUP.fullmatch(text) else ""
    return RecordError(
        "expected a number without thousands separators", f"got {text!r:.40}{either}; write {plain} if it is that"
    )


def _value(text: str, cell: str) -> float:
    """Read a class's prior: finite, >= 0; `cell` is its text in the file."""
    if not text or text.lower() in ("nan", "na", "null", "none"):
        raise RecordError("expected a prior", f"got {text or 'nothing'}; give 0 if it has no video")
    if not _NUMBER.fullmatch(text):
        if _GROUPS.fullmatch(cell):
            raise _grouped(cell)
        raise RecordError("expected numbers in the column prior", f"got {text!r:.40}")
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise RecordError("expected a prior from 0 to 1", f"got {text:.40}")
    return value
