"""The command `esv`: help, exit codes, one line for every invalid request; whole commands in this process."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from esv_ray import cli
from esv_ray.errors import SpecError
from tests.conftest import FILES, make_table
from tests.support import preloaded
from tests.support.command import HERE


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["attribute"],
        ["plan"],
        ["verify"],
        ["analyze"],
        ["submit"],
        ["render"],
        ["status"],
        ["logs"],
        ["stop"],
        ["jobs"],
        ["train"],
        ["import"],
        ["import", "model"],
        ["import", "features"],
        ["bench"],
        ["convergence"],
    ],
)
def test_help(words: list[str]) -> None:
    done = CliRunner().invoke(cli.cli, [*words, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output
    assert all(len(line) <= 100 for line in done.output.splitlines())


def test_the_installed_command() -> None:
    script = Path(sys.executable).with_name("esv")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("esv, version ")


def test_attribute_and_verify(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = str(tmp_path / "out")
    spec = tmp_path / "job.yaml"
    spec.write_text(f"features: {features}\nmodel: {bundle}\noutput: {out}\nframes: [2, 5]\n")
    code, stdout, _ = esv("attribute", str(spec), *HERE)
    assert code == 0
    assert "40 videos: 40 ok, 0 skipped, 0 failed" in stdout
    assert f"tables: {out}" in stdout
    code, stdout, _ = esv("attribute", str(spec), *HERE)
    assert (code, "units resumed" in stdout) == (0, True)
    code, stdout, _ = esv("verify", out)
    assert (code, "no problems" in stdout) == (0, True)
    (tmp_path / "out" / "_SUCCESS").unlink()
    code, stdout, err = esv("verify", out)
    assert (code, "1 problems" in stdout) == (1, True)
    assert "_SUCCESS is missing" in err


def test_options_without_a_spec(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "it's: here"
    code, _, err = esv("attribute", "--features", features, "--model", bundle, "--output", str(out), *HERE)
    assert (code, err) == (0, "")
    assert (out / "_SUCCESS").exists()


def test_failed_videos_are_counted_and_listed(esv, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table = make_table([3] * 4, n_classes=3)
    pq.write_table(table.set_column(0, "video_id", [["a", "b", "a", None]]), tmp_path / "f.parquet")
    places = ["--features", str(tmp_path / "f.parquet"), "--model", bundle, "--output", str(tmp_path / "out")]
    code, stdout, err = esv("attribute", *places, *HERE)
    assert code == 1
    assert "failed: a: video_id is repeated" in stdout
    assert "failed: (no id): video_id is null or empty" in stdout
    assert "more than max_failed = 0.01" in err
    assert esv("attribute", *places, *HERE, "--set", "max_failed=0.5")[0] == 0


def test_many_failures_are_grouped_with_a_whole_example(esv, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Numbers stay in the example: it must be clear what is lacking."""
    pq.write_table(make_table([16, 17, 18] * 6), tmp_path / "f.parquet")
    places = ["--features", str(tmp_path / "f.parquet"), "--model", bundle, "--output", str(tmp_path / "out")]
    small = ["--set", "estimator.kind=exact", "--set", "compute.memory_budget=1e5", "--set", "compute.unit=4"]
    code, stdout, _ = esv("attribute", *places, *HERE, *small)
    assert code == 1
    (line,) = [line for line in stdout.splitlines() if "18 failed" in line and "for example" in line]
    assert "exact ESVs of n = 16 elements evaluate 2^16 - 1 subsequences and take " in line
    assert "only 100 kB is available" in line
    assert "#" not in line
    assert f"ids and reasons of all 18: columns status and reason of {tmp_path / 'out'}/videos" in stdout
    code, status, _ = esv("status", str(tmp_path / "out"))
    assert line in status.splitlines(), "status says the same"
    code, again, _ = esv("attribute", *places, *HERE, *small)
    assert "failed: v0: exact ESVs of n = 16" in again, "of an earlier run the first are listed"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--set", "estimator.kin=exact"], "unknown key 'estimator.kin'; did you mean 'estimator.kind'?"),
        (["--set", "frames=none"], "frames: expected"),
        (["--set", "nonsense"], "expected key=value"),
        (["--features", "/nowhere/at/all"], "/nowhere/at/all was not found"),
        (["--model", "/nowhere"], "no model.json"),
        (["--features", "zz://x"], "got zz://, which no client serves; check its spelling"),
        (["--set", "cluster.address=127.0.0.1:1"], "cannot reach Ray at 127.0.0.1:1"),
        (["--set", "cluster.address=127.0.0.1:\u0661"], "a port from 0 to 65535 in digits 0-9"),
        (["--set", "cluster.address=127.0.0.1:65536"], "a port from 0 to 65535 in digits 0-9"),
        (["--set", f"cluster.address=h:{'9' * 5000}"], "a port from 0 to 65535 in digits 0-9"),
        (["--features", "s3://me:password@bucket/x"], "a location holds no credentials"),
    ],
)
def test_invalid_requests_give_one_line_and_code_2(  # type: ignore[no-untyped-def]
    esv, extra: list[str], expected: str, features: str, bundle: str, tmp_path: Path
) -> None:
    places = ["--features", features, "--model", bundle, "--output", str(tmp_path / "out")]
    code, stdout, err = esv("attribute", *places, *HERE, *extra)
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert "password" not in err
    assert stdout == ""
    assert not (tmp_path / "out").exists()


