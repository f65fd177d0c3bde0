"""Agreement of methods: against plain numpy, beside `esv compare`, and outputs that have one method."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from esv_ray.analysis import batches
from esv_ray.analysis.compare import agreement, compare
from esv_ray.analysis.statistics import mean_of
from esv_ray.analysis.tables import analyze
from esv_ray.cli import cli
from esv_ray.errors import DataError
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run

METHODS = ("esv", "occlusion", "random")
Key = tuple[str, int, int, str]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Values of three methods of 30 videos of 1 to 5 frames; those of two videos are all equal, by ESV."""
    folder = tmp_path_factory.mktemp("agreement")
    save_heads(str(folder / "model"), make_heads(), make_prior(3))
    rows = make_table([1 + index % 5 for index in range(30)])
    features = rows.column("features").to_pylist()
    for video in (3, 4):
        features[video] = [features[video][0]] * len(features[video])
    place = rows.schema.get_field_index("features")
    column = pa.array(features, rows.schema.field("features").type)
    pq.write_table(rows.set_column(place, rows.schema.field(place), column), folder / "features.parquet")
    overrides = ["estimator.kind=exact", f"methods=[{','.join(METHODS)}]", "classes=[label,predicted]"]
    run(str(folder / "features.parquet"), str(folder / "model"), folder / "out", *overrides, "compute.unit=4")
    return folder / "out"


def values_of(output: Path) -> tuple[dict[str, Any], dict[Key, np.ndarray[Any, np.dtype[np.float64]]]]:
    videos = {row["video_id"]: row for row in pq.read_table(output / "videos").to_pylist()}
    lists: dict[Key, dict[int, float]] = {}
    for row in pq.read_table(output / "attributions").to_pylist():
        key = row["video_id"], row["n_elements"], row["class"], row["method"]
        lists.setdefault(key, {})[row["element"]] = row["esv"]
    return videos, {key: np.array([of[e] for e in range(len(of))]) for key, of in lists.items()}


def ranks(values: Any) -> Any:
    return np.array([(values < value).sum() + (values == value).sum() / 2 for value in np.round(values, 6)])


def correlation(a: Any, b: Any) -> float:
    if np.ptp(a) < 1e-6 or np.ptp(b) < 1e-6:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def by_hand(output: Path, explained: str) -> dict[tuple[int, str, str], dict[str, Any]]:
    """The correlations of each pair of methods, by video."""
    videos, values = values_of(output)
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    for video_id, row in videos.items():
        n = row["n_elements"]
        for one, other in combinations(METHODS, 2):
            a, b = (values[video_id, n, row[explained], method] for method in (one, other))
            rank = correlation(ranks(np.round(a, 6)), ranks(np.round(b, 6)))
            of = found.setdefault((n, one, other), {"ids": [], "pearson": [], "spearman": []})
            of["ids"].append(video_id)
            of["pearson"].append(correlation(a, b))
            of["spearman"].append(rank)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("explained", ["label", "predicted"])
def test_against_numpy(output: Path, explained: Any) -> None:
    found = analyze(str(output), ["agreement"], explained)["agreement"]
    expected = by_hand(output, explained)
    assert found.column_names == [
        *("n_elements", "method_a", "method_b", "videos", "pearson", "spearman"),
        *("pearson_low", "pearson_high", "spearman_low", "spearman_high"),
    ]
    rows = found.to_pylist()
    assert [(row["n_elements"], row["method_a"], row["method_b"]) for row in rows] == sorted(expected)
    for row in rows:
        of = expected[row["n_elements"], row["method_a"], row["method_b"]]
        assert row["videos"] == len(of["ids"]) == 6
        for name in ("pearson", "spearman"):
            values = np.array(of[name])
            known = np.isfinite(values)
            if not known.any():
                assert row[name] is row[f"{name}_low"] is row[f"{name}_high"] is None
                continue
            assert row[name] == pytest.approx(values[known].mean(), abs=1e-6)
            interval = mean_of([each for each, k in zip(of["ids"], known, strict=True) if k], values[known][:, None])
            if np.ptp(values[known]) < 1e-9:  # equal but for rounding: there may be an interval, or none
                continue
            for end in ("low", "high"):
                expected_end = float(np.clip(getattr(interval, end), -1, 1)[0])
                got = row[f"{name}_{end}"]
                assert (got is None) if np.isnan(expected_end) else got == pytest.approx(expected_end, abs=1e-5)


