"""esv compare: pages, JSON, files; one line for what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior
from tests.support.jobs import run

Esv = Callable[..., tuple[int, str, str]]
NAMES = (
    "Pretending to put something behind something",
    "Moving something and something so they collide with each other",
    "[red]\x1b[31m\r\nsomething",
)


@pytest.fixture
def outputs(features: str, tmp_path: Path) -> tuple[str, str]:
    for seed in (0, 1):
        save_heads(str(tmp_path / f"model-{seed}"), make_heads(seed=seed), make_prior(3), classes=NAMES)
        sampling = ["estimator.kind=algorithm1", "estimator.m=3", "frames=4", "compute.unit=8", "classes=all"]
        run(features, str(tmp_path / f"model-{seed}"), tmp_path / f"out-{seed}", *sampling)
    return str(tmp_path / "out-0"), str(tmp_path / "out-1")


@pytest.mark.slow
def test_a_page_fits_80_columns(esv: Esv, outputs: tuple[str, str]) -> None:
    code, out, err = esv("compare", *outputs)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80 + len(outputs[0])  # a location is never broken
    assert "40 videos in both, 0 in A only, 0 in B only." in out
    assert "Values of the label." in " ".join(lines)
    for text in ("accuracy of A", "accuracy, B - A", "per video", "all elements", "cosine", "in standard errors"):
        assert text in out
    assert "The largest changes, of 4 elements" in out
    assert "each other" in out
    assert "\x1b" not in out
    assert "nan" not in out


def test_json_holds_the_tables(esv: Esv, outputs: tuple[str, str]) -> None:
    code, out, err = esv("compare", *outputs, "--json", "--changes", "2", "--class", "predicted")
    content = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert (code, err) == (0, "")
    assert content["a"] == {"output": outputs[0], "method": "esv", "committed_units": 6, "planned_units": 6}
    assert (content["class"], content["unit"]) == ("predicted", "probability")
    assert content["videos"] == {"shared": 40, "only_a": 0, "only_b": 0}
    assert list(content["tables"]) == ["compare", "agreement", "correlations", "changes"]
    assert [row["n_elements"] for row in content["tables"]["compare"]] == [1, 2, 3, 4]
    assert len(content["tables"]["changes"]) == 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "json", None])
def test_files(esv: Esv, outputs: tuple[str, str], tmp_path: Path, kind: str | None) -> None:
    folder = tmp_path / "new" / "tables"
    code, _, err = esv("compare", *outputs, "--out", str(folder), *(["--format", kind] if kind else []))
    assert (code, err) == (0, f"wrote 4 tables to {folder}\n")
    suffix = kind or "parquet"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{suffix}" for name in ("agreement", "changes", "compare", "correlations")
    ]
    if suffix == "parquet":
        assert pq.read_table(folder / "agreement.parquet").column_names[:6] == [
            *("n_elements", "method_a", "method_b", "videos", "pearson", "spearman")
        ]


@pytest.mark.slow
def test_methods_of_one_output(esv: Esv, features: str, bundle: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    run(features, bundle, Path(output), "frames=4", "methods=[esv,random]")
    into = ["--output", str(tmp_path / "tables"), "--figures", str(tmp_path / "figures")]
    code, out, err = esv("compare", output, *into)
    assert (code, err) == (0, f"wrote 1 table to {tmp_path / 'tables'}\nwrote 1 figure to {tmp_path / 'figures'}\n")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"agreement"}
    assert max(map(len, out.splitlines())) <= 80
    assert "ESV, random" in out
    rows = pq.read_table(tmp_path / "tables" / "agreement.parquet").to_pylist()
    assert [row["n_elements"] for row in rows] == [1, 2, 3, 4]
    assert json.loads(esv("compare", output, "--json")[1])["tables"]["agreement"] == rows
    page = esv("compare", output, "--method-b", "random")[1]
    assert "B: random of" in page
    assert "accuracy of B" not in page


@pytest.mark.slow
def test_figures(esv: Esv, outputs: tuple[str, str], tmp_path: Path) -> None:
    """Two figures of two outputs, and one of the methods of an output; written before the page is printed."""
    folder = tmp_path / "figures"
    code, out, err = esv("compare", *outputs, "--figures", str(folder), "--output", str(tmp_path / "tables"))
    assert (code, err) == (0, f"wrote 4 tables to {tmp_path / 'tables'}\nwrote 2 figures to {folder}\n")
    assert "accuracy of A" in out
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{suffix}" for name in ("compare", "correlations") for suffix in ("html", "png", "svg")
    ]
    row = next(
        row for row in pq.read_table(tmp_path / "tables" / "compare.parquet").to_pylist() if row["n_elements"] == 4
    )
    assert f"rank correlation within a video {row['spearman']:.2f}" in (folder / "compare.svg").read_text()
    code, _, err = esv("compare", *outputs, "--figures", f"{outputs[1]}/videos")
    assert (code, err.count("\n")) == (2, 1)
    assert "--figures" in err


@pytest.mark.slow
def test_only_what_may_be_negative_has_a_sign(esv: Esv, outputs: tuple[str, str]) -> None:
    lines = [re.split(r"  +", line) for line in esv("compare", *outputs)[1].splitlines()]
    shown = {line[0]: line[1:] for line in lines if len(line) == 3}
    assert "accuracy, B - A, in points" in shown
    assert "%" not in shown["accuracy, B - A, in points"][0]
    for title, (value, interval) in shown.items():
        for end in (value, *(interval.split("..") if ".." in interval else ())):
            signed = ("B - A" in title and "|" not in title) or any(
                name in title for name in ("Pearson", "Spearm", "cos")
            )
            assert (end[0] in "+-") == signed, (title, end)


@pytest.mark.slow
def test_equal_values_are_no_changes(esv: Esv, outputs: tuple[str, str], tmp_path: Path) -> None:
    shutil.copytree(outputs[0], tmp_path / "copy")
    out = esv("compare", outputs[0], str(tmp_path / "copy"))[1]
    assert "No value of 4 elements differs." in out
    assert "largest changes" not in out


@pytest.mark.slow
def test_a_link_to_an_output_is_the_same_output(esv: Esv, outputs: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(outputs[0])
    code, _, err = esv("compare", outputs[0], str(tmp_path / "link"))
    assert (code, err.count("\n")) == (2, 1)
    assert "expected two outputs, or two methods of one (--method-b)" in err


@pytest.mark.slow
def test_labels_of_the_second_output_alone_are_said_to_be_unused(
    esv: Esv, outputs: tuple[str, str], features: str, tmp_path: Path
) -> None:
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    pq.write_table(pq.read_table(features).drop_columns(["label"]), folder / "a.parquet")
    sampling = ["estimator.kind=algorithm1", "estimator.m=3", "frames=4", "classes=all"]
    run(str(folder), str(tmp_path / "model-0"), tmp_path / "out", *sampling)
    note = "A has no labels, and those of B are not used"
    assert note in " ".join(esv("compare", str(tmp_path / "out"), outputs[0])[1].split())
    assert note not in " ".join(esv("compare", outputs[0], str(tmp_path / "out"))[1].split())


@pytest.mark.slow
def test_an_unfinished_output_says_so(esv: Esv, outputs: tuple[str, str]) -> None:
    next(Path(outputs[0], "videos").iterdir()).unlink()
    out = esv("compare", *outputs)[1]
    assert "Note: A is unfinished: 5 of 6 units committed, " in out
    assert out.index("Note: A is unfinished") < out.index("accuracy of A")


@pytest.mark.slow
def test_wrong_requests_are_one_line(esv: Esv, outputs: tuple[str, str], tmp_path: Path) -> None:
    a, b = outputs
    (tmp_path / "file").write_text("")
    shutil.rmtree(Path(b, "videos"))
    for arguments, text in (
        ([a], "expected two outputs, or one with values of several methods, got values of esv"),
        ([a, "--method-b", "esv"], "expected two outputs, or two methods of one (--method-b)"),
        ([a, a], "expected two outputs, or two methods of one (--method-b)"),
        ([a, "--method-b", "occlusion"], "expected values of the method 'occlusion', found those of esv"),
        ([a, str(tmp_path)], "found no run.json"),
        ([a, b], "expected committed units, found none"),
        ([a, b, "--format", "csv"], "--format is that of the files: give --output too"),
        ([a, b, "--class", "esv"], "'esv' is not one of 'label', 'predicted'"),
        ([a, b, "--changes", "0"], "--changes"),
        ([a, b, "--out", str(tmp_path / "file")], "expected a folder or nothing, got a file"),
        ([a, b, "--out", f"{b}/videos"], "would be a file of the output"),
        ([], "Missing argument 'OUTPUT_A'"),
    ):
        code, out, err = esv("compare", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert text in err
