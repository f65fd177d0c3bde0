"""Results as CSV, JSON and Parquet: the values come back."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.result_files import write_rows
from esv_ray.errors import SpecError

TEXTS = ["plain", 'a "quoted", text', "two\nlines\r", "=1+1", "", None, "\x1b[31m", " space ", "é名"]
TABLE = pa.table(
    {
        "text, with comma": TEXTS,
        "esv": pa.array([0.1, -1e-7, np.nan, None, np.inf, 1 / 3, 1e30, 0.0, 2.0**-149], pa.float32()),
        "mean": pa.array([0.1, -1e-300, np.nan, None, -np.inf, 1 / 3, 1e300, 0.0, 5e-324]),
        "n": pa.array([1, -(2**63), 2**63 - 1, None, 0, 2**53 + 1, 7, 8, 9], pa.int64()),
        "sum": pa.array([Decimal(10**30), None, *map(Decimal, range(7))], pa.decimal128(38, 0)),
        "list": pa.array([[0.1, None], [], None, [1.0], [2.0], [3.0], [4.0], [5.0], [np.nan]], pa.list_(pa.float32())),
        "exact": [True, False, None, True, True, True, True, True, True],
        "day": pa.array([date(2026, 1, 2)] * 9),
        "bytes": pa.array([b"\xff\x00"] * 9),
    }
)


def content(kind: str, table: pa.Table = TABLE) -> bytes:
    file = io.BytesIO()
    assert write_rows(table.schema, table.to_batches(4), kind, file) == table.num_rows
    return file.getvalue()


def test_parquet_holds_the_table() -> None:
    got = pq.read_table(io.BytesIO(content("parquet")))
    assert got.schema.equals(TABLE.schema)
    assert all(got[name].to_pylist() == TABLE[name].to_pylist() for name in ("text, with comma", "n", "sum", "day"))
    assert np.array_equal(got["esv"].to_numpy(), TABLE["esv"].to_numpy(), equal_nan=True)


def test_csv_gives_the_values_back() -> None:
    data = content("csv").decode()
    head, *rows = list(csv.reader(io.StringIO(data, newline="")))
    assert head == TABLE.column_names
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    assert columns["text, with comma"] == tuple(text or "" for text in TEXTS)
    assert '\n"",' in data  # an empty text
    esv = [np.float32(text) if text else None for text in columns["esv"]]
    for got, expected in zip(esv, TABLE["esv"].to_pylist(), strict=True):
        assert got == expected or (got is not None and np.isnan(got) and np.isnan(expected))
    assert columns["esv"][0] == "0.1"
    assert [int(text) if text else None for text in columns["n"]] == TABLE["n"].to_pylist()
    assert columns["sum"][0] == str(10**30)
    assert [json.loads(text) if text else None for text in columns["list"][:4]] == [[0.1, None], [], None, [1.0]]
    assert columns["exact"][:3] == ("true", "false", "")
    assert (columns["day"][0], columns["bytes"][0]) == ("2026-01-02", "ff00")


def test_json_gives_the_values_back() -> None:
    rows = json.loads(content("json"), parse_constant=lambda name: pytest.fail(name))
    assert [row["text, with comma"] for row in rows] == TEXTS
    assert [row["n"] for row in rows] == TABLE["n"].to_pylist()
    assert [row["mean"] for row in rows] == [0.1, -1e-300, None, None, None, 1 / 3, 1e300, 0.0, 5e-324]
    assert rows[0]["sum"] == 10**30
    assert rows[0]["list"] == [0.1, None]
    assert rows[8]["list"] == [None]


def test_no_rows() -> None:
    none = TABLE.slice(0, 0)
    assert json.loads(content("json", none)) == []
    assert content("csv", none).decode().count("\n") == 1
    assert pq.read_table(io.BytesIO(content("parquet", none))).schema.equals(TABLE.schema)


def test_types_that_parquet_lacks() -> None:
    months = pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(SpecError, match="parquet: expected columns that Parquet can hold, got month_day_nano_interval"):
        content("parquet", months)
    assert content("csv", months).decode().startswith("a\n")
