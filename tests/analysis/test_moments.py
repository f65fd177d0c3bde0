"""Agreement with marked key moments: against numpy, and feature tables that have none or odd ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.figures.files import figure_files
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.analysis.moments import lacks_moments
from esv_ray.analysis.statistics import wilson
from esv_ray.analysis.tables import analyze
from esv_ray.errors import DataError
from esv_ray.models.saving import save_heads
from esv_ray.output.manifest import existing_manifest
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run

LENGTHS = [9, 12, 7, 20, 15, 3] * 4


def marked(rows: int, seed: int = 0) -> dict[str, pa.Array]:
    """Key moments inside of the videos, one of them without an end, one beyond every frame."""
    rng = np.random.default_rng(seed)
    starts = [int(rng.integers(length)) for length in LENGTHS[:rows]]
    ends: list[int | None] = [start + int(rng.integers(5)) for start in starts]
    ends[0], starts[1], ends[1] = None, 1000, 1001
    return {"key_start": pa.array(starts, pa.int32()), "key_end": pa.array(ends, pa.int64())}


def with_columns(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("moments")
    (place / "features").mkdir()
    pq.write_table(
        with_columns(make_table(LENGTHS), marked(len(LENGTHS))), place / "features" / "a.parquet", row_group_size=10
    )
    save_heads(str(place / "model"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    methods = "methods=[esv,occlusion,random]"
    run(str(place / "features"), str(place / "model"), place / "out", "frames=6", methods, "compute.unit=4")
    return place


def by_hand(folder: Path, output: str = "out") -> dict[tuple[int, str], dict[str, float]]:
    """Measures of each method by their definitions, over pairs of elements."""
    table = pq.read_table(folder / "features").to_pylist()
    moments = {row["video_id"]: (row["key_start"], row["key_end"]) for row in table}
    labels = {row["video_id"]: row["label"] for row in table}
    values: dict[tuple[str, str, int], list[tuple[int, float]]] = {}
    for row in pq.read_table(folder / output / "attributions").to_pylist():
        if row["class"] == labels[row["video_id"]]:
            key = row["video_id"], row["method"], row["n_elements"]
            values.setdefault(key, []).append((row["frame_index"], row["esv"]))
    found: dict[tuple[int, str], list[tuple[float, float, float, float]]] = {}
    for (video, method, n), elements in values.items():
        start, end = moments[video]
        if end is None:
            continue
        inside = np.array([start <= frame <= end for frame, _ in elements])
        esv = np.array([value for _, value in elements])
        if not 0 < inside.sum() < n:
            continue
        pairs = [(a > b) + 0.5 * (a == b) for a in esv[inside] for b in esv[~inside]]
        last = np.sort(esv)[::-1][inside.sum() - 1]  # equal ones share the last places
        places = (inside.sum() - (esv > last).sum()) / (esv == last).sum()
        hits = inside[esv > last].sum() + places * inside[esv == last].sum()
        measures = (
            float(inside[esv == esv.max()].mean()),
            float(np.mean(pairs)),
            hits / (2 * inside.sum() - hits),
            inside.mean(),
        )
        found.setdefault((n, method), []).append(measures)
    names = ("pointing", "auc", "iou", "by_chance")
    return {
        key: {"videos": len(rows), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}
        for key, rows in found.items()
    }


def test_against_brute_force(folder: Path) -> None:
    table = analyze(str(folder / "out"), ["moments"])["moments"]
    expected = by_hand(folder)
    rows = table.to_pylist()
    assert [(row["n_elements"], row["method"]) for row in rows] == [
        (n, method) for n in sorted({n for n, _ in expected}) for method in ("esv", "occlusion", "random")
    ]
    assert {n for n, _ in expected} == {3, 6}
    for row in rows:
        for name, value in expected[row["n_elements"], row["method"]].items():
            assert row[name] == pytest.approx(value, abs=1e-9)
        for name in ("pointing", "auc", "iou"):
            if row[f"{name}_low"] is not None:
                assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
        hits = round(row["pointing"] * row["videos"])
        assert (row["pointing_low"], row["pointing_high"]) == pytest.approx(wilson(hits, row["videos"]))


def test_equal_values_share_their_places(folder: Path) -> None:
    """Whatever the order of elements with equal values: all equal, and equal in pairs."""
    for name, together in {"equal": 100, "pairs": 2}.items():
        shutil.copytree(folder / "out", folder / name)
        for path in (folder / name / "attributions").iterdir():
            table = pq.read_table(path)
            esv = pa.array((table.column("element").to_numpy() // together % 3).astype(np.float32))
            pq.write_table(table.set_column(table.column_names.index("esv"), "esv", esv), path)
        expected = by_hand(folder, name)
        rows = analyze(str(folder / name), ["moments"])["moments"].to_pylist()
        assert len(rows) == len(expected) > 3
        for row in rows:
            for measure, value in expected[row["n_elements"], row["method"]].items():
                assert row[measure] == pytest.approx(value, abs=1e-9), (name, measure)


@pytest.mark.slow
def test_the_figure(folder: Path) -> None:
    table = analyze(str(folder / "out"), ["moments"])["moments"]
    files = figure_files(CHARTS["moments"], table, names=None, unit="probability")
    text = files["svg"].decode()
    assert "Agreement of each method" in text
    assert text.count("occlusion") >= 3


@pytest.mark.slow
def test_all_tables_hold_them_where_they_are_marked(folder: Path, tmp_path: Path) -> None:
    assert "moments" in analyze(str(folder / "out"))
    pq.write_table(make_table(LENGTHS), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(folder / "model"), tmp_path / "out", "frames=6")
    assert "moments" not in analyze(str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"expected the columns key_start and key_end .* found no key_start"):
        analyze(str(tmp_path / "out"), ["moments"])


@pytest.mark.slow
def test_other_names_and_kinds_of_ids(folder: Path, tmp_path: Path) -> None:
    table = with_columns(make_table(LENGTHS), marked(len(LENGTHS)))
    numbers = table.set_column(0, "clip", pa.array(range(len(LENGTHS)), pa.int64()))
    pq.write_table(numbers, tmp_path / "f.parquet")
    settings = "frames=6", "columns.video_id=clip", "methods=[esv,occlusion]"
    run(str(tmp_path / "f.parquet"), str(folder / "model"), tmp_path / "out", *settings)
    found, before = (analyze(str(place / "out"), ["moments"])["moments"].to_pylist() for place in (tmp_path, folder))
    kept = [row for row in before if row["method"] != "random"]
    for row, other in zip(found, kept, strict=True):
        assert (row["method"], row["pointing"]) == (other["method"], other["pointing"])
        assert row["auc"] == pytest.approx(other["auc"])


@pytest.mark.parametrize("kind", [pa.string(), pa.float64()])
def test_moments_that_are_no_whole_numbers(folder: Path, tmp_path: Path, kind: pa.DataType) -> None:
    columns = {name: pa.array([1] * len(LENGTHS)).cast(kind) for name in ("key_start", "key_end")}
    pq.write_table(with_columns(make_table(LENGTHS), columns), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(folder / "model"), tmp_path / "out", "frames=6")
    with pytest.raises(DataError, match=f"column key_start: expected whole numbers, got {kind}"):
        analyze(str(tmp_path / "out"), ["moments"])


@pytest.mark.slow
def test_a_table_that_is_gone_or_somewhere_else(folder: Path, tmp_path: Path) -> None:
    pq.write_table(with_columns(make_table(LENGTHS), marked(len(LENGTHS))), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(folder / "model"), tmp_path / "out", "frames=6")
    with pytest.raises(
        DataError, match=r"expected the feature table of the job, got .*, which does not hold .*f\.parq"
    ):
        analyze(str(tmp_path / "out"), ["moments"], features=str(folder / "features"))
    (tmp_path / "f.parquet").unlink()
    assert "moments" not in analyze(str(tmp_path / "out"))
    with pytest.raises(DataError, match="the key moments cannot be read: "):
        analyze(str(tmp_path / "out"), ["moments"])


def test_a_run_json_may_not_name_any_location(folder: Path, tmp_path: Path) -> None:
    """Another kind of store is only opened if the user names it."""
    manifest = existing_manifest(str(folder / "out"))
    content: Any = json.loads(json.dumps({**manifest.keys, "features": "s3://elsewhere/f.parquet"}))
    other = replace(manifest, keys=content)
    reason = lacks_moments(str(folder / "out"), other, None)
    assert reason is not None
    assert "run.json names s3://elsewhere/f.parquet; give --features" in reason


@pytest.mark.slow
@pytest.mark.parametrize("unit", [4, 30])
def test_repeated_ids_count_once(unit: int, folder: Path, tmp_path: Path) -> None:
    """A job attributes the first row of an id in a file; whatever moments the others have."""
    table = pq.read_table(folder / "features" / "a.parquet")
    other = pa.table({name: table.column(name) for name in table.column_names if not name.startswith("key_")})
    other = with_columns(other, marked(len(LENGTHS), seed=1)).slice(2, 9)
    features = tmp_path / "features.parquet"
    pq.write_table(pa.concat_tables([table, other.cast(table.schema)]), features, row_group_size=10)
    settings = "methods=[esv,occlusion,random]", f"compute.unit={unit}", "max_failed=1"
    run(str(features), str(folder / "model"), tmp_path / "out", "frames=6", *settings)
    assert analyze(str(tmp_path / "out"), ["moments"])["moments"].equals(
        analyze(str(folder / "out"), ["moments"])["moments"]
    )
