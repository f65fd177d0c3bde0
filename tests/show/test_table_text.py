"""Tables as text: everything fits, names are shortened in the middle, numbers never."""

from __future__ import annotations

from decimal import Decimal

import pytest
from rich.cells import cell_len

from esv_ray.show.table_text import table_lines, value_text

LONG = "Moving something and something so they collide with each other"


def test_names_are_shortened_in_the_middle_and_numbers_never() -> None:
    rows = [[1, LONG, 123456789012, 0.123456789], [22, "Pouring something into something", None, -1e-9]]
    lines = table_lines(["id", "name", "count", "mean"], rows, 60)
    assert [cell_len(line) <= 60 for line in lines] == [True] * 4
    assert "Moving som" in lines[2]
    assert "each other" in lines[2]
    assert "..." in lines[2]
    assert "123456789012" in lines[2]
    assert "0.123457" in lines[2]
    assert lines[3].endswith("-1e-09")
    assert table_lines(["a"], [[LONG]], 80)[2] == LONG


def test_wide_tables_become_blocks() -> None:
    names = [f"column_{number}" for number in range(12)]
    lines = table_lines(names, [[1234567890123] * 12, [None] * 12], 80)
    assert lines[0] == "row 1"
    assert lines[1] == "column_0   1234567890123"
    assert "row 2" in lines
    assert max(map(len, lines)) <= 80


def test_lists_are_shortened_by_whole_numbers() -> None:
    scores = [number / 1000 for number in range(174)]
    [_, _, line] = table_lines(["scores", "n"], [[scores, 174]], 40)
    assert line.endswith("174")
    assert "... 174]" in line
    shown = line[1 : line.index("...")].split(", ")[:-1]
    assert [float(text) for text in shown] == scores[: len(shown)]


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\x07", "\u202eabc", "\r", "\x00", "\x9b31m"])
def test_control_characters_are_escaped(text: str) -> None:
    for lines in (table_lines([text], [[text]], 80), table_lines([text] * 9, [[text * 9] * 9], 40)):
        assert all(line.isprintable() for line in lines)


def test_wide_characters_are_aligned() -> None:
    lines = table_lines(["名前", "n"], [["何かを何かの中に入れる" * 4, 1], ["a", 22]], 40)
    assert {cell_len(line) for line in lines} == {40}


def test_no_rows_and_other_values() -> None:
    assert table_lines(["a", "b"], [], 80) == ["a  b", "─  ─"]
    assert value_text({"a": [1, None, "x"], "b": 0.5}) == "{a: [1, , x], b: 0.5}"
    assert [value_text(value) for value in (True, b"\x01\xff", Decimal("1.50"), float("nan"), 10**40)] == [
        *("True", "01ff", "1.50", "nan", str(10**40))
    ]
