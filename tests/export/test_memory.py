"""Exports of a larger output take no more memory: rows stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from esv_ray.bench.outputs import Shape, write_output

_PEAK = """
import sys, threading, time
from esv_ray.export.registry import export
from esv_ray.export.request import Request

to, output, path = sys.argv[1:]
request = Request(output, path, memory=64_000_000)
peak, ended = 0, threading.Event()

def watch():
    global peak
    while not ended.wait(0.005):
        lines = open("/proc/self/status").read().splitlines()
        peak = max(peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))

thread = threading.Thread(target=watch)
thread.start()
export(to, request)
ended.set()
thread.join()
print(peak // 1000)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Outputs by their number of videos; with 174 classes."""
    places = {}
    for videos in (2_000, 6_000):
        place = str(tmp_path_factory.mktemp("sizes") / str(videos))
        write_output(place, Shape(videos=videos, n_classes=174, rows=500))
        places[videos] = place
    return places


@pytest.mark.slow
@pytest.mark.parametrize("to", ["csv", "npz"])
def test_memory_does_not_grow_with_the_output(to: str, outputs: dict[int, str], tmp_path: Path) -> None:
    peaks = []
    for videos, output in outputs.items():
        command = [sys.executable, "-c", _PEAK, to, output, str(tmp_path / f"{to}-{videos}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    small, large = peaks
    assert large < small + 60, f"{small} MB, then {large} MB for three times as many videos"
