"""CSV for spreadsheets: texts are no formulas, numbers stay numbers, files stay small."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.analysis.csv_text import guarded_csv

SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("sign", SIGNS)
def test_no_cell_is_a_formula(sign: str) -> None:
    data, rows = guarded_csv(pa.table({"name": [f"{sign}cmd|' /C calc'!A0", "plain"], "value": [-1.5, 2.0]}), 1000)
    (head, first, second) = read(data)
    assert rows == 2
    assert head == ["name", "value"]
    assert first[0].startswith("'")
    assert first[1] == "-1.5"  # a number, not a text
    assert second == ["plain", "2.0"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text(texts: list[str]) -> None:
    """One row per text; none begins like a formula or has control characters."""
    table = pa.table({"name": texts, "other": [1] * len(texts)})
    rows = read(guarded_csv(table, 10**6)[0])
    assert len(rows) == 1 + len(texts)
    for row, text in zip(rows[1:], texts, strict=True):
        assert not row[0].startswith(SIGNS)
        assert row[0].isprintable()
        if text.isprintable() and not text.startswith(SIGNS):
            assert row[0] == text


@pytest.mark.parametrize("before", ["a;", "a; ", 'a;"', "a;'\"", "a;b; "])
@pytest.mark.parametrize("sign", SIGNS)
def test_no_cell_is_a_formula_where_semicolons_separate(sign: str, before: str) -> None:
    """Where the comma is a decimal point, spreadsheets separate by semicolons or tabs; quotation marks do not help."""
    data, _ = guarded_csv(pa.table({"name": [f"{before}{sign}1+1", "plain; text"], "value": [-1.5, 2.0]}), 1000)
    for delimiter in ";\t":
        for row in csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter):
            for cell in row:
                assert not cell.strip(" \"'").startswith(SIGNS) or cell.strip(' "').startswith("'")
    assert '"plain; text"' in data.decode()


def test_the_first_rows_of_a_large_table() -> None:
    table = pa.table({"value": range(100_000), "class": ["a class of some length"] * 100_000})
    data, rows = guarded_csv(table, 20_000)
    assert 20_000 < len(data) < 25_000
    assert 0 < rows < 1000
    assert [int(row[0]) for row in read(data)[1:]] == list(range(rows))


def test_no_rows_and_nulls() -> None:
    assert guarded_csv(pa.table({"a": pa.array([], pa.int32())}), 10) == (b"a\n", 0)
    assert guarded_csv(pa.table({"a": pa.array([None, "x"])}), 100)[0] == b"a\n\nx\n"
