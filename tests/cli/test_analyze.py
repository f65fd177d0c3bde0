"""esv analyze: pages and JSON, files, odd outputs, an output that cannot be written to."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import click
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.tables import analyze as make_tables
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.cli import cli
from esv_ray.errors import DataError, EsvError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import repair_output, verify_output
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import all_of, run
from tests.support.s3_server import S3Server

BASIC = ["summary", "support", "positions", "pairs", "contrasts", "classes", "profiles", "confusions"]
WRITTEN = ("videos", "attributions", "marginals", "interactions", "discards", "replacements")
"""Tables of a job that writes all it can."""
LOCATED = ("wrote", "output  ", "model   ")
"""Beginnings of lines with locations, which are never broken."""
LONG = (
    "Pretending to put something behind something",
    "Pushing something so that it almost falls off but doesn't",
    "Putting something that cannot actually stand upright on the table, so it falls on its side",
)
"""Class names of Something-Something V2."""


def analyze(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["analyze", *arguments])


@pytest.mark.slow
def test_pages_files_and_json(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "estimator.m=20", "estimator.kind=adjusted", "frames=4")
    found = analyze(str(out))
    assert found.exit_code == 0, found.output
    tables = make_tables(str(out))
    assert [path.stem for path in sorted((out / "analysis").iterdir())] == sorted(BASIC) == sorted(tables)
    for name, table in tables.items():
        assert pq.read_table(out / "analysis" / f"{name}.parquet").equals(table)
        assert FACETS[name].title in found.stdout
    content = json.loads(analyze(str(out), "--json").stdout)
    assert list(content["tables"]) == [name for name in BASIC if name != "contrasts"]
    for name, rows in content["tables"].items():
        assert rows == tables[name].to_pylist()
    assert (content["class"], content["unit"], content["committed_units"]) == ("label", "probability", 5)
    assert list(json.loads(analyze(str(out), "--json", "--table", "contrasts").stdout)["tables"]) == ["contrasts"]
    metadata = json.loads(pq.read_schema(out / "analysis" / "contrasts.parquet").metadata[b"esv_ray"])
    assert metadata == {"class": "label", "unit": "probability", "committed_units": 5, "planned_units": 5}


def test_out_and_format(features: str, bundle: str, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "tables"
    run(features, bundle, out, "frames=4")
    found = analyze(str(out), "--table", "classes", "--table", "contrasts", "--format", "csv", "--out", str(target))
    assert found.exit_code == 0
    assert not (out / "analysis").exists()
    assert sorted(path.name for path in target.iterdir()) == ["classes.csv", "contrasts.csv"]
    for name, table in make_tables(str(out), ["classes", "contrasts"]).items():
        written = pyarrow.csv.read_csv(target / f"{name}.csv")
        assert written.column_names == table.column_names
        assert written.num_rows == table.num_rows
    assert "Summary" not in found.stdout


@pytest.mark.slow
def test_narrow_and_readable(features: str, tmp_path: Path) -> None:
    """80 columns with long names, which are shortened in the middle; numbers are whole."""
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), classes=LONG)
    run(features, str(tmp_path / "m"), tmp_path / "out", "frames=3")
    out = str(tmp_path / "out")
    lines = analyze(out).stdout.splitlines()
    printed = [line for line in lines if not line.startswith(LOCATED)]
    assert max(map(len, printed)) <= 80
    assert any(line.startswith("Pretending to") and " something  " in line and "..." in line for line in lines)
    rows = make_tables(out, ["classes"])["classes"].to_pylist()
    for row in (row for row in rows if row["n_elements"] == 3):
        few = f"{row['score_low']:.3f}..{row['score_high']:.3f}"  # an interval, because there are few videos
        numbers = (row["videos"], f"{row['support']:+.3f}", f"{row['distract']:+.3f}", few)
        assert any(all(str(number) in line.split() for number in numbers) for line in lines)
    assert "nan" not in " ".join(lines).split()


@pytest.mark.slow
def test_every_page(tmp_path: Path) -> None:
    """All tables, also the further ones, of sequences of one element and of more than fit a page."""
    tables = ("marginals", "discards", "replacements", "interactions")
    for n in (1, 2, 40):
        out = tmp_path / str(n)
        write_output(str(out), Shape(30, n, 25, sampled=False, tables=tables if n < 40 else tables[:3], rows=16))
        found = analyze(str(out))
        assert found.exit_code == 0, found.output
        assert "wrote" in found.stdout
        lines = [line for line in found.stdout.splitlines() if not line.startswith(LOCATED)]
        assert max(map(len, lines)) <= 80
        written = [name for name in WRITTEN if name != "interactions" or n < 40]
        titles = [
            facet.title
            for facet in FACETS.values()
            if {*facet.reads} <= {*written} and not facet.marked and not facet.several_methods
        ]
        assert [line for line in lines if line in titles] == titles


@pytest.mark.slow
def test_figures(tmp_path: Path) -> None:
    """A figure of every table but the summary, in three formats; none of tables without rows."""
    out, figures = tmp_path / "out", tmp_path / "figures"
    write_output(str(out), Shape(30, 4, 5, sampled=False, tables=WRITTEN[2:], rows=16))
    found = analyze(str(out), "--figures", str(figures))
    assert found.exit_code == 0, found.output
    made = [
        name
        for name, facet in FACETS.items()
        if {*facet.reads} <= {*WRITTEN} and not facet.marked and not facet.several_methods
    ]
    names = [name for name in made if name != "summary"]
    assert sorted(path.name for path in figures.iterdir()) == sorted(
        f"{name}.{suffix}" for name in names for suffix in ("html", "png", "svg")
    )
    assert f"wrote {len(names)} figures to {figures}" in found.stdout
    contrasts = make_tables(str(out), ["contrasts"])["contrasts"].sort_by([("difference", "ascending")])
    assert contrasts.column("video_id")[0].as_py() in (figures / "contrasts.svg").read_text()


@pytest.mark.slow
def test_no_color(tmp_path: Path) -> None:
    """Titles are bold on a terminal, on a line of their own; with NO_COLOR there are no escapes."""
    write_output(str(tmp_path / "out"), Shape(8, 3, 3, sampled=False, tables=(), rows=8))
    plain, bold = (
        CliRunner().invoke(cli, ["analyze", str(tmp_path / "out")], color=True, env={"NO_COLOR": value}).stdout
        for value in ("1", "")
    )
    assert "\x1b" not in plain
    assert "\n\x1b[1mSummary\x1b[0m\n" in bold
    assert click.unstyle(bold) == plain


@pytest.mark.slow
def test_class_names_are_not_markup(features: str, tmp_path: Path) -> None:
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), classes=("[red]a", "b\x1b[31m", "[/]"))
    run(features, str(tmp_path / "m"), tmp_path / "out", "frames=3")
    page = analyze(str(tmp_path / "out")).stdout
    assert all(name in page for name in ("[red]a", "b\\x1b[31m", "[/]"))


def test_unlabelled(bundle: str, tmp_path: Path) -> None:
    """Everything that needs no labels, for the predicted class; and what is left out."""
    pq.write_table(make_table([3, 4], n_classes=None), tmp_path / "f.parquet")
    out = str(tmp_path / "out")
    run(str(tmp_path / "f.parquet"), bundle, out, "classes=all", "estimator.kind=exact")
    found = analyze(out)
    assert re.search(r"the mean score\s+of\s+the\s+predicted\s+class\s+goes from", found.stdout)
    assert "Left out, since videos have no labels: contrasts, confusions." in found.stdout
    assert "Accuracy" not in found.stdout
    row = json.loads(analyze(out, "--json").stdout)["tables"]["summary"][0]
    assert row["accuracy"] is row["median_stderr"] is row["median_sampled_gap"] is None
    refused = analyze(out, "--class", "label").exception
    assert isinstance(refused, EsvError)
    assert "use --class predicted" in str(refused)


@pytest.mark.slow
def test_unfinished(features: str, bundle: str, tmp_path: Path) -> None:
    """It is said first how much is there; resuming and verifying do not mind the tables."""
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    whole = all_of(out)
    for folder in ("videos", "attributions"):
        sorted((out / folder).iterdir())[1].unlink()
    (out / "_SUCCESS").unlink()
    lines = analyze(str(out)).stdout.splitlines()
    head = lines[: lines.index("")]
    assert head[-1] == "unfinished: 4 of 5 units committed, 32 of 40 videos. The tables are of these."
    assert (out / "analysis" / "summary.parquet").exists()
    run(features, bundle, out, "frames=3")
    assert all_of(out) == whole
    assert "unfinished: " not in analyze(str(out)).stdout
    verification = verify_output(str(out))
    assert not verification.problems
    assert repair_output(str(out), verification) == ()
    assert (out / "analysis" / "summary.parquet").exists()
    run(features, bundle, out, "frames=3")


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["estimator.output=logit", "classes=predicted"])
def test_the_head_says_which_output_it_is(features: str, bundle: str, tmp_path: Path, setting: str) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3", setting)
    lines = analyze(str(out), "--table", "support").stdout.splitlines()
    of_class = "predicted class" if "classes" in setting else "label"
    unit = "logit" if "logit" in setting else "probability"
    described = [f"output  {out}", f"model   {bundle}, 3 classes", f"ESVs of each video's {of_class}, in {unit}"]
    assert lines[:4] == [*described, ""]


def test_all_failed(bundle: str, tmp_path: Path) -> None:
    """One line that says it, and exit code 2: a page would say that no video is misclassified."""
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    for options in ([], ["--json"], ["--table", "confusions"]):
        found = analyze(str(tmp_path / "out"), *options)
        assert found.stdout == ""
        assert isinstance(found.exception, DataError)
        assert "expected videos with ESVs, found none of 2 videos (2 failed); for the reasons" in str(found.exception)
        assert len(str(found.exception).splitlines()) == 1
    assert not (tmp_path / "out" / "analysis").exists()


def test_swept_and_logit(features: str, bundle: str, tmp_path: Path) -> None:
    run(features, bundle, tmp_path / "out", "frames=[2,4]", "estimator.output=logit")
    page = analyze(str(tmp_path / "out")).stdout
    assert "logit = prior + support + distract" in page
    assert "Sequences of 2 elements; the table has 3 other lengths." in page


@pytest.mark.slow
def test_earlier_version(features: str, bundle: str, tmp_path: Path) -> None:
    """Outputs without the column of errors of differences are analyzed; those of another format are refused."""
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    for path in (out / "videos").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["stderr_difference"]), path)
    rows = json.loads(analyze(str(out), "--json", "--table", "contrasts").stdout)["tables"]["contrasts"]
    assert rows
    assert all(row["stderr"] is None for row in rows)
    content = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**content, "format": 2}))
    refused = analyze(str(out)).exception
    assert isinstance(refused, DataError)
    assert "got 2; use the version that wrote it" in str(refused)


@pytest.mark.slow
def test_output_that_cannot_be_written(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    (out / "analysis").write_text("a file in the way")  # root may write to folders of any mode
    found = analyze(str(out))
    assert found.exit_code == 0
    assert "Summary" in found.stdout
    assert "The tables were not written: cannot write the result" in found.stderr
    refused = analyze(str(out), "--out", str(tmp_path / "out" / "analysis" / "x")).exception
    assert isinstance(refused, DataError)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--output", "--figures"])
def test_tables_and_figures_never_join_the_results_or_the_features(
    option: str, features: str, bundle: str, tmp_path: Path
) -> None:
    """A table among the files of a job breaks whatever reads their folder."""
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    before = sorted(out.rglob("*")), sorted(Path(features).rglob("*"))
    for place in (out / "attributions", out / "videos" / "new", out / "run.json", Path(features)):
        refused = analyze(str(out), option, str(place), "--table", "summary").exception
        assert isinstance(refused, SpecError), repr(refused)
        assert "itself" in str(refused) or "would be read as input" in str(refused)
    assert (sorted(out.rglob("*")), sorted(Path(features).rglob("*"))) == before


@pytest.mark.slow
def test_a_reader_who_stops_at_the_first_line_has_all_tables(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    command = f"{shlex.quote(sys.executable)} -m esv_ray analyze {shlex.quote(str(out))} | head -1"
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert {f"{name}.parquet" for name in make_tables(str(out))} == {path.name for path in (out / "analysis").iterdir()}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    out.chmod(0o500)
    found = analyze(str(out))
    out.chmod(0o700)
    assert found.exit_code == 0
    assert "The tables were not written" in found.stderr


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
    assert "`esv verify --repair` on the output moves it aside" in refusal(out)
    for path in (out / "videos").iterdir():
        path.unlink()
    assert "expected committed units, found none" in refusal(out)
    (out / "run.json").write_text("{}")
    assert "expected a job's manifest" in refusal(out)


@pytest.mark.slow
def test_s3(features: str, bundle: str, tmp_path: Path, s3: S3Server) -> None:
    out = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    run(features, bundle, out, "frames=3")
    run(features, bundle, tmp_path / "out", "frames=3")
    found = analyze(out)
    assert found.exit_code == 0, found.output
    assert f"wrote 8 tables to {out}/analysis" in found.stdout
    local, remote = make_tables(str(tmp_path / "out")), make_tables(out)
    assert all(remote[name].equals(table) for name, table in local.items())


def test_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from esv_ray.cli import main

    monkeypatch.setattr("sys.argv", ["esv", "analyze", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
