"""Labels that are names of classes: taken where the names are known, refused where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.errors import DataError
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import list_files
from esv_ray.input.label_names import ClassNames
from esv_ray.input.labels import read_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.plain import LONGEST_LABEL
from esv_ray.input.reading import check_label_names, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.input.videos import VideoRequest, read_videos
from tests.conftest import make_table

D, BUDGET = 4, 10**8
CLASSES = ("archery", "bowling", "riding a bike")


def table_with(label: pa.Array | None, rows: int | None = None) -> pa.Table:
    count = rows if label is None else len(label)
    table = make_table([2] * (count or 0), feature_dim=D, n_classes=None)
    return table if label is None else table.append_column("label", label)


def read_back(path: Path, classes: tuple[str, ...] | None = CLASSES, **options: Any) -> FeatureRows:
    (unit,) = plan_units(read_footers(list_files(str(path))), 100_000)
    contract = Contract(D, len(classes or CLASSES), classes=classes, **options)
    return read_rows(unit, UnitReader(contract, BUDGET))


def labels_of(rows: FeatureRows) -> list[int | None]:
    return [rows.label(row) for row in range(len(rows.ids))]


NAMES = ["bowling", "archery", None, "riding a bike", "bowling"]
KINDS = {
    "text": pa.array(NAMES),
    "large text": pa.array(NAMES, pa.large_string()),
    "view": pa.array(NAMES, pa.string_view()),
    "categories": pa.array(NAMES).dictionary_encode(),
    "bytes": pa.array([None if name is None else name.encode() for name in NAMES]),
    "fixed size": pa.array([None if name is None else name.encode().ljust(16, b"\0") for name in NAMES], pa.binary(16)),
    "spaces around": pa.array(["bowling ", " archery", None, "riding a bike\n", "bowling"]),
    "ids among them": pa.array(["1", "archery", None, "2.0", "bowling"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_labels(kind: str, tmp_path: Path) -> None:
    pq.write_table(table_with(KINDS[kind]), tmp_path / "a.parquet", row_group_size=5)
    rows = read_back(tmp_path)
    assert (labels_of(rows), rows.faults) == ([1, 0, None, 2, 1], {})


@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=9),
    data=st.data(),
)
def test_every_name_of_one_class_alone_is_its_id(names: list[str], data: st.DataObject) -> None:
    """By any list of names: a label is one id, or the row fails."""
    classes = ClassNames.of(names)
    labels = data.draw(st.lists(st.none() | st.sampled_from(names) | st.integers(-1, 9).map(str), max_size=9))
    column = pa.array([None if label is None else label.encode() for label in labels], pa.large_binary())
    read = read_labels(column, len(names), classes=classes)
    stripped = [name.strip() for name in names]
    for row, label in enumerate(labels):
        if label is None:
            assert (read.labelled[row], row in read.faults) == (False, False)
            continue
        number = int(label) if label.isascii() and label.lstrip("-").isdigit() and label.count("-") < 2 else None
        meant = {index for index, name in enumerate(stripped) if name and name == label.strip()}
        meant |= {number} - {None} if number is not None else set()
        if len(meant) == 1 and 0 <= max(meant) < len(names):
            assert (read.labelled[row], int(read.ids[row])) == (True, *meant)
        elif label.strip():
            assert row in read.faults


NO_CLASS = "is not a class: expected an id, or a name in the classes.csv in use"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("Archery", f"label 'Archery' {NO_CLASS}; did you mean 'archery'?"),
        ("golf", f"label 'golf' {NO_CLASS}"),
        ("", f"label '' {NO_CLASS}"),
        ("1.5", f"label '1.5' {NO_CLASS}"),
        (b"\xff", f"label '\ufffd' {NO_CLASS}"),
        ("x" * 600, f"label '{'x' * 40}' is longer than 512 bytes"),
    ],
)
def test_a_label_that_is_no_class_fails_its_row_alone(label: str | bytes, reason: str, tmp_path: Path) -> None:
    data = label.encode() if isinstance(label, str) else label
    pq.write_table(table_with(pa.array([b"bowling", data, b"archery"])), tmp_path / "a.parquet")
    rows = read_back(tmp_path)
    assert (labels_of(rows), rows.faults) == ([1, None, 0], {1: reason})


def test_an_id_out_of_range_fails_as_a_number_does(tmp_path: Path) -> None:
    faults = []
    for label in (pa.array(["bowling", "3", "archery"]), pa.array([1, 3, 0])):
        pq.write_table(table_with(label), tmp_path / "a.parquet")
        rows = read_back(tmp_path)
        assert (labels_of(rows), list(rows.faults)) == ([1, 3, 0], [1])
        faults.append(rows.faults[1].replace("'", ""))
    assert faults[0] == faults[1]


def test_a_long_name_that_begins_like_another_is_not_it(tmp_path: Path) -> None:
    """Text is cut after 513 bytes, so that a name of so many bytes would match a longer one."""
    pq.write_table(table_with(pa.array(["n" * 600, "n" * LONGEST_LABEL])), tmp_path / "a.parquet")
    rows = read_back(tmp_path, ("n" * LONGEST_LABEL, "n" * (LONGEST_LABEL + 1)))
    assert (labels_of(rows), list(rows.faults)) == ([None, 0], [0])


def test_names_that_mean_several_classes_or_an_id_too(tmp_path: Path) -> None:
    """ImageNet has two classes "crane"; classes may be named by numbers that are not their ids."""
    pq.write_table(table_with(pa.array(["crane", "2", "0", "4", "1"])), tmp_path / "a.parquet")
    rows = read_back(tmp_path, ("crane", "1", "crane", "2"))
    assert labels_of(rows) == [None, None, 0, 4, 1]
    assert list(rows.faults) == [0, 1, 3]
    assert rows.faults[0] == "label 'crane' is the name of 2 classes (0, 2): store the id of the class"
    assert rows.faults[1] == (
        "label '2' is ambiguous: the id of a class, and the name of class 3; store ids as integers"
    )
    pq.write_table(table_with(pa.array([2, 1])), tmp_path / "a.parquet")
    assert labels_of(read_back(tmp_path, ("crane", "1", "crane", "2"))) == [2, 1]


def test_marks_of_unlabelled_videos_beside_names(tmp_path: Path) -> None:
    pq.write_table(table_with(pa.array(["-1", "bowling"])), tmp_path / "a.parquet")
    rows = read_back(tmp_path, unlabelled=(-1,))
    assert (labels_of(rows), rows.faults) == ([None, 1], {})


# Directories ----------------------------------------------------------------------------------------------------------


def test_names_of_directories(tmp_path: Path) -> None:
    for name, label in (("label=riding%20a%20bike", None), ("label=archery", pa.array(["archery", "0", "1"]))):
        (tmp_path / name).mkdir()
        pq.write_table(table_with(label, 3), tmp_path / name / "a.parquet")
    rows = read_back(tmp_path / "label=riding%20a%20bike")
    assert (labels_of(rows), rows.faults) == ([2, 2, 2], {})
    rows = read_back(tmp_path / "label=archery")
    assert (labels_of(rows), rows.faults) == ([0, 0, 1], {2: "label 1, but its folder is label=archery"})


def test_a_directory_that_names_no_class_fails_its_rows(tmp_path: Path) -> None:
    (tmp_path / "label=golf").mkdir()
    pq.write_table(table_with(None, 2), tmp_path / "label=golf" / "a.parquet")
    rows = read_back(tmp_path / "label=golf")
    assert list(rows.faults) == [0, 1]
    assert rows.faults[0].startswith("label 'golf' is not a class")


# Where names are not known --------------------------------------------------------------------------------------------


def refused(url: Path, budget: int = BUDGET) -> str | None:
    try:
        check_label_names(read_footers(list_files(str(url))), budget, "the table", "add them")
    except DataError as error:
        return str(error)
    return None


def test_a_table_of_names_is_refused_where_they_are_not_known(tmp_path: Path) -> None:
    pq.write_table(table_with(pa.array([None] * 40 + ["golf", "bowling"])), tmp_path / "a.parquet", row_group_size=7)
    assert refused(tmp_path) == (
        "the table: column label holds names of classes, such as 'golf', whose ids are not known; add them, or store "
        "ids (esv import features --classes)"
    )
    with pytest.raises(DataError, match=r"holds names of classes, such as 'golf'.*; give them, or store ids"):
        read_videos(str(tmp_path), VideoRequest(names_advice="give them"))
    videos, faults = read_videos(str(tmp_path), VideoRequest(classes=("bowling", "golf")))
    assert ([video.label for video in videos[-2:]], len(videos), faults.total()) == ([1, 0], 42, 0)


def test_a_directory_with_a_name_is_refused_where_it_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "label=golf").mkdir()
    pq.write_table(table_with(None, 2), tmp_path / "label=golf" / "a.parquet")
    assert "such as 'golf'" in str(refused(tmp_path))


@pytest.mark.parametrize(
    "label",
    [
        pa.array(["1", "0", "2.0"]),
        pa.array(["golf", "0", "1"]),
        pa.array([2, 1, 0]),
        pa.array(["", "", ""]),
        pa.array([None, None, None], pa.string()),
        pa.array([b"1", b"\xff", b"0"]),
    ],
    ids=["digits", "one name", "numbers", "nothing", "no label", "bytes"],
)
def test_other_tables_are_not(label: pa.Array, tmp_path: Path) -> None:
    """A name among ids is a fault of its row."""
    pq.write_table(table_with(label), tmp_path / "a.parquet")
    assert refused(tmp_path) is None
    rows = read_back(tmp_path, None)
    for row, value in enumerate(label.to_pylist()):
        if value == "golf":
            assert rows.faults[row] == (
                "label 'golf' is not a class id: expected a whole number; names need a classes.csv"
            )


def test_a_row_group_beyond_the_budget_is_not_decoded_for_its_names(tmp_path: Path) -> None:
    pq.write_table(table_with(pa.array(["golf"] * 1000)), tmp_path / "a.parquet")
    assert refused(tmp_path, 1000) is None
    assert refused(tmp_path) is not None
