"""What the README says is so: the two commands, the first job, the Python; and the example spec with every key."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from esv_ray.spec import JobSpec
from tests.conftest import FILES, make_table
from tests.support.pages import README as PAGE
from tests.support.pages import ROOT

README = PAGE.read_text()


def test_exactly_two_set_up_commands_of_one_line() -> None:
    commands = [line for line in README.splitlines() if line.startswith("    python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("esv demo")
    assert all(part in commands[1] for part in ("ruff check", "mypy", "pytest"))


def test_ci_runs_both_as_they_stand() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    names = re.findall(r"command_of '(.+?)'", script)
    lines = [line for end in names for line in README.splitlines() if line.startswith("    ") and line.endswith(end)]
    assert lines == [line for end in ("-m pytest", "esv demo") for line in README.splitlines() if line.endswith(end)]
    assert len(lines) == 2


@pytest.mark.slow
def test_the_first_job_runs_as_shown(tmp_path: Path) -> None:
    """The README's own lines, one after another, in an empty folder with a user's files."""
    pq.write_table(make_table([20] * 60, feature_dim=16, n_classes=7), tmp_path / "train.parquet")
    (tmp_path / "validation").mkdir()
    pq.write_table(make_table([20] * 6, feature_dim=16, n_classes=7), tmp_path / "validation" / "part.parquet")
    for name in ("class-priors.csv", "trn_1_frames.pth", "trn_2_frames.pth"):
        shutil.copy(FILES / name, tmp_path / name)
    section = README.partition("## Run a job on your own features")[2].partition("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    esv ")]
    assert [line.split()[1] for line in commands] == ["train", "import", "attribute", "verify"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    small = {"train": " --set epochs=2 --set hidden=8", "attribute": " --set cluster.actors=0 --set estimator.m=16"}
    for line in commands:
        kind = line.split()[1]
        if kind == "import":
            shutil.rmtree(tmp_path / "models")  # the second way to a model
        done = subprocess.run(
            line + small.get(kind, ""),
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)


def test_the_python_of_the_readme_runs(bundle: str) -> None:
    code = re.findall(r"^    (import esv_ray\n(?:    .+\n)+)", README, flags=re.MULTILINE)[0].replace("\n    ", "\n")
    code = code.replace('"models/trn"', repr(bundle))
    features = make_table([5]).column("features").to_pylist()[0]
    space: dict[str, object] = {"features": np.array(features, dtype=np.float32)}
    exec(code, space)
    assert space["result"].esv.shape == (5, 3)  # type: ignore[attr-defined]


def test_an_example_spec_shows_every_key() -> None:
    shown = yaml.safe_load((ROOT / "jobs" / "specs" / "all-keys.yaml").read_text())
    defaults = JobSpec(features="f", model="m", output="o").model_dump(mode="json")
    assert shown.keys() == defaults.keys()
    for key in ("estimator", "compute", "cluster"):
        assert shown[key] == defaults[key], "the values shown are the defaults"


def test_dockerfile_copies_what_is_there() -> None:
    lines = (ROOT / "k8s" / "image" / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    sources = [word for copy in copies for word in copy if not word.startswith("--")]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
