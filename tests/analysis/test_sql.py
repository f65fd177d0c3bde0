"""SQL over outputs: it gives what the tables hold, and neither writes nor reads anything else."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.database import FEWEST_BYTES
from esv_ray.analysis.select_only import TABLE_FUNCTIONS
from esv_ray.analysis.sql import Opened, open_outputs, select, sql
from esv_ray.errors import DataError, EsvError, SpecError
from esv_ray.output.manifest import checksum_of
from tests.analysis.test_database import copy_to
from tests.support.jobs import run
from tests.support.s3_server import S3Server, client
from tests.support.sql_queries import IN_A_SELECT, STATEMENTS


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output that no test changes."""
    from esv_ray.models.saving import save_heads
    from tests.conftest import make_heads, make_prior, make_table

    folder = tmp_path_factory.mktemp("sql")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    pq.write_table(make_table([1 + index % 5 for index in range(12)]), folder / "f.parquet")
    run(str(folder / "f.parquet"), str(folder / "model"), folder / "out", "compute.unit=5")
    (folder / "secret.csv").write_text("secret\ntop\n")
    return folder / "out"


@pytest.fixture(scope="module")
def opened(output: Path) -> Opened:
    return open_outputs({"": str(output)})


def rows(opened: Opened, query: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = select(opened, query).table().to_pylist()
    return found


def test_the_result_is_that_of_the_tables(output: Path, opened: Opened) -> None:
    tables = {name: pa.concat_tables(map(pq.read_table, sorted((output / name).iterdir()))) for name in ("videos",)}
    videos = tables["videos"].to_pylist()
    got = rows(opened, "SELECT label, count(*) n FROM videos GROUP BY label ORDER BY label")
    assert got == [{"label": label, "n": sum(row["label"] == label for row in videos)} for label in range(3)]
    joined = rows(opened, 'SELECT DISTINCT name FROM attributions JOIN classes ON id = "class" ORDER BY id')
    assert [row["name"] for row in joined] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "query",
    [
        "FROM videos",
        "TABLE videos",
        "VALUES (1)",
        "WITH v AS (FROM videos) SELECT count(*) FROM v",
        "WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 5) FROM r",
        "DESCRIBE videos",
        "SHOW TABLES",
        "SUMMARIZE videos",
        "PIVOT videos ON status IN ('ok', 'failed') USING count(*)",
        "UNPIVOT classes ON name",
        "SELECT unnest(scores) FROM videos",
        "FROM range(3), generate_series(1, 2)",
        "SELECT * FROM information_schema.columns",
        "SELECT rank() OVER (PARTITION BY label ORDER BY video_id) FROM videos QUALIFY true -- and a comment",
        "SELECT 1; ",
        "SELECT 1 a, 2 a, 3 a_2",
    ],
)
def test_forms_of_select(opened: Opened, query: str) -> None:
    result = select(opened, query)
    assert len(set(result.schema.names)) == len(result.schema.names)
    assert result.table().num_rows >= 1


def test_an_unfinished_result_is_no_hindrance(opened: Opened) -> None:
    next(select(opened, "FROM range(1_000_000)").batches)
    assert rows(opened, "SELECT 1 a") == [{"a": 1}]


@pytest.mark.parametrize("query", STATEMENTS + IN_A_SELECT, ids=lambda query: ascii(query)[1:60])
def test_hostile_queries(opened: Opened, output: Path, query: str) -> None:
    a_table_of_python = pa.table({"secret": [1]})
    assert a_table_of_python.num_rows
    path = output / "videos" / "written.parquet"
    places = {"path": path, "secret": output.parent / "secret.csv", "output": output}
    query = query.format(**places) if "{" in query else query
    before = sorted(output.rglob("*")), (output.parent / "secret.csv").read_text()
    with pytest.raises(EsvError) as error:
        rows(opened, query)
    assert len(str(error.value).splitlines()) == 1
    assert "top" not in str(error.value)
    assert (sorted(output.rglob("*")), (output.parent / "secret.csv").read_text()) == before
    assert [row["name"] for row in rows(opened, "FROM classes")] == ["one", "two", "three"]


