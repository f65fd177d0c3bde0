"""`esv plan`: the page, the JSON with its documented keys, exit codes; nothing is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import make_heads, make_prior, make_table
from tests.support.command import HERE
from tests.support.videos import write_video

ROOT = Path(__file__).parents[2]


def places(features: str, bundle: str, output: Path) -> list[str]:
    return ["--features", features, "--model", bundle, "--output", str(output)]


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_page(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out"
    arguments = [*places(features, bundle, out), *HERE, "--set", "frames=[2,5]"]
    code, stdout, err = esv("plan", *arguments)
    assert (code, err) == (0, "")
    for part in (
        "40 videos in 2 files, 4 row groups",
        "mean of each row group; --read-lengths gives exact lengths",
        "exact",
        "evaluations  ",
        "create-only",
        "measured here in",
        "with 1 actor on cpu",
    ):
        assert part in stdout, part
    assert all(len(line) <= 120 for line in stdout.splitlines() if not line.startswith("warning"))
    assert files_below(out) == []
    assert esv("attribute", *arguments)[0] == 0
    before = files_below(out)
    code, stdout, _ = esv("plan", *arguments, "--read-lengths", "--check-ids")
    assert (code, "left: 0 units" in stdout, "nothing is left to do" in stdout) == (0, True, True)
    assert "frames per video (exact)" in stdout
    assert files_below(out) == before


def keys_of(content: object, above: str = "") -> set[str]:
    """Return the dotted names of the keys of a JSON object; of a list, those of its first entry."""
    if isinstance(content, list):
        return keys_of(content[0], above) if content else set()
    if not isinstance(content, dict):
        return set()
    return {f"{above}{key}" for key in content} | set().union(
        *(keys_of(value, f"{above}{key}.") for key, value in content.items())
    )


def documented_keys(*, of: str = "") -> set[str]:
    page = (ROOT / "esv_ray" / "docs" / "reference" / "plan-json.md").read_text()
    parts = re.split(r"^## Plan of an? (\w+)(?: run)?$", page, flags=re.MULTILINE)
    part = dict(zip(["", *parts[1::2]], parts[::2], strict=True))[of]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_json_has_the_documented_keys(esv, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "features"
    folder.mkdir()
    for name in "ab":
        pq.write_table(make_table([3] * 4), folder / f"{name}.parquet")
    code, stdout, err = esv(
        "plan",
        *places(str(folder), bundle, tmp_path / "out"),
        *HERE,
        "--check-ids",
        "--json",
        "--set",
        "tables=discards",
    )
    assert (code, err) == (1, ""), "the job would not finish"
    content = json.loads(stdout)
    assert content["format"] == 1
    assert content["repeated_ids"]["across_files"] == 4
    assert content["input"]["lengths"] == [{"frames": 3, "videos": 8}]
    assert content["warnings"]
    nested = keys_of(content)
    leaves = {name for name in nested if not any(other.startswith(f"{name}.") for other in nested)}
    assert leaves == documented_keys()


@pytest.mark.parametrize(
    "rate", [["frames: 3", "thumbnails: true"], pytest.param(["fps: 5"], marks=pytest.mark.slow)], ids=["frames", "fps"]
)
def test_an_extraction(esv, rate: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The page and the JSON, before, and after all is done; nothing is written, and files that are missing are told."""
    (tmp_path / "clips").mkdir()
    for number in range(3):
        write_video(tmp_path / "clips" / f"{number}.mp4", frames=10)
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"no video")
    rows = [f"clips/{name}.mp4" for name in ("0", "1", "2", "bad", "none")]
    (tmp_path / "clips.csv").write_text("\n".join(["path", *rows, ""]))
    spec, out = tmp_path / "extract.yaml", tmp_path / "table"
    text = [f"videos: {tmp_path}/clips.csv", "backbone: pooled", f"output: {out}", *rate, "cluster: {actors: 0}"]
    spec.write_text("\n".join([*text, "max_failed: 0.5"]))
    code, stdout, err = esv("plan", str(spec))
    assert (code, err) == (0, "")
    for part in ("5 videos in 5 files, ", "2 units; backbone pooled, D = 147, no labels", "tried here   ",
                 "create-only", "time         about ", "with 1 actor on cpu", "1 of 5 files looked at cannot be read",
                 "of 4 videos tried failed: "):  # fmt: skip
        assert part in stdout, part
    assert files_below(out) == []
    code, stdout, _ = esv("plan", str(spec), "--json", "--actors", "1")
    content = json.loads(stdout)
    nested = keys_of(content)
    assert {name for name in nested if not any(other.startswith(f"{name}.") for other in nested)} == documented_keys(
        of="extraction"
    )
    assert content["input"]["most_elements"] == (3 if "frames: 3" in rate else None)
    assert content["tried"]["elements"] == [3 if "frames: 3" in rate else 2]
    assert content["time"]["seconds"] > 0
    assert content["time"]["actors"] == 1
    assert esv("extract", str(spec))[0] == 0
    done = json.loads(esv("plan", str(spec), "--json")[1])
    assert done["done"] == {"planned": True, "units": 2, "videos": 5, "failed": 2, "units_left": 0, "videos_left": 0}
    assert done["time"]["seconds"] == 0
    assert "nothing is left to do" in esv("plan", str(spec))[1]
    for wrong in (["--read-lengths"], ["--check-ids"], ["--features", "x"], ["--set", "backbone=other"]):
        code, stdout, err = esv("plan", str(spec), *wrong)
        assert (code, stdout, err.count("\n")) == (2, "", 1), err


