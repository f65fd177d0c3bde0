"""Jobs over tables that want to do harm: absurd row groups fail alone, and no id becomes a path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.work import run_job
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.parquet_surgery import long_row, take_apart

IDS = [
    *(
        "../../escaped",
        "/etc/passwd",
        "a/b",
        "a\\b",
        ".",
        "..",
        "~",
        "C:\\x",
        "nul",
        "a\0b",
        "a\nb",
        "\r",
        "\t",
        " ",
        "%2e%2e/",
    ),
    *(
        "\x1b[2J\x1b]0;title\x07",
        "\u202egnp.exe",
        "\u200b",
        "\ufeff",
        "\x7f",
        "\x9b31m",
        "é",
        "e\u0301",
        "😀",
        "\U0010ffff",
    ),
    *(
        "s3://bucket/key",
        "file:///etc/passwd",
        "*",
        "?",
        "{a}",
        "$HOME",
        "`id`",
        "'; --",
        '"',
        "[red]x[/red]",
        "x" * 4096,
    ),
]


def tree(folder: Path) -> set[Path]:
    """All files below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


def test_ids_stay_as_they_are_and_become_no_path(tmp_path: Path, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    table = make_table([1 + row % 3 for row in range(len(IDS))])
    (deep / "in").mkdir()
    pq.write_table(table.set_column(0, "video_id", pa.array(IDS)), deep / "in" / "table.parquet")
    before = tree(tmp_path)
    spec = {"features": str(deep / "in"), "model": bundle, "output": str(deep / "out"), "cluster": {"actors": 0}}
    result = run_job(load_spec(spec))
    assert (result.exit_code, result.counts.ok) == (0, len(IDS))
    assert pq.read_table(deep / "out" / "videos").column("video_id").to_pylist() == IDS
    assert set(pq.read_table(deep / "out" / "attributions").column("video_id").to_pylist()) == set(IDS)
    written = {path.relative_to(deep / "out").as_posix() for path in tree(tmp_path) - before}
    known = {"run.json", "progress.json", "_SUCCESS", "videos", "attributions"}
    assert {name.partition("/")[0] for name in written} <= known
    assert all(name.partition("/")[2].startswith("part-") for name in written if "/" in name)


@pytest.mark.parametrize("video_id", IDS)
def test_ids_are_printed_without_control_characters(video_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    from esv_ray.show.text import printable

    print(printable(video_id))
    out = capsys.readouterr().out.removesuffix("\n")
    assert out.isprintable()


def test_an_absurd_row_group_fails_and_the_job_goes_on(tmp_path: Path) -> None:
    """160 MB of features in 1.5 kB, where a job may take 100 MB."""
    bundle = str(tmp_path / "model")
    save_heads(bundle, make_heads(feature_dim=3), make_prior(3))
    features = pa.array([[[1.0, 1.0, 1.0]]] * 3, pa.list_(pa.list_(pa.float32())))
    path = tmp_path / "table.parquet"
    table = pa.table({"video_id": ["long", "b", "c"], "features": features, "label": [2, 1, 0]})
    pq.write_table(table, path, compression="none", row_group_size=1)
    path.write_bytes(long_row(path.read_bytes(), 40_000_000))
    assert len(take_apart(path.read_bytes()).groups) == 3
    spec = {"features": str(path), "model": bundle, "output": str(tmp_path / "out"), "max_failed": 1}
    spec |= {"cluster": {"actors": 0}, "compute": {"memory_budget": 100_000_000}}
    result = run_job(load_spec(spec))
    assert (result.exit_code, result.counts.ok, result.counts.failed) == (0, 2, 1)
    videos = pq.read_table(tmp_path / "out" / "videos").sort_by("video_id").to_pylist()
    assert [(row["video_id"], row["label"], row["status"]) for row in videos] == [
        ("b", 1, "ok"), ("c", 0, "ok"), ("long", 2, "failed"),
    ]  # fmt: skip
    assert "compute.memory_budget is 100000000" in videos[2]["reason"]
