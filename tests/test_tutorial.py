"""The tutorial's commands run as printed, in a fresh folder, and print what the page says; the pictures are theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from esv_ray.errors import DataError
from esv_ray.sample import write_sample
from tests.support.alike import assert_alike, assert_same_picture
from tests.support.pages import DOCS, README, ROOT, blocks, shell_lines

PAGE = (DOCS / "tutorial.md").read_text()
STEPS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]  # after what comes before and how to install
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as after the activation
PICTURES = DOCS / "pictures"


def run(line: str, folder: Path) -> str:
    """Run a line of a shell; return its standard output."""
    environment = {**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the page's commands ran, in their order, and what each printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    commands = [line for step in STEPS for block in blocks(step, "sh") for line in block.splitlines()]
    return folder, {line: run(line, folder) for line in commands}


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_six_commands_lead_to_the_picture_and_print_what_the_page_says(tutorial: tuple[Path, dict[str, str]]) -> None:
    folder, printed = tutorial
    lines = list(printed)
    assert [line for line in lines if "--output test-114.svg" in line] == lines[5:6]
    for step in STEPS:
        if not blocks(step, "sh"):
            continue
        command, said = blocks(step, "sh")[0].strip(), blocks(step, "text")[0]
        got = printed[command].replace(str(folder.resolve()), "/home/me/tutorial")
        seconds = r"in [\d.]+ s$"  # of a shared machine
        assert_alike(
            *(re.sub(seconds, "in some time", text, flags=re.MULTILINE).strip() for text in (got, said)),
        )


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_the_files_are_those_that_the_page_shows(tutorial: tuple[Path, dict[str, str]]) -> None:
    folder, _ = tutorial
    assert blocks(STEPS[0], "python") == [(folder / "gru.py").read_text()]
    assert (folder / "labels.csv").read_text().startswith(blocks(STEPS[0], "text")[1])
    assert len(list((folder / "arrays").glob("*.npy"))) == 60


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_the_pictures_are_those_of_the_commands(tutorial: tuple[Path, dict[str, str]]) -> None:
    """The README's too: its own command, in the tutorial's folder."""
    folder, _ = tutorial
    assert "pictures/test-114.svg" in PAGE
    assert_same_picture(folder / "test-114.svg", PICTURES / "test-114.svg")
    (command,) = re.findall(r"`(esv show .+?)`", README.read_text())
    assert "pictures/test-114-label.svg" in README.read_text()
    run(command, folder)
    assert_same_picture(folder / "test-114-label.svg", PICTURES / "test-114-label.svg")
    assert all(path.stat().st_size < 200_000 for path in PICTURES.iterdir())


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_the_commands_and_numbers_of_choosing_settings(tutorial: tuple[Path, dict[str, str]]) -> None:
    """In the tutorial's folder: numbers that do not depend on the machine are those of the page."""
    folder, _ = tutorial
    text = (DOCS / "howto" / "choose-settings.md").read_text()
    printed = "".join(run(line, folder) for line in shell_lines(text))
    got = {_stable(line) for line in printed.splitlines() if line.strip()}
    rows = [line for said in blocks(text, "text") for line in said.splitlines() if re.match(r"^ +\d+ ", line)]
    assert len(rows) == 11
    assert {_stable(row) for row in rows} <= got
    videos = pq.read_table(folder / "esv-tight" / "videos").to_pylist()
    counts = [sum(video["iterations"] == k for video in videos) for k in (1, 2, 4, 8, 16, 0)]
    assert f"| recordings | {' | '.join(map(str, counts))} |" in text


def _stable(row: str) -> tuple[str, ...]:
    """Return what does not depend on the machine in a row of the plan (n to total) or of the errors (m to error)."""
    words = row.split()
    if not words[1:] or not words[1].startswith("x"):
        return tuple(words[:6])
    return tuple(words[:3]) if "e-" in words[3] else tuple(words[:4])


@pytest.mark.slow
def test_the_module_of_the_tutorial_is_trained_as_documented(tmp_path: Path) -> None:
    folder = ROOT / "jobs" / "models"
    table, out = str(ROOT / "jobs" / "demo" / "train.parquet"), str(tmp_path / "w")
    code = f"import train_gru; train_gru.EPOCHS = 1; train_gru.main({table!r}, {out!r})"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    mine, shipped = load_file(tmp_path / "w"), load_file(ROOT / "jobs" / "demo" / "gru.safetensors")
    assert {name: w.shape for name, w in mine.items()} == {name: w.shape for name, w in shipped.items()}


def test_the_sample_is_written_again_but_overwrites_nothing(tmp_path: Path) -> None:
    write_sample(str(tmp_path))
    write_sample(str(tmp_path))
    (tmp_path / "gru.py").write_text("mine")
    with pytest.raises(DataError, match=r"gru\.py: expected no such file, found one with other content"):
        write_sample(str(tmp_path))
    assert (tmp_path / "gru.py").read_text() == "mine"


def test_a_sample_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = [sys.executable, "-m", "esv_ray.sample", str(tmp_path / "file" / "x")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("esv: ")
