"""Texts that are shortened: they fit, in cells of a terminal, and different ones look different."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from esv_ray.show.text import ClassText, distinct, shortened

SIMILAR = (
    "Putting something, something and something on the table",
    "Putting something similar to other things that are already on the table",
    "Putting something on the table",
    "Putting something upright on the table",
    "Moving something away from the camera",
    "Moving something toward the camera",
    "Pushing something so that it falls off the table",
    "Pushing something so that it almost falls off the table",
)
"""Class names of Something-Something V2."""
ALPHABETS = ("ab ", "何かを中の", "aé🙂何\u0301\ufe0f", "a\n\x1b\u202e")


def random_texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(ALPHABETS[seed % 4], k=draw.randrange(120))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most", [12, 29, 44, 80])
def test_shortened_texts_fit_in_cells(seed: int, most: int) -> None:
    texts = random_texts(seed, 60)
    classes = [ClassText(text, number) for number, text in enumerate(texts)]
    for text in (*(shortened(text, most) for text in texts), *distinct(texts, most), *distinct(classes, most)):
        assert cell_len(text) <= most
        assert text.isprintable()


@pytest.mark.parametrize("most", [12, 20, 29, 30, 44, 60])
def test_different_classes_look_different(most: int) -> None:
    """Also two classes of one name, and one whose rival is not in the table."""
    names = [*SIMILAR, SIMILAR[0]]
    shown = distinct([ClassText(name, number) for number, name in enumerate(names)], most)
    assert len({*shown}) == len(names)
    for number, text in enumerate(shown):
        assert distinct([ClassText(names[number], number)], most, names) == [text]
        assert text in (shortened(names[number], most), f"{shortened(names[number], most - 4)} ({number})")
    assert shown[8].endswith(" (8)")


def test_names_that_look_different_have_no_id() -> None:
    texts = [ClassText("Pouring", 0), ClassText("Moving", 1), ClassText("Pouring", 0)]
    assert distinct(texts, 20) == ["Pouring", "Moving", "Pouring"]


def test_texts_without_an_id_are_cut_where_they_differ() -> None:
    ids = [f"train/{'0' * 30}{part}{'1' * 30}/clip" for part in "ab"]
    ids += [f"{name}{'0' * 40}" for name in ("x" * 14 + "y", "x" * 14 + "z")]
    shown = distinct(ids, 20)
    assert len({*shown[2:]}) == 2
    assert max(map(len, shown)) == 20
