"""esv report: the command; wrong input is one line, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from esv_ray.bench.outputs import Shape, write_output

Esv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_output(str(tmp_path / "out"), Shape(6, 2, 2))
    return tmp_path / "out"


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    code, out, err = outcome
    assert (code, out) == (2, ""), err
    assert err.startswith("esv: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.slow
def test_written(esv: Esv, output: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.htm"
    code, out, err = esv("report", str(output), "--out", str(file), "--class", "predicted")
    assert (code, out, err) == (0, f"written: {file}\n", "")
    text = file.read_text()
    assert "Content-Security-Policy" in text
    assert "the predicted class; ESVs are parts of probabilities" in text


def test_wrong_input(esv: Esv, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esv_ray.report.build.tables_of_facets", None)  # nothing may call it
    out = str(output)
    Path(f"{out}.txt").write_text("a file in the way")
    refused(esv("report", str(tmp_path / "none")), "found no run.json")
    refused(esv("report", out, "--output", "x.pdf"), "expected a file that ends in .html, got", "x.pdf")
    refused(esv("report", out, "--output", f"{out}/videos/x.html"), "would be a file of the output")
    refused(esv("report", out, "--output", f"{out}.txt/x.html"), "cannot write the report")
    refused(esv("report", out, "--output", f"{tmp_path}/x.html/"), "--output: expected a file", "got the folder")
    refused(esv("report", out, "--output", "https://example.invalid/x.html"), "locations are only read")
    refused(esv("report", out, "--output", f"{'x' * 300}.html"), "cannot write the report", "File name too long")
    assert not (tmp_path / "x.html").exists()
    refused(esv("report", out, "--media", str(tmp_path / "none")), "--media", "found nothing")
    refused(esv("report", out, "--compare", str(tmp_path / "none")), "found no run.json")
    refused(esv("report", out, "--compare", out), "expected two outputs")
    refused(esv("report", out, "--class", "other"), "--class", "see esv report --help")
    refused(esv("report"), "Missing argument", "see esv report --help")
    for path in (output / "videos").iterdir():
        path.unlink()
    refused(esv("report", out), "expected committed units, found none")