def test_every_function_that_reads_or_changes_anything_is_closed(opened: Opened) -> None:
    """No table function of DuckDB is open but those of the list, whatever a later version adds."""
    names = rows(
        opened,
        "SELECT DISTINCT function_name f FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro')",
    )
    closed = {str(row["f"]) for row in names} - TABLE_FUNCTIONS
    assert len(closed) > 60
    for name in closed:
        with pytest.raises(SpecError, match="is not available"):
            select(opened, f"FROM {name}('{opened.files[0]}')")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "SELECT vid FROM videos",
            r'query: .*"vid" not found .*; there are videos \(video_id, label, .*classes \(id, na',
        ),
        ("FROM video", r'Did you mean "videos"\?; there are videos \(video_id'),
        ("SELECT * FORM videos", r'query: syntax error at or near "videos"'),
        (
            "FROM order",
            r'syntax error at or near "order"; the view and the column of this name need double quotes: "order"',
        ),
        ("SELECT CAST('x' AS INT)", r"query: Could not convert string 'x' to INT32"),
        ("SELECT sum(video_id) FROM videos", r"query: No function matches"),
        ("DELETE FROM videos", r"expected one SELECT statement, got DELETE; SQL only reads"),
        ("WITH t AS (COPY videos TO 'x') FROM t", r"expected a query that only reads, got COPY in it"),
        (
            "FROM read_text('/etc/passwd')",
            r"the function 'read_text' is not available, since SQL reads the output only",
        ),
    ],
)
def test_errors_say_what_to_do(opened: Opened, query: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        rows(opened, query)


def test_errors_while_rows_are_read(opened: Opened) -> None:
    with pytest.raises(SpecError, match="query: Could not convert string 'x29999' to INT32"):
        rows(opened, "SELECT CAST(CASE WHEN i < 29999 THEN '1' ELSE 'x' || i END AS INT) FROM range(30000) t(i)")


@pytest.mark.slow
def test_the_memory_limit(output: Path) -> None:
    limited = open_outputs({"": str(output)}, memory=FEWEST_BYTES)
    with pytest.raises(DataError, match=r"the query needs more memory than its limit .*; raise the limit \(--memory\)"):
        rows(limited, "SELECT list(i) FROM range(50_000_000) t(i)")
    [row] = rows(limited, "SELECT count(*) n FROM (SELECT hash(i) h FROM range(6_000_000) t(i) ORDER BY h)")
    assert row == {"n": 6_000_000}


def test_several_outputs(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "b")
    both = open_outputs({"": str(output), "b": str(tmp_path / "b"), "C": "memory://sql-c"} | copied("sql-c", output))
    [row] = rows(both, "SELECT count(*) n FROM videos JOIN b.videos USING (video_id) JOIN c.videos USING (video_id)")
    assert row == {"n": 12}
    with pytest.raises(SpecError, match=r"there are videos \(.*; the same in C, b$|the same in b, C$"):
        rows(both, "FROM d.videos")


def copied(name: str, output: Path) -> dict[str, str]:
    copy_to(fsspec.filesystem("memory"), output, f"/{name}")
    return {}


@pytest.mark.parametrize(
    "name", ["a b", "1a", "a.b", "main", "TEMP", "information_schema", "a;", "é", "x" * 64, '"', "all", "Select"]
)
def test_names_of_outputs(output: Path, name: str) -> None:
    with pytest.raises(SpecError, match="expected a name of letters, digits and _"):
        open_outputs({name: str(output)})
    with pytest.raises(SpecError, match="expected different names, got 'A' twice"):
        open_outputs({"a": str(output), "A": str(output)})


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_on_s3(output: Path, opened: Opened, s3: S3Server) -> None:
    url = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    copy_to(client(s3), output, url)
    client(s3).pipe_file(f"{url}/secret.csv", b"secret\ntop\n")
    remote = open_outputs({"": url})
    query = 'SELECT "class", element, sum(esv) s FROM attributions GROUP BY ALL ORDER BY ALL'
    assert rows(remote, query) == rows(opened, query)
    name = sorted((output / "videos").iterdir())[0].name
    for other in (f"{url}/secret.csv", f"{url}/videos/*", f"{url}/videos/{name}", f"esv-file://{url}/secret.csv"):
        with pytest.raises(EsvError):
            rows(remote, f"FROM '{other}'")
    client(s3).rm_file(f"{url}/attributions/{name}")
    with pytest.raises(EsvError, match=f"cannot read: {url}/attributions/{name}"):
        rows(remote, "FROM attributions WHERE esv > 0.1")


def test_unfinished_outputs(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    sorted((tmp_path / "out" / "videos").iterdir())[0].unlink()
    part = open_outputs({"a": str(tmp_path / "out")})
    [line] = part.unfinished
    assert line == "a: unfinished: 2 of 3 units committed, 7 of 12 videos"
    assert rows(part, "SELECT count(*) n FROM a.videos") == [{"n": 7}]
    assert not open_outputs({"": str(output)}).unfinished


def test_links_out_of_the_output(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    part = sorted((tmp_path / "out" / "attributions").iterdir())[1]
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(DataError, match=r"expected a file of the output, got a link to .*elsewhere\.parquet"):
        open_outputs({"": str(tmp_path / "out")})
    part.unlink()
    (tmp_path / "elsewhere.parquet").rename(part)
    (tmp_path / "out" / "videos").rename(tmp_path / "videos")
    (tmp_path / "out" / "videos").symlink_to(tmp_path / "videos")
    with pytest.raises(DataError, match="expected a file of the output, got a link"):
        open_outputs({"": str(tmp_path / "out")})
    (tmp_path / "link").symlink_to(output)  # of the whole output: it is what the user named
    assert rows(open_outputs({"": str(tmp_path / "link")}), "SELECT count(*) n FROM videos") == [{"n": 12}]


def test_damaged_files(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    part = sorted((tmp_path / "out" / "attributions").iterdir())[1]
    opened = open_outputs({"": str(tmp_path / "out")})
    data = part.read_bytes()
    for content in (b"", b"not Parquet at all, I fear", data[:-30], data[:8] + b"\xff" * 300 + data[308:]):
        part.write_bytes(content)
        with pytest.raises(DataError, match=r"expected readable tables, got: .*; see esv verify"):
            rows(opened, "FROM attributions")
        assert rows(opened, "SELECT count(*) n FROM videos") == [{"n": 12}]


def test_hostile_class_names(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    names = ["'); COPY classes TO 'x'; --", "\x1b[2J\r\n", "=1+1"]
    content["model"]["classes"] = names
    (tmp_path / "out" / "run.json").write_text(json.dumps({**content, "checksum": checksum_of(content)}))
    opened = open_outputs({"": str(tmp_path / "out")})
    assert [row["name"] for row in rows(opened, "FROM classes")] == names


def test_in_python(output: Path) -> None:
    assert sql(str(output), "SELECT count(*) n FROM videos").to_pylist() == [{"n": 12}]
    named = {"a": str(output), "b": str(output)}
    assert sql(named, "SELECT count(*) n FROM a.videos JOIN b.videos USING (video_id)").to_pylist() == [{"n": 12}]
    with pytest.raises(SpecError, match="got DELETE"):
        sql(str(output), "DELETE FROM videos")
