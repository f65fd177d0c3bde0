"""esv smoothness, esv order, esv sanity: jobs beside an output, and summaries of them, against numpy."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import verify_output
from tests.conftest import make_heads, make_prior, make_table
from tests.support.command import HERE, run
from tests.support.s3_server import S3Server, client

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def esv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: run(*arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    """The arguments of a job over videos of 9 to 30 frames."""
    save_heads(str(tmp_path / "model"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    pq.write_table(make_table([17, 9, 12, 30, 22] * 4), tmp_path / "f.parquet")
    places = {"features": "f.parquet", "model": "model", "output": "out"}
    options = [part for key, name in places.items() for part in (f"--{key}", str(tmp_path / name))]
    return [*options, *HERE, "--set", "frames=4", "--set", "estimator.kind=exact"]


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def test_smoothness(esv: Run, job: list[str], tmp_path: Path) -> None:
    code, out, _ = esv("smoothness", *job, "--offsets", "1,2")
    assert code == 0
    assert "2 frames" not in out
    assert "1 frame away, half of the changes are" in out
    own = rows(tmp_path / "out" / "variations" / "smoothness" / "smoothness")
    table = rows(tmp_path / "out" / "analysis" / "smoothness.parquet")
    assert [(row["n_elements"], row["offset"]) for row in table] == [(4, -2), (4, -1), (4, 1), (4, 2)]
    for row in table:
        changes = np.array([each["change"] for each in own if each["offset"] == row["offset"]], np.float64)
        videos = {each["video_id"] for each in own if each["offset"] == row["offset"]}
        assert (row["count"], row["videos"]) == (len(changes), len(videos))
        assert row["mean"] == pytest.approx(changes.mean())
        for share in (5, 25, 50, 75, 95):
            # The first value with at least that share of the values up to it, within the bins' 0.04 %.
            expected = np.quantile(changes, share / 100, method="inverted_cdf")
            assert row[f"p{share}"] == pytest.approx(expected, rel=5e-4)


@pytest.mark.slow
def test_smoothness_on_s3(esv: Run, job: list[str], tmp_path: Path, s3: S3Server) -> None:
    """The output, its variation and the summary on S3 are those of a disk."""
    remote = f"{s3.bucket}/{uuid.uuid4().hex}"
    assert esv("smoothness", *job, "--offsets", "1,2")[0] == 0
    code, out, _ = esv("smoothness", *job, "--output", f"s3://{remote}", "--offsets", "1,2")
    assert code == 0
    assert "1 frame away, half of the changes are" in out
    fs = client(s3)
    for name in ("variations/smoothness/smoothness", "analysis/smoothness.parquet"):
        assert pq.read_table(f"{remote}/{name}", filesystem=fs).equals(pq.read_table(tmp_path / "out" / name))


def test_order(esv: Run, job: list[str], tmp_path: Path) -> None:
    code, out, _ = esv("order", *job, "--shuffles", "3")
    assert code == 0
    assert "needs the order most" in out
    own = rows(tmp_path / "out" / "variations" / "order" / "order")
    table = rows(tmp_path / "out" / "analysis" / "order.parquet")
    assert [row["class"] for row in table] == [None, 0, 1, 2]
    for row in table:
        mine = [each for each in own if row["class"] in (None, each["class"])]
        assert row["videos"] == len(mine)
        for name in ("score", "shuffled_score", "spearman"):
            assert row[name] == pytest.approx(np.mean([each[name] for each in mine]))
        assert row["difference"] == pytest.approx(row["score"] - row["shuffled_score"])
        assert row["low"] <= row["difference"] <= row["high"]


def test_sanity(esv: Run, job: list[str], tmp_path: Path) -> None:
    code, out, _ = esv("sanity", *job)
    assert code == 0
    assert "re-initialized layers" in out
    own = rows(tmp_path / "out" / "variations" / "sanity" / "sanity")
    table = rows(tmp_path / "out" / "analysis" / "sanity.parquet")
    assert [row["layers_randomised"] for row in table] == [1, 2]
    for row in table:
        mine = [each["spearman"] for each in own if each["layers_randomised"] == row["layers_randomised"]]
        assert row["videos"] == len(mine) == 20
        assert row["spearman"] == pytest.approx(np.mean(mine))
        assert row["low"] <= row["spearman"] <= row["high"]


def test_beside_the_main_output(esv: Run, job: list[str], tmp_path: Path) -> None:
    """Before or after the job itself; run again, they resume; the job's own tables are not touched."""
    assert esv("sanity", *job)[0] == 0
    assert esv("attribute", *job)[0] == 0
    assert esv("order", *job)[0] == 0
    code, out, _ = esv("sanity", *job)
    assert code == 0
    assert "resumed" in out
    assert verify_output(str(tmp_path / "out")).problems == ()
    assert esv("attribute", *job)[0] == 0
    assert verify_output(str(tmp_path / "out" / "variations" / "order")).problems == ()


def test_videos_of_one_frame_have_no_neighbors(esv: Run, job: list[str], tmp_path: Path) -> None:
    pq.write_table(make_table([1, 1, 1]), tmp_path / "f.parquet")
    code, out, _ = esv("smoothness", *job)
    assert code == 0
    assert "No element could be moved" in out


@pytest.mark.parametrize("offsets", ["x", "0", "1.5", ""])
def test_offsets_that_are_none(esv: Run, job: list[str], offsets: str) -> None:
    code, _, err = esv("smoothness", *job, "--offsets", offsets)
    assert code == 2
    assert err.startswith("esv: ")
    assert "offsets" in err
    assert err.count("\n") == 1