def test_missing_options_and_files(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = esv("attribute", "--features", "x")
    assert (code, "missing --model, --output" in err) == (2, True)
    code, _, err = esv("attribute", str(tmp_path / "none.yaml"))
    assert (code, "none.yaml was not found" in err) == (2, True)
    code, _, err = esv("verify", str(tmp_path))
    assert (code, "found no run.json" in err) == (2, True)
    assert esv("atribute")[0] == 2


def test_train_then_attribute(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pq.write_table(make_table([5] * 30), tmp_path / "f.parquet")
    options = ["--set", "n_max=2", "--set", "hidden=8", "--set", "epochs=3", "--set", "n_classes=4"]
    places = ["--features", str(tmp_path / "f.parquet"), "--output", str(tmp_path / "model")]
    code, _, err = esv("train", *places, "--set", f"validation={tmp_path / 'f.parquet'}")
    assert (code, "expected a validation table that shares no file with" in err) == (2, True)
    code, stdout, _ = esv("train", *places, *options)
    assert code == 0
    assert "F (all scales)" in stdout
    assert "1 of 4 classes have no training video, so their prior is 0 and no head learns them: 3\n" in stdout
    code, again, _ = esv("train", *places, *options)
    assert (code, "; 2 of 2 heads resumed; model: " in again) == (0, True)
    assert again.splitlines()[:6] == stdout.splitlines()[:6]
    code, _, err = esv("train", *places, *options, "--set", "epochs=2")
    assert (code, "holds another training; epochs: expected 3, got 2" in err) == (2, True)


def test_train_shows_the_rows_that_are_left_out(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table = make_table([5] * 30)
    labels = [None if row < 3 else label for row, label in enumerate(table.column("label").to_pylist())]
    ids = ["" if row == 9 else video_id for row, video_id in enumerate(table.column("video_id").to_pylist())]
    table = table.set_column(2, "label", pa.array(labels, pa.int32())).set_column(0, "video_id", pa.array(ids))
    pq.write_table(table, tmp_path / "f.parquet")
    options = ["--set", "n_max=1", "--set", "hidden=8", "--set", "epochs=1"]
    code, stdout, _ = esv("train", "--features", f"{tmp_path}/f.parquet", "--output", f"{tmp_path}/model", *options)
    assert code == 0
    assert "4 rows left out (3: no label; 1: video_id is null or empty)\n" in stdout


def test_imports(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = str(tmp_path / "model")
    prior, classes = str(FILES / "class-priors.csv"), str(FILES / "classes.csv")
    options = ["--from", "play-fair", "--out", out, "--prior", prior, "--classes", classes]
    code, stdout, _ = esv("import", "model", *options, *(str(FILES / f"trn_{s}_frames.pth") for s in (1, 2, 3, 4)))
    assert (code, "n_max = 4, D = 16, C = 7" in stdout) == (0, True)
    code, stdout, _ = esv(
        "import", "features", str(FILES / "features.hdf"), "--from", "play-fair", "--out", str(tmp_path / "f")
    )
    assert (code, "6 videos" in stdout) == (0, True)
    places = ["--features", str(tmp_path / "f"), "--model", out, "--output", str(tmp_path / "esv")]
    assert esv("attribute", *places, *HERE, "--set", "frames=5")[0] == 0


@pytest.mark.slow
def test_bench(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    small = ["--feature-dim", "8", "--hidden", "8", "--classes", "5", "--repeats", "1"]
    file = tmp_path / "bench.json"
    code, stdout, _ = esv("bench", *small, "-n", "4", "-n", "6", "-m", "5", "--json", str(file))
    assert (code, "square product" in stdout) == (0, True)
    assert all(len(line) <= 80 for line in stdout.splitlines() if "│" in line)
    assert "…" not in stdout
    content = json.loads(file.read_text())["measurements"]
    assert [(measurement["n"], measurement["estimator"]) for measurement in content] == [
        (4, "exact"),
        (6, "exact"),
        (4, "adj 5x1"),
        (6, "adj 5x1"),
        (4, "alg1 5x1"),
        (6, "alg1 5x1"),
    ]
    for measurement in content:
        assert 0 < measurement["video_ms_min"] <= measurement["video_ms"] <= measurement["video_ms_max"]
        assert 0 < measurement["host"] < 1
        assert measurement["error"] < 1e-4
    code, stdout, _ = esv("bench", *small, "-n", "4", "-m", "5", "--no-host", "--compare", str(file), "--mixed", "3-5")
    assert code == 0
    assert len([line for line in stdout.splitlines() if line.rstrip().endswith("x │")]) == 3
    assert "48 videos of 3 to 5 elements, m = 5 x1: " in stdout
    assert all(len(line) <= 80 for line in stdout.splitlines() if "│" in line)


@pytest.mark.slow
def test_bench_with_invalid_input(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "other.json").write_text('{"format": 1}')
    for options, expected in (
        (["--compare", str(tmp_path / "none.json")], "expected a file that `esv bench --json` wrote"),
        (["--compare", str(tmp_path / "other.json")], "expected measurements of format 2, got 1"),
        (["--json", str(tmp_path / "no" / "x.json")], "there is no folder"),
        (["--mixed", "9"], "--mixed: expected A-B, two lengths such as 8-64, got '9'"),
        (["--mixed", "9-8"], "--mixed: expected A-B"),
        (["--mixed", "\u0663-\u0668"], "--mixed: expected A-B"),
        (["--mixed", "\u00b2-8"], "--mixed: expected A-B"),
        (["--mixed", f"1-{'9' * 5000}"], "--mixed: expected A-B"),
        (["-n", "40", "--estimator", "exact"], "n = 40 elements evaluate 2^40 - 1 subsequences"),
    ):
        code, _, err = esv("bench", *options)
        assert (code, expected in err, err.count("\n")) == (2, True, 1), err
    if not torch.cuda.is_available():
        assert "torch sees no NVIDIA device" in esv("bench", "--device", "cuda")[2]


def test_convergence(esv, features: str, bundle: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "new" / "folder"
    arguments = ["convergence", "--features", features, "--model", bundle, "-n", "9", "-m", "16", "--threshold", "0"]
    code, stdout, _ = esv(*arguments, "--videos", "4", "--output", str(out))
    assert code == 0
    assert all(name in stdout for name in ("algorithm1", "adjusted", "16 x4", "cover"))
    assert pq.read_table(out / "convergence.parquet").num_rows == 4
    assert (out / "convergence.html").stat().st_size > 10_000
    code, _, stdout = esv(*arguments, "--threshold", "2")
    assert (code, "no video to compare" in stdout) == (2, True)
    (tmp_path / "file").touch()
    (tmp_path / "held" / "convergence.html").mkdir(parents=True)
    for place, why in (
        (tmp_path / "held", "convergence.html: expected a file or nothing, got a folder"),
        (tmp_path / "file" / "below", "expected a folder above it, got a file"),
    ):
        code, _, stdout = esv(*arguments, "--output", str(place))
        assert (code, why in stdout, stdout.count("\n")) == (2, True, 1), stdout


def test_convergence_without_the_libraries_of_figures(  # type: ignore[no-untyped-def]
    esv, features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    arguments = ["convergence", "--features", features, "--model", bundle, "-n", "9", "-m", "16", "--threshold", "0"]
    code, stdout, err = esv(*arguments, "--videos", "2", "--out", str(tmp_path / "out"))
    assert code == 0
    assert f"written: {tmp_path}/out/convergence.parquet\n" in stdout
    assert "no figure: figures need altair, which is not installed: pip install 'esv-ray[figures]'" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["convergence.parquet"]


@pytest.mark.slow
def test_convergence_of_videos_marked_as_unlabelled(  # type: ignore[no-untyped-def]
    esv, bundle: str, tmp_path: Path
) -> None:
    """Their predicted class is used, as for videos without labels, and the labels are not reported as invalid."""
    table = make_table([10] * 6)
    for name, labels in (("none", [None] * 6), ("marked", [-1, 255, -1, 255, -1, 255])):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table.drop_columns(["label"]).append_column("label", pa.array(labels, pa.int64())), path)
    arguments = ["convergence", "--model", bundle, "-n", "9", "-m", "16", "--threshold", "0", "--iterations", "1"]
    code, _, stdout = esv(*arguments, "--features", str(tmp_path / "marked.parquet"))
    assert (code, "6 rows left out" in stdout) == (2, True)
    assert "if it marks videos without a label, give it with --unlabelled" in stdout
    marks = ["--unlabelled", "-1", "--unlabelled", "255"]
    results = []
    for name, options in (("none", []), ("marked", marks)):
        out = tmp_path / name
        code, _, stdout = esv(*arguments, "--features", f"{out}.parquet", *options, "--output", str(out))
        assert (code, "break the feature table" in stdout) == (0, False), stdout
        results.append(
            pq.read_table(out / "convergence.parquet").select(["videos", "relative_error", "pearson"]).to_pylist()
        )
    assert results[0] == results[1]


# Errors of the machine: exit code 1 if the request may be valid, 2 if it must change


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EIO, 1), (errno.ETIMEDOUT, 1), (errno.EROFS, 2), (errno.EACCES, 2),
     (errno.EPERM, 2), (errno.EFBIG, 1)],
)  # fmt: skip
def test_a_disk_that_fails_at_the_start(  # type: ignore[no-untyped-def]
    number: int, code: int, esv, features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setenv("ESV_STORAGE", "tries=1")
    words = ["--features", features, "--model", bundle, "--output", str(tmp_path / "out")]
    got, out, err = esv("attribute", *words, *HERE)
    assert (got, out) == (code, "")
    line = err.splitlines()[-1]
    assert os.strerror(number) in line
    assert line.endswith("; run again to resume") == (code == 1)
    assert ("ulimit -f" in line) == (number == errno.EFBIG)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.slow
def test_a_real_full_disk_at_the_start(features: str, bundle: str, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    jobs = [
        ["attribute", "--features", features, "--model", bundle, *HERE, "--output", str(place / "out")],
        ["demo", str(place / "demo")],
    ]
    try:
        for words in jobs:
            done = preloaded.run(words)
            assert done.returncode == 1, done.stderr
            assert "No space left on device; free some space" in done.stderr.splitlines()[-1]
            assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_log_disk_does_not_end_a_job(features: str, bundle: str, tmp_path: Path) -> None:
    words = ["--features", features, "--model", bundle, "--output", str(tmp_path / "out"), *HERE, "--log", "/dev/full"]
    done = preloaded.run(["attribute", *words])
    assert (done.returncode, done.stdout[:16]) == (0, "40 videos: 40 ok"), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "--log" in line]
    assert line == "--log full: cannot be written: No space left on device; lines are missing from here on"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["attribute", "convergence", "demo"])
@pytest.mark.parametrize("blocks", [0, 1])
def test_a_real_file_size_limit(command: str, blocks: int, features: str, bundle: str, tmp_path: Path) -> None:
    places = ["--features", features, "--model", bundle, "--output", f"{tmp_path}/out"]
    words = {
        "attribute": [*places, *HERE],
        "convergence": [*places, "-n", "2", "-m", "4", "--threshold", "0"],
        "demo": [f"{tmp_path}/out"],
    }
    limited = ["prlimit", f"--fsize={512 * blocks}", sys.executable, "-m", "esv_ray", command, *words[command]]
    ended = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 1, ended
    assert "ulimit -f" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["attribute"], ["plan"], ["train"], ["demo"], ["convergence"]], ids=" ".join)
@pytest.mark.parametrize("below", ["", "/new/out"])
def test_an_output_that_is_a_dangling_link(  # type: ignore[no-untyped-def]
    words: list[str], below: str, esv, features: str, bundle: str, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    if words == ["demo"]:
        options = [f"{link}{below}"]
    else:
        model = [] if words == ["train"] else ["--model", bundle]
        options = ["--features", features, *model, "--output", f"{link}{below}"]
    here = HERE if words in (["attribute"], ["plan"]) else []
    code, out, err = esv(*words, *options, *here)
    assert (code, out) == (2, ""), err
    assert err.splitlines()[-1] == (
        f"esv: {link}: expected a folder or nothing, got a broken link to nowhere; create that folder, remove the "
        "link, or choose another place"
    )
    assert not (tmp_path / "nowhere").exists()


def test_a_demo_below_a_file_gives_one_line(esv, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("x")
    code, out, err = esv("demo", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert "expected a folder above it, got a file" in err


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MemoryError(), "ulimit -v"),
        (RuntimeError("can't start new thread"), "raise ulimit -u"),
        (OSError(errno.EMFILE, "too many"), "raise ulimit -n"),
        (OSError(errno.EFBIG, "too large"), "raise ulimit -f"),
        (OSError(errno.ENOSPC, "no space"), "no space left on a disk (OSError: [Errno 28] no space)"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
    ],
    ids=["memory", "threads", "files", "size", "full", "temporary"],
)
def test_machine_limits_met_anywhere(  # type: ignore[no-untyped-def]
    error: Exception, part: str, esv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    code, _, err = esv("attribute")
    assert code == 1
    assert part in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["status"], ["logs"], ["stop"], ["status", "--kubernetes"]])
def test_a_job_name_that_is_an_output_here(  # type: ignore[no-untyped-def]
    words: list[str], esv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "trn").mkdir()
    where = [] if "--kubernetes" in words else ["--address", "http://127.0.0.1:9"]
    assert "./trn" not in esv(*words, "trn", *where)[2]
    (tmp_path / "trn" / "run.json").write_text("{}")
    code, _, err = esv(*words, "trn", *where)
    assert code == 2
    assert err.endswith("; for the output in this folder: esv status ./trn\n")
    if words[0] != "status":
        assert "esv status ./trn shows an output's progress" in esv(*words, "./trn", *where)[2]


def test_status_of_a_folder_asks_no_cluster(  # type: ignore[no-untyped-def]
    esv, features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("esv_ray.submit.ray_jobs.client.connect", None)  # nothing may call it
    places = ["--features", features, "--model", bundle, "--output", "esv"]
    assert esv("attribute", *places, *HERE, "--set", "frames=2")[0] == 0
    shown = [esv("status", name) for name in ("esv", "esv/", "./esv", str(tmp_path / "esv"))]
    assert [(code, "done: 40 of 40 videos" in out) for code, out, _ in shown] == [(0, True)] * 4
    for name in ("nothing/", "./nothing", str(tmp_path / "nothing")):
        code, _, err = esv("status", name)
        assert (code, "nothing: expected the output of a job, found no progress.json" in err) == (2, True), err


def test_status_of_a_name_that_is_nowhere(esv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def connect(address: str | None) -> None:
        raise SpecError("no --address is given: cannot reach a cluster at http://127.0.0.1:8265")

    monkeypatch.setattr("esv_ray.submit.ray_jobs.client.connect", connect)
    assert esv("status", "nothing") == (
        2,
        "",
        "esv: nothing: no job's output in this folder has this name, and no --address is given: cannot reach a "
        "cluster at http://127.0.0.1:8265\n",
    )
