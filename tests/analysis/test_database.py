"""DuckDB's views of an output hold its tables, wherever the output lies."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray import storage
from esv_ray.analysis.database import FEWEST_BYTES, add_tables, add_views, connect, error_from, reading
from esv_ray.errors import DataError, SpecError
from tests.support.jobs import run
from tests.support.s3_server import S3Server, client


@pytest.fixture
def output(features: str, bundle: str, tmp_path: Path) -> Path:
    run(features, bundle, tmp_path / "out", "compute.unit=8")
    return tmp_path / "out"


def table_of(con: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return con.sql(query).to_arrow_table()


def check_views(url: str, output: Path) -> None:
    """The views at a location hold the tables that lie in a folder."""
    con = connect()
    add_views(con, url)
    for name in ("videos", "attributions"):
        files = sorted((output / name).iterdir())
        expected = pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()
        got = table_of(con, f"FROM {name}").to_pylist()
        if name == "attributions":
            assert {row.pop("method") for row in got} == {"esv"}
            for row in expected:
                row.pop("method", None)
        assert got == expected
    assert con.execute("SELECT id, name FROM classes").fetchall() == [(0, "one"), (1, "two"), (2, "three")]


def test_views_on_a_disk(output: Path) -> None:
    check_views(str(output), output)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a b", "label=1", "it's", "[ab]*?", "{x,y}", "%41"])
def test_odd_names_of_folders(output: Path, name: str) -> None:
    odd = output.with_name(name)
    output.rename(odd)
    check_views(str(odd), odd)


@pytest.mark.slow
def test_views_in_memory(output: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/a [b]*"
    copy_to(fsspec.filesystem("memory"), output, url.removeprefix("memory:/"))
    check_views(url, output)


@pytest.mark.xdist_group("s3")
def test_views_on_s3(output: Path, s3: S3Server) -> None:
    url = f"s3://{s3.bucket}/{uuid.uuid4().hex}/label=1"
    copy_to(client(s3), output, url)
    check_views(url, output)


def copy_to(fs: fsspec.AbstractFileSystem, folder: Path, url: str) -> None:
    for path in folder.glob("**/*"):
        if path.is_file():
            fs.pipe_file(f"{url}/{path.relative_to(folder)}", path.read_bytes())


@pytest.mark.slow
def test_units_and_schemas_of_one_output(output: Path) -> None:
    names = sorted(path.name for path in (output / "videos").iterdir())
    con = connect()
    add_views(con, str(output), schema='b"')
    add_views(con, str(output), names[:1])
    all_rows, of_one = (con.execute(f"SELECT count(*) FROM {view}").fetchone() for view in ('"b"""."videos"', "videos"))
    assert (all_rows, of_one) == ((40,), (8,))
    add_tables(con, str(output), names[1:3], ["videos"])
    assert con.execute("SELECT count(*) FROM videos").fetchone() == (12,)


def test_units_that_are_not_committed_are_left_out(output: Path) -> None:
    mark = sorted((output / "videos").iterdir())[0]
    mark.unlink()
    (output / "videos" / "part-999999-0123456789abcdef.parquet").write_bytes(b"of no unit")
    con = connect()
    add_views(con, str(output))
    assert con.execute("SELECT count(*) FROM videos").fetchone() == (32,)
    assert con.execute("SELECT count(DISTINCT video_id) FROM attributions").fetchone() == (32,)


@pytest.mark.slow
def test_an_output_of_an_earlier_version_has_the_method_esv(output: Path) -> None:
    for path in (output / "attributions").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["method"]) if "method" in table.column_names else table, path)
    con = connect()
    add_views(con, str(output))
    table = table_of(con, "FROM attributions")
    assert table.column_names[:2] == ["video_id", "method"]
    assert set(table.column("method").to_pylist()) == {"esv"}


def test_further_tables(output: Path) -> None:
    (output / "marginals").mkdir()
    names = sorted(path.name for path in (output / "videos").iterdir())
    for name in names:
        pq.write_table(pa.table({"scale": [1, 2]}), output / "marginals" / name)
    con = connect()
    add_tables(con, str(output), names, ["videos", "marginals"])
    assert con.execute("SELECT sum(scale) FROM marginals").fetchone() == (3 * len(names),)
    with pytest.raises(duckdb.CatalogException):
        con.execute("FROM discards")


