"""esv export as a command: its notes, its places and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.jobs import run

Esv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def output(features: str, bundle: str, tmp_path: Path) -> str:
    run(features, bundle, tmp_path / "out", "compute.unit=8", "frames=2")
    return str(tmp_path / "out")


@pytest.mark.slow
def test_the_command(esv: Esv, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = esv("export", output, "--to", "npz")
    assert (code, out, err) == (0, "written: esv.npz\n", "")
    code, out, err = esv("export", output, "--to", "npz")
    assert (code, out) == (2, "")
    assert err.startswith(f"esv: {tmp_path}/esv.npz: expected no file there, found one; choose another --output")
    assert esv("export", output, "--to", "npz", "--overwrite")[0] == 0
    code, out, _ = esv("export", output, "--to", "play-fair", "--output", str(tmp_path / "x.pkl"))
    assert code == 0
    assert out.splitlines()[1].startswith("1 length without values, since the job computed 2 elements")
    assert out.splitlines()[-1] == f"written: {tmp_path / 'x.pkl'}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["v0", "--to", "csv"], "VIDEO_ID has an effect only with --to rerun, got csv; leave it out"),
        (
            ["--to", "npz", "--videos", "clips"],
            "--videos has an effect only with --to fiftyone or rerun, got npz; leave it out",
        ),
        (
            ["--to", "csv", "--elements", "2"],
            "--elements has an effect only with --to fiftyone or rerun, got csv; leave it out",
        ),
        (["--to", "xlsx"], "'xlsx' is not one of 'csv', 'npz', 'play-fair', 'fiftyone', 'rerun'"),
    ],
)
def test_invalid_requests(esv: Esv, tmp_path: Path, words: list[str], message: str) -> None:
    """Options are checked before the output is read."""
    output = tmp_path / "none"
    code, out, err = esv("export", str(output), *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err


def test_no_output(esv: Esv, tmp_path: Path) -> None:
    code, _, err = esv("export", str(tmp_path), "--to", "csv", "--output", str(tmp_path / "csv"))
    assert code == 2
    assert "expected a job's output, found no run.json" in err
    assert not (tmp_path / "csv").exists()
