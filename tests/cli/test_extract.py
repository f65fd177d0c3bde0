"""esv extract."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray.cli.progress import _extract_text
from esv_ray.job.progress import Progress
from esv_ray.job.work import RowCounts
from esv_ray.media import open_media
from tests.support import command
from tests.support.videos import write_video


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("one", "two", "three"):
        write_video(folder / f"{name}.mp4", frames=9)
    (folder / "bad.mp4").write_bytes(b"bad")
    return folder


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: Done(*command.run(*words, monkeypatch=monkeypatch, capsys=capsys))


def test_from_clips_to_attributions(clips: Path, tmp_path: Path, run: Run) -> None:
    """The commands of the page, on a folder in which one video is damaged."""
    labels = tmp_path / "labels.csv"
    labels.write_text("video_id,label\none,up\ntwo,down\nthree,up\nbad,down\n")
    table, log = tmp_path / "table", tmp_path / "log.jsonl"
    request = ["extract", str(clips), "--backbone", "pooled", "--labels", str(labels), "--out", str(table),
               "--frames", "4", "--actors", "0", "--thumbnails",
               "--dtype", "float16", "--size", "64x96", "--log", str(log)]  # fmt: skip
    done = run(*request)
    assert done.returncode == 1
    assert "4 videos: 3 ok, 0 skipped, 1 failed; 3 rows of features in" in done.stdout
    assert f"failed: bad: {clips}/bad.mp4: " in done.stdout
    assert "more than max_failed = 0.01 of the videos failed" in done.stderr
    assert json.loads(log.read_text().splitlines()[0])["event"] == "done"
    assert (table / "classes.csv").read_text() == "name,id\ndown,0\nup,1\n"
    assert pq.read_table(table / "features").column("label").to_pylist() == [1, 1, 0]
    assert run(*request, "--set", "max_failed=0.5").returncode == 0
    write_video(clips / "bad.mp4", frames=9)
    again = run(*request, "--retry-failed")
    assert (again.returncode, "4 ok" in again.stdout) == (0, True)
    model = str(tmp_path / "model")
    trained = run("train", "--features", str(table), "--output", model, "--set", "n_max=2", "--set", "epochs=1",
                  "--set", "validation=0.25")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    recorded = json.loads((tmp_path / "model" / "model.json").read_text())["extraction"]
    assert (recorded["size"], recorded["backbone"]) == ([64, 96], "pooled")
    done = run("attribute", "--features", str(table), "--model", model, "--output", str(tmp_path / "esv"),
               "--set", "cluster.actors=0")  # fmt: skip
    assert "4 videos: 4 ok" in done.stdout, done.stderr
    media = open_media(None, str(tmp_path / "esv"))
    assert media is not None
    assert [picture is not None for picture in media.pictures("two", [1, 2, 3, 5, 7])] == [
        True,
        False,
        True,
        True,
        True,
    ]
    refused = run("analyze", str(table))
    assert refused.returncode == 2
    assert "expected the output of an attribution, found one of 'extraction'" in refused.stderr


def test_a_table_is_verified(clips: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "table"
    request = ["extract", str(clips), "--backbone", "pooled", "--out", str(table), "--actors", "0", "--thumbnails",
               "--set", "compute.unit=2"]  # fmt: skip
    run(*request)
    good = run("verify", str(table))
    assert (good.returncode, good.stdout) == (0, "2 of 2 units, 4 videos: 3 ok, 1 failed; no problems\n")
    assert "are for outputs of esv attribute" in run("verify", str(table), "--repair").stderr
    first, second = sorted((table / "features").iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:-30] + content[-29:-4] + b"?" + content[-4:])
    (table / "_thumbnails" / second.name).unlink()
    (table / "features" / "stray.parquet").write_bytes(content)
    bad = run("verify", str(table))
    assert bad.returncode == 1
    problems = [
        f"features/{first.name}: not the file that was committed",
        "features/stray.parquet: not in run.json",
        "1 of 2 units are not committed",
        "_SUCCESS exists although units are missing",
    ]
    for problem in problems:
        assert problem in bad.stderr
    (table / "features" / "stray.parquet").unlink()
    first.unlink()
    assert "4 videos: 3 ok" in run(*request).stdout
    assert run("verify", str(table)).returncode == 0


def test_several_backbones_give_a_table_each(clips: Path, tmp_path: Path, run: Run) -> None:
    tables = tmp_path / "tables"
    request = ["extract", str(clips), "--backbone", "pooled", "--backbone", "pixels", "--out", str(tables),
               "--frames", "4", "--actors", "0", "--size", "16", "--set", "max_failed=0.5"]  # fmt: skip
    done = run(*request)
    assert done.returncode == 0, done.stderr
    assert "4 videos: 3 ok, 0 skipped, 1 failed; 6 rows of features in" in done.stdout
    assert done.stdout.endswith(f"tables: {tables}\n  {tables}/pooled\n  {tables}/pixels\n")
    verified = run("verify", str(tables))
    assert verified.returncode == 0
    assert verified.stdout.splitlines() == [
        f"{tables}/{name}: 1 of 1 units, 4 videos: 3 ok, 1 failed; no problems" for name in ("pixels", "pooled")
    ]
    next((tables / "pooled" / "features").iterdir()).unlink()
    broken = run("verify", str(tables))
    assert broken.returncode == 1
    assert f"{tables}/pooled: 1 of 1 units are not committed" in broken.stderr
    refused = run("train", "--features", str(tables), "--output", str(tmp_path / "model"))
    assert refused.returncode == 2
    assert "a table for each of several backbones; give one of these" in refused.stderr
    spec = tmp_path / "extract.yaml"
    spec.write_text(f"videos: {clips}\noutput: {tmp_path / 'new'}\nsize: 16\nbackbone: [pooled, pixels]\n")
    plan = run("plan", str(spec))
    assert "backbone pooled, D = 147, backbone pixels, D = 768, no labels" in plan.stdout, plan.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "pooled"], "expected a SPEC, or --backbone and --output; missing --output"),
        (["--out", "table"], "expected a SPEC, or --backbone and --output; missing --backbone"),
        (
            ["--backbone", "pooled", "--out", "t", "--fps", "3", "--all"],
            "expected one of --frames, --fps and",
        ),
        (["--backbone", "pooled", "--out", "t", "--size", "0x9"], "size"),
        (["--backbone", "pooled", "--out", "t", "--size", "big"], "--size: expected pixels such as 224"),
        (["--backbone", "pooled", "--out", "t", "--fps", "0"], "fps"),
        (["--backbone", "pooled", "--out", "t", "--decoder", "vlc"], "decoder: expected one of pyav, got 'vlc'"),
        (["--backbone", "pooled", "--out", "t", "--set", "frame=3"], "unknown key 'frame'; did you mean 'frames'?"),
        (["--backbone", "a.b:c", "--out", "t"], "expected consent to run code, got none for a.b:c()"),
        (["--backbone", "pooled", "--out", "t", "--argument", "x=1"], "arguments: the backbone pooled takes none"),
    ],
)
def test_invalid_requests_are_one_line(
    clips: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("extract", str(clips), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "t").exists()


def test_options_override_a_spec(clips: Path, tmp_path: Path, run: Run) -> None:
    """A rate replaces a number of frames, and --set comes last."""
    spec, table = tmp_path / "extract.yaml", tmp_path / "table"
    spec.write_text(f"videos: {clips}/one.mp4\nbackbone: none\noutput: {tmp_path}/other\nframes: 4\ndtype: float16\n")
    given = ["--backbone", "pooled", "--fps", "10", "--out", str(table), "--size", "32", "--actors", "5"]
    done = run("extract", str(spec), *given, "--set", "cluster.actors=0")
    assert (done.returncode, done.stderr) == (0, "")
    (frames,) = pq.read_table(table / "features").column("frame_index").to_pylist()
    assert frames == [0, 2, 5, 7]
    written = json.loads((table / "run.json").read_text())["spec"]
    assert (written["frames"], written["fps"], written["size"], written["dtype"]) == (None, 10, [32, 32], "float16")
    assert not (tmp_path / "other").exists()
    spec.write_text("features: f\nmodel: m\noutput: o\n")
    refused = run("extract", str(spec))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "expected a spec of esv extract, got one of esv attribute; run esv attribute" in refused.stderr


def test_progress_says_what_the_limit_is() -> None:
    now = Progress(total=10, resumed=0, counts=RowCounts(4, 4), actors=2, seconds=10.0, read_s=19.2, compute_s=4.0)
    assert (
        _extract_text(now)
        == "4/10, 0.4 videos/s, 0 failed, 2 actors, decoding 96% busy, backbone 20% busy, ETA 0:00:15"
    )
