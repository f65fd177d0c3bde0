"""prior.csv and classes.csv, in the authors' own formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.core.model import check_prior
from esv_ray.errors import ModelError

MOST_TABLE_BYTES = 50_000_000  # a line a class


def parse_prior(data: bytes, n_classes: int | None = None) -> Tensor:
    """(C,) float64 from a CSV with header class,prior: every class 0..C-1 once, sums to one.

    Raises:
        ModelError: it is anything else.
    """
    values = _by_class(data, "class", "prior", n_classes)
    try:
        prior = torch.tensor([float(value) for value in values], dtype=torch.float64)
    except ValueError as error:
        raise ModelError(f"expected numbers in the column prior: {error}") from None
    return check_prior(prior)


def parse_classes(data: bytes, n_classes: int | None = None) -> tuple[str, ...]:
    """Class names by id from a CSV with header name,id: every id 0..C-1 once.

    Raises:
        ModelError: it is anything else.
    """
    return tuple(_by_class(data, "id", "name", n_classes))


def read_prior(url: str) -> Tensor:
    """`parse_prior` of a file; its errors name it."""
    data = storage.read_bytes(url, "read the prior", most=MOST_TABLE_BYTES)
    with in_file(url):
        return parse_prior(data)


def read_classes(url: str, n_classes: int | None = None) -> tuple[str, ...]:
    """`parse_classes` of a file; its errors name it."""
    data = storage.read_bytes(url, "read the classes", most=MOST_TABLE_BYTES)
    with in_file(url):
        return parse_classes(data, n_classes)


@contextmanager
def in_file(url: str) -> Iterator[None]:
    """Name the file in a `ModelError` raised inside."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{url}: {error}") from None


def prior_csv(prior: Tensor) -> bytes:
    """A prior as `parse_prior` reads it, to the last bit."""
    return _csv(["class", "prior"], [[str(index), repr(float(value))] for index, value in enumerate(prior)])


def classes_csv(names: Sequence[str]) -> bytes:
    """Class names as `parse_classes` reads them."""
    return _csv(["name", "id"], [[name, str(index)] for index, name in enumerate(names)])


def _by_class(data: bytes, key: str, column: str, n_classes: int | None) -> list[str]:
    """The values of a column in the order of the class ids 0..C-1 in another."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        ids = [int(row[key]) for row in rows]
        values = {int(row[key]): row[column] for row in rows}
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ModelError(f"expected a CSV with the columns {key} (0..C-1) and {column}") from None
    expected = n_classes if n_classes is not None else len(rows)
    if len(ids) != expected or sorted(ids) != list(range(expected)) or None in values.values():
        raise ModelError(f"expected one row for every class 0..{expected - 1}, got {len(rows)} rows")
    return [values[index] for index in range(expected)]


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()