def test_videos_whose_values_are_equal_are_left_out(output: Path) -> None:
    """Static videos have ESVs that differ by rounding alone, and no correlation with anything."""
    _, values = values_of(output)
    static = [of for (_, n, _, method), of in values.items() if n > 1 and method == "esv" and np.ptp(of) < 1e-6]
    assert len(static) >= 2
    expected = by_hand(output, "label")
    unknown = [key for key, of in expected.items() if key[1] == "esv" and np.isnan(of["spearman"]).sum() == 1]
    assert {n for n, _, _ in unknown} == {4, 5}


@pytest.mark.slow
def test_one_place_computes_it(output: Path) -> None:
    """`esv compare` prints the table of `esv analyze`; the two methods alone give the same numbers."""
    whole = analyze(str(output), ["agreement"])["agreement"]
    assert agreement(str(output)).equals(whole)
    for one, other in combinations(METHODS, 2):
        alone = compare(str(output), method_a=one, method_b=other).agreement
        assert alone.column_names == whole.column_names
        rows = [row for row in whole.to_pylist() if (row["method_a"], row["method_b"]) == (one, other)]
        for row, of_pair in zip(rows, alone.to_pylist(), strict=True):
            assert row == pytest.approx(of_pair, abs=1e-6)


@pytest.mark.slow
def test_batches_do_not_matter(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = analyze(str(output), ["agreement"])["agreement"].to_pylist()
    monkeypatch.setattr(batches, "_MOST_ELEMENTS", 1)
    for row, single in zip(whole, analyze(str(output), ["agreement"])["agreement"].to_pylist(), strict=True):
        assert row == pytest.approx(single, abs=1e-6)


def test_outputs_that_cannot_have_it(output: Path, tmp_path: Path) -> None:
    parts = output.parent
    run(str(parts / "features.parquet"), str(parts / "model"), tmp_path / "one")
    assert "agreement" not in analyze(str(tmp_path / "one"))
    with pytest.raises(DataError, match="expected values of several methods, got those of esv; see `methods`"):
        analyze(str(tmp_path / "one"), ["agreement"])
    damaged = tmp_path / "damaged"
    for folder in ("videos", "attributions"):
        (damaged / folder).mkdir(parents=True)
        for path in (output / folder).iterdir():
            table = pq.read_table(path)
            metadata = pq.read_metadata(path).metadata
            kept = table.slice(0, table.num_rows - (folder == "attributions"))
            pq.write_table(kept.replace_schema_metadata(metadata), damaged / folder / path.name)
    (damaged / "run.json").write_bytes((output / "run.json").read_bytes())
    with pytest.raises(DataError, match=r"expected one value per element, got more or fewer for video .*esv verify"):
        analyze(str(damaged), ["agreement"])


@pytest.mark.slow
def test_page_and_figure(output: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["analyze", str(output), "--table", "agreement", "--output", str(tmp_path), "--figures", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    assert "Agreement of methods" in done.stdout
    assert "ESV, occlusion" in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-2])) <= 80
    assert {path.name for path in tmp_path.iterdir()} == {
        f"agreement.{suffix}" for suffix in ("parquet", "svg", "png", "html")
    }
    compared = CliRunner().invoke(cli, ["compare", str(output)]).stdout.splitlines()
    assert set(compared) <= set(done.stdout.splitlines())
