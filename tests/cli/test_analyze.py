"""esv analyze: text and JSON, unknown values, invalid outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from esv_ray.analysis.summary import summarize
from esv_ray.cli import cli
from esv_ray.errors import DataError
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run


def analyze(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["analyze", *arguments])


def test_text_and_json(features: str, bundle: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run(features, bundle, out, "estimator.m=20", "estimator.kind=adjusted")
    summary = summarize(out)
    stdout = json.loads(analyze(out, "--json").stdout)
    assert stdout.keys() == vars(summary).keys()
    assert (stdout["videos"], stdout["labelled"], stdout["exact"]) == (summary.videos, summary.labelled, summary.exact)
    assert stdout["median_stderr"] == summary.median_stderr > 0
    assert stdout["classes"] == [vars(summary_row) for summary_row in summary.classes]
    page = analyze(out).stdout
    assert all(summary_row.name in page for summary_row in summary.classes)
    assert f"accuracy {100 * summary.accuracy:.1f} % of 40 videos" in page
    assert f"{summary.exact} videos exact" in page
    assert "nan" not in page


def test_unknown_values_are_null(bundle: str, tmp_path: Path) -> None:
    """Without labels there is no accuracy; if all sequences are exact, there is no error."""
    pq.write_table(make_table([3, 4], n_classes=None), tmp_path / "f.parquet")
    out = str(tmp_path / "out")
    run(str(tmp_path / "f.parquet"), bundle, out, "classes=all", "estimator.kind=exact")
    stdout = json.loads(analyze(out, "--json").stdout)
    assert (stdout["videos"], stdout["labelled"], stdout["exact"], stdout["classes"]) == (2, 0, 2, [])
    assert stdout["accuracy"] is stdout["median_stderr"] is stdout["median_sampled_gap"] is None
    page = analyze(out).stdout
    assert "2 videos exact" in page
    assert "nan" not in page
    assert "accuracy" not in page


def test_all_failed(bundle: str, tmp_path: Path) -> None:
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    assert json.loads(analyze(str(tmp_path / "out"), "--json").stdout)["videos"] == 0
    assert "0 videos exact" in analyze(str(tmp_path / "out")).stdout


def test_class_names_are_not_markup(features: str, tmp_path: Path) -> None:
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), classes=("[red]a", "b\x1b[31m", "[/]"))
    run(features, str(tmp_path / "m"), tmp_path / "out", "frames=3")
    page = analyze(str(tmp_path / "out")).stdout
    assert all(name in page for name in ("[red]a", "b\\x1b[31m", "[/]"))


def test_invalid_outputs(features: str, bundle: str, tmp_path: Path) -> None:
    def refusal(output: Path) -> str:
        error = analyze(str(output)).exception
        assert isinstance(error, DataError), repr(error)  # one line and exit code 2 (`main`)
        assert len(str(error).splitlines()) == 1
        return str(error)

    assert "found no run.json" in refusal(tmp_path / "none")
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    part = next((out / "attributions").iterdir())
    part.write_bytes(part.read_bytes()[:100])
    assert "not readable" in refusal(out)
    for path in (out / "videos").iterdir():
        path.unlink()
    assert "expected committed units, found none" in refusal(out)
    (out / "run.json").write_text("{}")
    assert "expected a job's manifest" in refusal(out)


def test_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from esv_ray.cli import main

    monkeypatch.setattr("sys.argv", ["esv", "analyze", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
