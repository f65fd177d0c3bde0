"""The measurement of the dashboard asks a real one, and ends it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esv_ray.bench.dashboard import _QUESTIONS, measure
from esv_ray.bench.outputs import Shape, write_output


@pytest.mark.slow
def test_asks_what_pages_ask(tmp_path: Path) -> None:
    write_output(str(tmp_path / "esv"), Shape(videos=200, n_classes=9, rows=100))
    lines = list(measure(str(tmp_path / "esv")))
    assert lines[0].startswith("until the server has started: ")
    assert lines[1].startswith("until the first videos: ")
    assert sum("ms the first time" in line for line in lines) == len(_QUESTIONS)
    assert lines[-1].startswith("most memory: ")
    assert 100 < float(re.findall(r"[0-9]+", lines[-1])[0]) < 2000