def test_an_empty_table_and_ids_with_control_characters(esv, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    pq.write_table(make_table([3]).slice(0, 0), tmp_path / "empty" / "a.parquet")
    for command in ("plan", "attribute"):
        code, stdout, stderr = esv(command, *places(str(tmp_path / "empty"), bundle, tmp_path / "out"), *HERE)
        assert (code, stdout) == (2, "")
        assert stderr.endswith("expected videos, got a table without rows; check `features`\n")
        assert not (tmp_path / "out").exists()
    (tmp_path / "twice").mkdir()
    for name in "ab":
        table = make_table([3]).set_column(0, "video_id", [["\x1b[31mred\nline\x07"]])
        pq.write_table(table, tmp_path / "twice" / f"{name}.parquet")
    code, stdout, _ = esv("plan", *places(str(tmp_path / "twice"), bundle, tmp_path / "out"), *HERE, "--check-ids")
    assert code == 1
    assert r"\x1b[31mred\nline\x07" in stdout


@pytest.mark.slow
def test_other_actors_and_other_measurements(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = [*places(features, bundle, tmp_path / "out"), "--set", "frames=3"]
    assert json.loads(esv("plan", *arguments, "--actors", "3", "--json")[1])["time"]["actors"] == 3
    bench = tmp_path / "bench.json"
    sizes = ["--feature-dim", "4", "--hidden", "8", "--classes", "3", "--n-max", "3"]
    figures = ["--estimator", "exact", "-n", "3", "--repeats", "1", "--no-host", "--json", str(bench)]
    assert esv("bench", *sizes, *figures)[0] == 0
    code, stdout, _ = esv("plan", *arguments, "--bench", str(bench), "--json")
    assert code == 0
    assert json.loads(stdout)["time"]["figures"] == f"--bench {bench}"
    sampled = ["--set", "estimator.kind=adjusted", "--set", "estimator.m=1", "--set", "estimator.iterations=1"]
    code, _, err = esv("plan", *arguments, *sampled, "--bench", str(bench))
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert "expected measurements of the estimator adjusted" in err


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--set", "estimator.kin=exact"], "did you mean 'estimator.kind'?"),
        (["--features", "/nowhere/at/all"], "/nowhere/at/all was not found"),
        (["--model", "/nowhere"], "no model.json"),
        (["--bench", "/nowhere.json"], "expected a file that `esv bench --json` wrote"),
        (["--set", "frames=70", "--set", "estimator.kind=exact"], "exact ESVs of n = 70"),
    ],
)
def test_invalid_requests_give_one_line_and_code_2(  # type: ignore[no-untyped-def]
    esv,
    extra: list[str],
    expected: str,
    features: str,
    bundle: str,
    tmp_path: Path,
) -> None:
    code, stdout, err = esv("plan", *places(features, bundle, tmp_path / "out"), *HERE, *extra)
    assert (code, stdout) == (2, "")
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_output_of_another_job(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = [*places(features, bundle, tmp_path / "out"), *HERE]
    assert esv("attribute", *arguments, "--set", "frames=2")[0] == 0
    refused = esv("attribute", *arguments, "--set", "frames=3")
    assert esv("plan", *arguments, "--set", "frames=3") == refused
    assert refused[0] == 2
    code, _, err = esv("plan", "--features", "x")
    assert (code, "missing --model, --output" in err) == (2, True)


@pytest.mark.slow
def test_the_demos_data(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from esv_ray.models.saving import save_heads

    save_heads(str(tmp_path / "model"), make_heads(feature_dim=12, n_classes=9, n_max=4), make_prior(9))
    table = str(ROOT / "jobs" / "demo" / "test.parquet")
    code, stdout, _ = esv("plan", *places(table, str(tmp_path / "model"), tmp_path / "out"), *HERE, "--read-lengths")
    assert code == 0
    assert "370 videos in 1 file" in stdout
    assert "more lengths with less work" in stdout