def test_class_names_are_values(output: Path) -> None:
    run_json = output / "run.json"
    content = json.loads(run_json.read_text())
    names = ["'); DROP TABLE classes; --", "\x1b[31m", ""]
    content["model"]["classes"] = names
    from esv_ray.output.manifest import checksum_of

    run_json.write_text(json.dumps({**content, "checksum": checksum_of(content)}))
    con = connect()
    add_views(con, str(output))
    assert [row[0] for row in con.execute("SELECT name FROM classes").fetchall()] == names


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no Parquet at all, but some bytes", None])
@pytest.mark.parametrize("number", [0, 2])
def test_damaged_files(output: Path, content: bytes | None, number: int) -> None:
    path = sorted((output / "attributions").iterdir())[number]
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\xff" * 200 + data[208:] if content is None else content)
    for url in (str(output), "memory://damaged"):
        copy_to(fsspec.filesystem("memory"), output, "/damaged")
        with pytest.raises(DataError, match=f"(?s){url}: expected readable tables, got: .*; see esv verify {url}") as e:
            read_all(url)
        assert "\n" not in str(e.value)
        assert "esv-file" not in str(e.value)


def read_all(url: str) -> None:
    con = connect()
    add_views(con, url)
    with reading(url):
        con.execute("FROM attributions").fetchall()


@pytest.mark.slow
def test_a_file_that_vanishes(output: Path) -> None:
    fs = fsspec.filesystem("memory")
    copy_to(fs, output, "/vanishing")
    con = connect()
    add_views(con, "memory://vanishing")
    name = sorted(path.name for path in (output / "attributions").iterdir())[2]
    fs.rm_file(f"/vanishing/attributions/{name}")
    url = "memory://vanishing"
    with pytest.raises(DataError, match=f"cannot read: {url}/attributions/{name} was not found") as error, reading(url):
        con.execute("FROM attributions").fetchall()
    assert "Traceback" not in str(error.value)


def test_an_output_without_units(output: Path) -> None:
    shutil.rmtree(output / "videos")
    with pytest.raises(DataError, match="expected committed units, found none yet; run the job first"):
        add_views(connect(), str(output))


def test_the_memory_limit() -> None:
    with pytest.raises(SpecError, match="memory: expected at least"):
        connect(memory=FEWEST_BYTES - 1)
    con = connect(memory=FEWEST_BYTES)
    with pytest.raises(DataError, match="more memory than its limit"), reading("here"):
        con.execute("SELECT list(i) FROM range(50_000_000) t(i)").fetchall()


def test_the_temporary_folder_is_removed() -> None:
    con = connect(memory=FEWEST_BYTES)
    folder = Path(con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])
    assert not folder.exists()
    con.execute("CREATE TABLE big AS SELECT hash(i) h, hash(i + 1) g FROM range(8_000_000) t(i)")
    assert folder.exists()
    con.close()
    assert not folder.exists()


def test_paths_of_files(tmp_path: Path) -> None:
    assert storage.file_path(str(tmp_path / "a.parquet")) == str(tmp_path / "a.parquet")
    for url in ("memory://a/b[1].parquet", "s3://bucket/é*"):
        path = storage.file_path(url)
        assert path.isascii()
        assert not set(path) & set("*?[]")
        assert storage.unescaped(f"File '{path}' is bad") == f"File '{url}' is bad"
    assert storage.fault_in("nothing of it") is None


def test_errors_from_their_text() -> None:
    con = connect(memory=FEWEST_BYTES)
    for query in (
        *("SELECT CAST('x' AS INT)", "SELEC", "FROM nothing", "SELECT a", "SELECT error('a')"),
        *("FROM 'x.parquet'", "SELECT list(i) FROM range(50_000_000) t(i)", "SELECT 9223372036854775807 + 1"),
    ):
        with pytest.raises(duckdb.Error) as error:
            con.execute(query).fetchall()
        assert type(error_from(str(error.value))) is type(error.value)
    assert type(error_from("don't know what type: ")) is duckdb.Error
