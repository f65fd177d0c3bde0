"""The README's picture of the dashboard, and the command that makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esv_ray.show.theme import css_variables
from tests.support.dashboards import Filmed
from tests.support.pages import README, ROOT
from tests.support.screenshot import MOST_BYTES, PICTURE


def share_of(path: Path, name: str) -> float:
    """Return the share of a picture's pixels that have a color of the light theme."""
    color = css_variables().partition(f"--{name}:#")[2][:6]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return float((pixels == list(bytes.fromhex(color))).all(axis=-1).mean())


def test_the_readme_shows_the_picture() -> None:
    assert str(PICTURE.relative_to(ROOT)) in README.read_text()
    assert "python -m tests.support.screenshot" in README.read_text()
    assert PICTURE.stat().st_size < MOST_BYTES
    assert Image.open(PICTURE).format == "PNG"
    assert share_of(PICTURE, "supporting") > 0.01
    assert share_of(PICTURE, "background") > 0.3, "light"


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_the_command_makes_one(filmed: Filmed, tmp_path: Path) -> None:
    """It needs the folders of `esv demo shapes`: an output and a list of videos."""
    (tmp_path / "esv").symlink_to(filmed.output)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "test.csv").write_text(f"video_id,path\none,{filmed.videos}/one.mp4\n")
    picture = tmp_path / "dashboard.png"
    words = ("-m", "tests.support.screenshot", str(tmp_path), "--video", "one", "--output", str(picture))
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{picture}: {picture.stat().st_size} bytes\n"
    width, height = Image.open(picture).size
    assert width == Image.open(PICTURE).width
    assert height > 1000
    assert share_of(picture, "supporting") > 0.005
    assert share_of(picture, "background") > 0.3
