"""The tests of ready backbones, beside their libraries in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT

LIBRARIES = ("timm", "open_clip_torch", "torchvision", "ftfy", "wcwidth")
"""With those of their dependencies that this environment lacks."""


@pytest.mark.release
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("release")
def test_ready_backbones_beside_their_libraries(tmp_path: Path) -> None:
    folder = str(tmp_path / "libraries")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--no-deps", "--target", folder]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), *LIBRARIES], check=True, timeout=300)
    # At the end of the path: what this environment has stays as it is.
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), folder])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-m",
        "slow or not slow",
        "-rs",
        "tests/extraction/test_ready.py",
    ]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
