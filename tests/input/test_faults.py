"""Faults of several inputs: all of them are reported, grouped by reason, each with one example in full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from esv_ray.errors import DataError, ModelError, SpecError
from esv_ray.extraction.videos.lists import read_list
from esv_ray.input.class_names import read_classes
from esv_ray.input.faults import Counts, Lines, RecordError, check_all
from esv_ray.input.sources.labels import read_labels
from esv_ray.input.sources.segments import read_segments
from esv_ray.models.class_tables import read_prior
from tests.support.command import run


def lines(faults: int, reason: str = "expected a number") -> Lines:
    found = Lines()
    for number in range(1, faults + 1):
        with found.at(number):
            raise RecordError(reason, f"got 'x{number}'")
    return found


def test_faults_of_one_reason_are_counted_and_the_first_is_whole() -> None:
    assert lines(0).text() == ""
    assert lines(1).text() == "line 1: expected a number, got 'x1'"
    assert lines(3).text() == "line 1: expected a number, got 'x1' [also 2, 3]"
    assert lines(100).text().endswith("[also 2, 3, 4, 5, 6, 7, 8, 9, 10 and 90 more]")


def test_reasons_are_bounded() -> None:
    found = Lines("row")
    for number in range(12):
        with found.at(number):
            raise RecordError(f"reason {'abcdefghijkl'[number]}")
    assert found.text().startswith("row 0: reason a; row 1: reason b; ")
    assert found.text().endswith("; row 9: reason j; and 2 other faults")


def test_counts_name_ten_and_detail_five() -> None:
    counts = Counts()
    for number in range(12):
        counts.add(RecordError("a fault", f"detail {number}"), f"v{number}")
    assert counts.text() == (
        "12: a fault: v0 (detail 0), v1 (detail 1), v2 (detail 2), v3 (detail 3), v4 (detail 4), "
        "v5, v6, v7, v8, v9, ..."
    )
    assert Counts(counts.stored()).text() == counts.text()


def failing(error: Exception) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


def test_independent_checks_are_reported_together() -> None:
    assert check_all({"a": lambda: 1, "b": lambda: 2}) == [1, 2]
    only = DataError("b: damaged")
    with pytest.raises(DataError) as caught:
        check_all({"a": lambda: 1, "b": failing(only)})
    assert caught.value is only
    with pytest.raises(ModelError) as both:
        check_all(
            {name: failing(ModelError(f"{name}: damaged")) for name in ("a.pth", "b.pth", "c.pth")}
            | {"d": failing(SpecError("no d"))}
        )
    assert str(both.value) == "4 inputs have faults: (1) a.pth: damaged [also b.pth, c.pth]; (2) no d"
    with pytest.raises(ZeroDivisionError):  # a fault of the program is not collected
        check_all({"a": failing(SpecError("a")), "b": failing(ZeroDivisionError())})


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (
            lambda url: read_labels(url, None),
            "video_id,label\n,1\na,1\n,2\n",
            "line 2: expected a video_id, got none [also 4]",
        ),
        (lambda url: read_labels(url, None), "video_id,label\na\nb,1\nc\n", "line 2: expected 2 cells, got 1 [also 4]"),
        (
            lambda url: read_segments(url, None, None),
            "video,start,stop\na,x,1\n,1,2\nb,y,2\n",
            "line 2: expected a frame number as start, got 'x' [also 4]; line 3: expected a video, got none",
        ),
        (
            read_list,
            "path,start\n,1\na.mp4,x\nb.mp4,y\n",
            "line 2: expected a path, got none; line 3: start: expected seconds",
        ),
        (read_classes, "name,id\na,x\nb,1\nc,-1\n", "row 2: expected a whole number from 0 as id, got 'x' [also 4]"),
        (
            read_prior,
            "class,prior\n0,x\n1,0.5\n2,y\n",
            "class 0: expected numbers in the column prior, got 'x' [also 2]",
        ),
        (
            read_prior,
            "class,prior\n0,-1\n1,nan\n",
            "class 0: expected a prior from 0 to 1, got -1; class 1: expected a prior",
        ),
    ],
)
def test_all_lines_of_a_csv_are_checked(
    read: Callable[[str], object], text: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises((DataError, ModelError)) as caught:
        read(str(tmp_path / "file.csv"))
    assert expected in str(caught.value)
    assert str(caught.value).splitlines() == [str(caught.value)]


def test_an_import_of_features_names_every_faulty_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.csv").write_text("name,id\na,0\nb,7\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    paths = {name: str(tmp_path / name) for name in ("arrays", "labels.csv", "classes.csv", "taken")}
    words = ["import", "features", "--from", "numpy", paths["arrays"], "--labels", paths["labels.csv"]]
    words += ["--classes", paths["classes.csv"], "--output", paths["taken"]]
    code, out, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith("esv: 4 inputs have faults: (1) ")
    assert all(path in err for path in paths.values()), err
    assert len(err.splitlines()) == 1
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "a.npy", np.ones((2, 3)))
    _, _, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert err.startswith("esv: 3 inputs have faults: (1) ")


def test_an_import_of_a_model_names_every_faulty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for scale in (1, 2, 3):
        (tmp_path / f"trn_{scale}_frames.pth").write_bytes(b"no checkpoint")
    files = [str(tmp_path / f"trn_{scale}_frames.pth") for scale in (1, 2, 3, 4)]
    places = [str(tmp_path / name) for name in ("prior.csv", "names.csv")]
    words = ["import", "model", "--from", "play-fair", "--output", str(tmp_path / "m"), *files]
    code, _, err = run(*words, "--prior", places[0], "--classes", places[1], monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert err.startswith("esv: 3 inputs have faults: (1) 4 inputs have faults: (1) ")
    assert f"[also {files[1]}, {files[2]}]" in err
    assert all(place in err for place in (files[0], files[3], *places)), err
    assert len(err.splitlines()) == 1


def test_an_empty_array_is_shown_with_its_own_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "a.npy", np.ones((0, 4)))
    words = ["import", "features", "--from", "numpy", str(tmp_path / "arrays"), "--output", str(tmp_path / "t")]
    _, _, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert "no frames or no features: a (shape (0, 4))" in err
