"""esv sql: text for people, files for programs, one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.sql import sql
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior
from tests.support.jobs import esv as command
from tests.support.jobs import run

Esv = Callable[..., tuple[int, str, str]]
NAMES = (
    "Pretending to put something behind something",
    "Moving something and something so they collide with each other",
    "[red]\x1b[31m\r\nsomething",
)


@pytest.fixture
def output(features: str, tmp_path: Path) -> str:
    save_heads(str(tmp_path / "named"), make_heads(), make_prior(3), classes=NAMES)
    run(features, str(tmp_path / "named"), tmp_path / "out", "compute.unit=8")
    return str(tmp_path / "out")


@pytest.mark.slow
def test_a_table_fits_80_columns(esv: Esv, output: str) -> None:
    query = 'SELECT video_id, "class", name, element, esv, stderr FROM attributions JOIN classes ON id = "class"'
    code, out, err = esv("sql", output, query)
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 22)
    assert max(map(len, lines)) <= 80
    assert err == "these are the first 20 rows; --rows prints more, --format csv all\n"
    assert "Moving som" in out
    assert "each other" in out
    assert "\x1b" not in out
    assert "\\x1b[31m\\r\\nsomething" in esv("sql", output, "FROM classes")[1]
    assert esv("sql", output, "FROM videos", "--rows", "1")[1].splitlines()[0] == "row 1"


def test_formats(esv: Esv, output: str, tmp_path: Path) -> None:
    query = "SELECT video_id, n_elements, efficiency_gap, scores, reason FROM videos ORDER BY ALL"
    expected = pa.concat_tables(map(pq.read_table, sorted(Path(output, "videos").iterdir()))).sort_by("video_id")
    code, out, err = esv("sql", output, query, "--format", "csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["video_id"] for row in rows] == expected["video_id"].to_pylist()
    assert [pa.scalar(float(row["efficiency_gap"]), pa.float32()) for row in rows] == list(expected["efficiency_gap"])
    assert json.loads(rows[0]["scores"]) == pytest.approx(expected["scores"][0].as_py(), abs=1e-7)
    assert [row["n_elements"] for row in json.loads(esv("sql", output, query, "--format", "json")[1])] == expected[
        "n_elements"
    ].to_pylist()
    for name in ("a.parquet", "a.csv", "a.JSON", "memory"):
        place = f"memory://sql-result/{name}.csv" if name == "memory" else str(tmp_path / name)
        code, out, err = esv("sql", output, query, "--out", place)
        assert (code, out, err) == (0, "", f"written: {place}\n")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("scores").to_pylist() == expected["scores"].to_pylist()
    assert len(json.loads((tmp_path / "a.JSON").read_text())) == 40


@pytest.mark.slow
def test_parquet_to_a_pipe(output: str) -> None:
    done = subprocess.run(
        command("sql", output, "SELECT 1 a", "--format", "parquet"), capture_output=True, check=True, timeout=100
    )
    assert pq.read_table(io.BytesIO(done.stdout)).to_pylist() == [{"a": 1}]


def test_several_outputs(esv: Esv, output: str, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "b")
    query = "SELECT count(*) n FROM a.videos JOIN b.videos USING (video_id)"
    named = ["--output", f"a={output}", "--output", f"b={tmp_path / 'b'}"]
    assert esv("sql", *named, query, "--format", "csv")[1] == "n\n40\n"
    assert esv("sql", output, *named, f"{query} JOIN videos USING (video_id)", "--format", "csv")[1] == "n\n40\n"


@pytest.mark.slow
def test_an_unfinished_output_says_so_first(esv: Esv, output: str) -> None:
    next(Path(output, "videos").iterdir()).unlink()
    code, out, err = esv("sql", output, "SELECT count(*) n FROM videos")
    assert code == 0
    assert err.startswith("unfinished: ")
    assert "units committed, " in err
    assert out.splitlines()[2].strip() in ("28", "32", "36")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["OUT"], "expected OUTPUT and QUERY, got 1 argument; quote the query"),
        (["OUT", "SELECT", "1"], "got 3 arguments"),
        ([], "got 0 arguments"),
        (["OUT", "SELEC 1"], "query: syntax error"),
        (["OUT", "SELECT vid FROM videos"], "there are videos (video_id, label"),
        (["OUT", "DROP VIEW videos"], "expected one SELECT statement, got DROP"),
        (["OUT", "FROM '/etc/passwd'"], "there are videos (video_id"),
        (["OUT", "SELECT error('\x1b[31mx')"], "\\x1b[31mx"),
        (["--output", "OUT", "SELECT 1"], "--output: expected NAME=URL"),
        (["--output", "=OUT", "SELECT 1"], "--output: expected NAME=URL"),
        (["--output", "a=", "SELECT 1"], "expected a location"),
        (["--output", "a=OUT", "--output", "a=OUT", "SELECT 1"], "expected different names, got 'a' twice"),
        (["--output", "a b=OUT", "SELECT 1"], "expected a name of letters, digits and _"),
        (["OUT", "SELECT 1", "--memory", "1MB"], "memory: expected at least 64MB"),
        (["OUT", "SELECT 1", "--memory", "lots"], "--memory: expected a size such as 500MB or 2GB"),
        (["OUT", "SELECT list(i) FROM range(50000000) t(i)", "--memory", "64MB"], "more memory than its limit"),
        (["OUT", "SELECT 1", "--out", "a.txt"], "--out: expected a file that ends in .csv, .json or .parquet"),
        (["OUT", "SELECT 1", "--format", "table", "--out", "a.csv"], "--out: expected a file that ends in"),
        (["OUT", "SELECT 1", "--out", "OUT/videos/a.csv"], "would be a file of the output"),
        (["OUT", "SELECT 1", "--out", "OUT/run.json"], "would be a file of the output"),
        (["OUT", "SELECT 1", "--out", "OUT/run.json/a.csv"], "would be a file of the output"),
        (["OUT", "SELECT 1", "--out", "-"], "--out: expected a location, got '-'; for a file of that name write ./-"),
        (["OUT", "SELECT 1", "--format", "csv", "--out", "a.parquet"], "--out: expected a file that ends in .csv, as"),
        (["OUT", "SELECT write_log('a')"], "expected functions that only read, got 'write_log'"),
        (["OUT", "SELECT 1 WHERE (SELECT count(Write_Log('a', level := 'x')) FROM videos) > 0"], "got 'write_log'"),
        (["OUT/none", "SELECT 1"], "found no run.json"),
    ],
)
def test_wrong_requests_are_one_line(esv: Esv, output: str, arguments: list[str], text: str) -> None:
    code, out, err = esv("sql", *(argument.replace("OUT", output) for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text in err
    assert "\x1b" not in err


@pytest.mark.slow
def test_intervals_and_bits_are_readable(esv: Esv, output: str) -> None:
    """In every format, also in lists; a time of ISO 8601, and the bits."""
    query = (
        "SELECT '101'::BIT b, '0111010001'::BIT c, NULL::BIT d, INTERVAL '13 months 1 day 2.5 seconds' i, "
        "[INTERVAL '2 hours'] l, INTERVAL '-1 day' m"
    )
    texts = ["101", "0111010001", "P13M1DT2.5S", "P0M0DT7200S", "P0M-1DT0S"]
    [row] = json.loads(esv("sql", output, query, "--format", "json")[1])
    assert [*row.values()] == [*texts[:2], None, texts[2], [texts[3]], texts[4]]
    for arguments in (["--format", "csv"], []):
        out = esv("sql", output, query, *arguments)[1]
        assert all(text in out for text in texts)
    rows = sql(output, "SELECT unnest(['101'::BIT, NULL, '0'::BIT]) b, 1 b").to_pylist()
    assert rows == [{"b": "101", "b_2": 1}, {"b": None, "b_2": 1}, {"b": "0", "b_2": 1}]


@pytest.mark.slow
def test_a_wide_table_without_rows_has_its_columns(esv: Esv, output: str) -> None:
    names = [f"a_long_name_of_column_{number}" for number in range(12)]
    select = ", ".join(f"{number} AS {name}" for number, name in enumerate(names))
    code, out, err = esv("sql", output, f"SELECT {select} WHERE 1 = 0")
    assert (code, err) == (0, "no rows\n")
    assert out.splitlines() == names


@pytest.mark.slow
def test_values_that_look_like_formulas_are_written_as_they_are(esv: Esv, output: str) -> None:
    """Programs read the values back; only the files of a report, which people open, are guarded."""
    texts = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1"]
    listed = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
    out = esv("sql", output, f"SELECT unnest([{listed}]) AS id", "--format", "csv")[1]
    assert [row[0] for row in csv.reader(io.StringIO(out))] == ["id", *texts]


@pytest.mark.slow
def test_no_temporary_files_are_left(output: str, tmp_path: Path) -> None:
    """Of a query that sorts on the disk, and of one that fails after that."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    rows = "(SELECT hash(i) h FROM range(6000000) t(i) ORDER BY h LIMIT 5000000)"
    for value, code in (("max(h)", 0), ("max(CASE WHEN h > 7 THEN error('no') END)", 2)):
        done = subprocess.run(
            command("sql", output, f"SELECT {value} FROM {rows}", "--memory", "64MB"),
            capture_output=True,
            env={**os.environ, "TMPDIR": str(folder)},
            timeout=200,
        )
        assert done.returncode == code, done.stderr
        assert not list(folder.iterdir())


@pytest.mark.slow
def test_an_interrupt_ends_the_query(output: str) -> None:
    query = "SELECT count(*) FROM range(100000000000) a(i) WHERE hash(i) = 1"
    process = subprocess.Popen(command("sql", output, query), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
