"""Pages of facets: lines of at most 80 cells of a terminal, in which different names look different."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from esv_ray.analysis.facets.facet import Page
from esv_ray.analysis.facets.words import class_text
from esv_ray.analysis.pages import page_lines, wrapped

WIDE = (
    "把某物放在某物旁边然后假装什么都没有发生过" * 3,
    "把某物放在某物旁边" + "然后假装什么都没有发生过" * 4,
    "👨‍👩‍👧" * 40,
    "e\u0301" * 90,
)
ALIKE = (
    "Putting something on the table",
    "Putting something upright on the table",
    "Pushing something so that it falls off the table",
    "Pushing something so that it almost falls off the table",
    "",
)


def page_of(names: tuple[str, ...]) -> Page:
    """Return a page as that of confusions, with every class as label."""
    shown = [class_text(class_id, names) for class_id in range(len(names))]
    rows = [(name, shown[0], "12", "-0.123") for name in shown]
    return Page([f"{shown[0]} is often taken for {shown[1]}."], ("label", "predicted", "videos", "difference"), rows, 2)


@pytest.mark.parametrize("names", [WIDE, ALIKE, ("a\x1b[31mb" * 30, "a\nb" * 30)], ids=["wide", "alike", "hostile"])
def test_pages_fit_and_tell_names_apart(names: tuple[str, ...]) -> None:
    lines = list(page_lines(page_of(names), classes=names))
    assert max(map(cell_len, lines)) <= 80
    assert "".join(lines).isprintable()
    rows = lines[-len(names) :]
    assert len({*rows}) == len(names)
    assert all(row.endswith("    12      -0.123") for row in rows)


def test_similar_names_have_their_ids() -> None:
    rows = list(page_lines(page_of(ALIKE), classes=ALIKE))[-5:]
    assert [f" ({class_id})  Putting" in row for class_id, row in enumerate(rows)] == [True, True, True, True, False]
    assert rows[4].startswith("class 4 ")


def test_sentences_are_wrapped_by_cells() -> None:
    for text in ("把某物放在某物旁边" * 20, "把某物 放在 某物 旁边 " * 20, "ab " * 90, "x" * 300, "🙂" * 100):
        lines = wrapped(text)
        assert max(map(cell_len, lines)) <= 80
        assert "".join("".join(lines).split()) == "".join(text.split())
    assert not any(line.startswith("%") for width in range(8, 40) for line in wrapped("of 10 % " * 40, width))
