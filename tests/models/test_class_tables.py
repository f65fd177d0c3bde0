"""Priors and class names as spreadsheets, pandas and others write them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import pytest

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import parse_classes, parse_prior, read_classes, read_prior

HALVES = "0,0.5\n1,0.5\n"


@pytest.mark.parametrize(
    "text",
    [
        f"class, prior\n{HALVES.replace(',', ', ')}",
        f" class , prior \n{HALVES.replace(',', ' , ')}",
        f"Class,PRIOR\n{HALVES}",
        f"\ufeffclass,prior\r\n{HALVES}",
        f"class;prior\n{HALVES.replace(',', ';')}",
        "class;prior\n0;0,5\n1;0,5\n",
        f"sep=;\r\nclass;prior\r\n{HALVES.replace(',', ';')}",
        "class\tprior\n0\t0.5\n1\t0.5\n",
        "class|prior\n0|0.5\n1|0.5\n",
        ",class,prior\n0,0,0.5\n1,1,0.5\n",
        f",prior\n{HALVES}",
        "class,prior\r0,0.5\r1,0.5\r",
        "class,prior\n0.0,0.5\n1.0,0.5\n",
        "prior,name,class\n0.5,b,1\n0.5,a,0\n",
        "\nclass,prior\n\n0,0.5\n,\n1,0.5\n\n",
        "class,prior,\n0,0.5,\n1,0.5,\n",
        "class,prior\n0,.5\n1,5E-1",
    ],
    ids=range(17),
)
def test_a_prior_that_is_clear_is_taken(text: str) -> None:
    assert parse_prior(text.encode(), 2).tolist() == [0.5, 0.5]


def test_names_of_known_classes_stand_for_ids(tmp_path: Path) -> None:
    path = tmp_path / "prior.csv"
    path.write_text("class,prior\n walk ,1\n2,2\nopen door,5\n")
    prior, _ = read_prior(str(path), ["open door", "walk", "7"])
    assert prior.tolist() == [0.625, 0.125, 0.25]
    refused: dict[tuple[str, ...] | None, str] = {
        None: "whole number from 0 as class, got 'walk'; names are taken where the names of the classes are known",
        ("walk", "run", ""): "whole number from 0 or one of the class names as class, got 'open door'",
        ("walk", "open door", "walk"): "row 2: a name that could mean another class: 'walk' is class 0, 2",
        ("2", "walk", "open door"): "row 3: a name that could mean another class: '2' is class 0; give ids",
    }
    empty = tmp_path / "empty.csv"
    empty.write_text("class,prior\n,1\n1,2\n")
    with pytest.raises(
        ModelError, match="row 2: expected a whole number from 0 or one of the class names as class, got"
    ):
        read_prior(str(empty), ["", "walk"])
    for names, message in refused.items():
        with pytest.raises(ModelError, match=message):
            read_prior(str(path), names)


def test_utf_16_is_taken_where_it_is_marked() -> None:
    text = f"class,prior\n{HALVES}"
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert parse_prior(mark + text.encode(encoding)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("0,50\n1,30\n", "counts, divided by their sum 80"),
        ("0,5.0\n1,3.0\n", "counts, divided by their sum 8"),
        ("0,62.5\n1,37.5\n", "percents, divided by their sum 100"),
        ("0,62.5%\n1,37.5 %\n", "percents, divided by their sum 100"),
    ],
)
def test_counts_and_percents_are_divided_by_their_sum_and_that_is_said(tmp_path: Path, rows: str, what: str) -> None:
    path = tmp_path / "prior.csv"
    path.write_text(f"class,prior\n{rows}")
    prior, notes = read_prior(str(path))
    assert prior.tolist() == [0.625, 0.375]
    assert notes == [f"prior: {what}"]
    with pytest.raises(ModelError, match="expected probabilities that sum to 1, got"):
        parse_prior(path.read_bytes(), 2)  # in a bundle nobody would be told


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("class;prior\n0;1,000\n1;500\n2;0\n", "class 0: expected a number without thousands separators, got '1,000'"),
        ("class;prior\n0;500\n1;1.000\n2;0\n", "class 1: expected a number without thousands separators, got '1.000'"),
        ("class\tprior\n0\t1,000\n1\t500\n", "got '1,000', which may be 1000 or 1; write 1000 if it is that"),
        ("class\tprior\n0\t12.500\n1\t500\n", "got '12.500', which may be 12500 or 12.5; write 12500 if it is that"),
        ("class|prior\n0|1,000\n1|99\n", "write 1000 if it is that"),  # as fractions they sum to 100
        ("class;prior\n0;1,000\n1;2,000\n", "write 1000 if it is that"),
        ("class;prior\n0;1,250\n1;2,000\n", "write 1250 if it is that"),
        ("class,prior\n0,1.000\n1,500\n", "write 1000 if it is that"),
        ("class,prior\n0,1.000\n1,5.0\n2,500\n", "write 1000 if it is that"),
        ('class,prior\n0,"1,000"\n1,500\n', "got '1,000', which may be 1000 or 1; write 1000 if it is that"),
        ("class;prior\n0;1.000.000\n1;500\n", "got '1.000.000'; write 1000000 if it is that"),
        ("class;prior\n0;1,000,000\n1;500\n", "got '1,000,000'; write 1000000 if it is that"),
        ("class;prior\n0;1,234.0\n1;500\n", "got '1,234.0'; write 1234 if it is that"),
        ("class;prior\n0;1.234,0\n1;500\n", "got '1.234,0'; write 1234 if it is that"),
        ("class;prior\n0;1 000\n1;500\n", "got '1 000'; write 1000 if it is that"),
        ("class;prior\n0;1\u202f000\n1;500\n", "write 1000 if it is that"),
        ("class;prior\n0;1'000\n1;500\n", "write 1000 if it is that"),
    ],
)
def test_counts_with_thousands_separators_are_refused(tmp_path: Path, text: str, part: str) -> None:
    """1,000 as a decimal would make a class a thousand times rarer, and nobody would be told."""
    path = tmp_path / "prior.csv"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_prior(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: class ")
    assert part in message
    assert message.splitlines() == [message]


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("class;prior\n0;0,125\n1;0,875\n", [0.125, 0.875]),
        ("class;prior\n0;0.125\n1;0.875\n", [0.125, 0.875]),
        ("class,prior\n0,1.000\n1,0.000\n", [1, 0]),
        ("class;prior\n0;1,000\n1;0\n", [1, 0]),  # the same either way
        ("class,prior\n0,0.000\n1,5.000\n2,3.000\n", [0, 0.625, 0.375]),  # counts, as pandas' %.3f writes them
        ("class,prior\n0,1500.000\n1,500.000\n", [0.75, 0.25]),
        ("class,prior\n0,62.500\n1,37.500\n", [0.625, 0.375]),  # percents
        ("class;prior\n0;62,500 %\n1;37,500 %\n", [0.625, 0.375]),
    ],
)
def test_fractions_of_three_digits_are_taken_where_they_are_clear(
    tmp_path: Path, text: str, prior: Sequence[float]
) -> None:
    path = tmp_path / "prior.csv"
    path.write_text(text)
    assert read_prior(str(path))[0].tolist() == prior


def test_classes_with_a_prior_of_0_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prior.csv"
    path.write_text("class,prior\n" + "".join(f"{index},{index // 9}\n" for index in range(10)))
    assert read_prior(str(path))[1] == ["prior of 0 for 9 of 10 classes: 0, 1, 2, 3, 4, ..."]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("class,prior\n1,0.5\n2,0.5\n", "0..1, got 2 rows with ids 1..2: ids count from 0, as labels do; subtract 1"),
        ("class,prior\n0,0.5\n2,0.5\n", "got 2 rows: class 1 missing; a class without videos has prior 0"),
        ("class,prior\n0,0.5\n0,0.25\n1,0.25\n", "class 0 more than once"),
        ("class,prior\n-1,0.5\n0,0.5\n", "row 2: expected a whole number from 0 as class, got '-1'"),
        ("class,prior\n0.5,1\n", "got '0.5'"),
        ("class,prior\nrun,0.5\nwalk,0.5\n", "row 2: expected a whole number from 0 as class, got 'run'"),
        ("class,prior\n0,1.5\n1,-0.5\n", "class 1: expected a prior from 0 to 1, got -0.5"),
        ("class,prior\n0,1\n1,nan\n", "class 1: expected a prior, got nan; give 0 if it has no video"),
        ("class,prior\n0,1\n1,\n", "class 1: expected a prior, got nothing"),
        ("class,prior\n0,inf\n1,0.5\n", "class 0: expected numbers in the column prior, got 'inf'"),
        ("class,prior\n0,1e999\n1,0.5\n", "class 0: expected a prior from 0 to 1, got 1e999"),
        ("class,prior\n0,1_0\n1,0.5\n", "got '1_0'"),
        ("class,prior\n0,62.5%\n1,0.375\n", "class 0: expected numbers in the column prior, got '62.5%'"),
        ("class,prior\n0,0.5\n1,0.3\n", "got a sum of 0.8; check that no class is missing"),
        ("class,prior\n0,62.5%\n1,30%\n", "got a sum of 92.5 %"),
        ("class,prior\n0,0\n1,0\n", "got a sum of 0"),
        ("class,prior\n0,0,5\n1,0,5\n", "row 2: expected 2 cells, got 3"),
        ("class,prior,Prior\n0,0.5,1\n1,0.5,1\n", "got 2 columns 'prior'; keep one"),
        ("0,0.5\n1,0.5\n", "got no header but '0,0.5'; begin the file with the line class,prior"),
        ("id,p\n0,0.5\n1,0.5\n", "got the header 'id,p'; rename its columns"),
        ('{"0": 0.5}', "got JSON; save it as CSV"),
        ("", "expected one row for every class, got 0 rows"),
        ("class,prior\n", "expected one row for every class, got 0 rows"),
    ],
)
def test_a_prior_that_is_not_clear_is_refused_with_what_to_do(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "prior.csv"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_prior(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert part in message
    assert message.splitlines() == [message]


def test_other_encodings_are_refused() -> None:
    for data in ("class,prior,name\n0,1,é\n".encode("latin-1"), b"PK\x03\x04\xff"):
        with pytest.raises(ModelError, match="save it as CSV in UTF-8"):
            parse_prior(data)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Name;ID\na, b;0\nc;1\n", ("a, b", "c")),
        ('name, id\n"a, b", 0\n c, 1\n', ("a, b", "c")),
        ('id\tname\n1\tc\n0\t"a, b"\n', ("a, b", "c")),
        (',name\n0,"a, b"\n1,c\n', ("a, b", "c")),
        ('name,id\n" a",0\n"b ",1\n', (" a", "b ")),
    ],
)
def test_class_names_that_are_clear_are_taken(text: str, names: tuple[str, ...]) -> None:
    assert parse_classes(text.encode(), 2) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,id\na,0\nb,1\n", []),
        ("name,id\ncrane,0\nb,1\ncrane ,2\n", ["names of several classes: 'crane' (0, 2)"]),
        ('name,id\n,0\na,1\n"  ",2\n', ["2 of 3 classes have an empty name: 0, 2"]),
    ],
)
def test_names_by_which_nobody_can_tell_classes_are_named(tmp_path: Path, text: str, message: Sequence[str]) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    names, notes = read_classes(str(path))
    assert names == parse_classes(text.encode())
    assert notes == [f"{path}: {note}" for note in message]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name,id\na,1\nb,2\nc,3\n", "0..2, got 3 rows with ids 1..3: ids count from 0"),
        ("name,id\na,0\nb,2\n", "0..2, got 2 rows: class 1 missing"),
        ("name,id\na,0\nb,1\nc,2\nd,3\n", "0..2, got 4 rows: class 3 is not among them"),
        ("id,name\n0,a, b\n1,c\n2,d\n", "row 2: expected 2 cells, got 3; put names that hold ',' in quotes"),
        ("Approaching,0\nb,1\nc,2\n", "got no header but 'Approaching,0'"),
        ("name,id\na\nb\n", "row 2: expected 2 cells, got 1"),
    ],
)
def test_class_names_that_are_not_clear_are_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_classes(str(path), 3)
    assert str(caught.value).startswith(f"{path}: ")
    assert part in str(caught.value)
