"""Time and memory of `esv dashboard` over a synthetic output.

``python -m esv_ray.bench.dashboard`` writes an output of 1,000,000 videos of 16 elements, with the ESVs of the label
and of the predicted class (1 GB), starts the command, and asks it what its pages ask: each question several times, of
which the slowest counts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from esv_ray.bench.outputs import Shape, write_output

_TIMES = 5
_PATIENCE_S = 600
_QUESTIONS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "first page": ("videos", {}),
    "first page, most misled": ("videos", {"order": "misled", "descending": 1}),
    "filter: wrong, class 5, by score": ("videos", {"outcome": "wrong", "label": 5, "order": "score"}),
    "filter: element 3 over element 7": ("videos", {"over": "3,7"}),
    "filter: most supporting element": ("videos", {"best": 3}),
    "search: part of an id": ("videos", {"q": "1234", "order": "distracted", "descending": 1}),
    "one video": ("video", {"video": "video-00000123"}),
    "the videos before and after it, most misled": (
        "adjacent",
        {"video": "video-00000123", "length": 16, "order": "misled", "descending": 1},
    ),
    "matrix of confusions": ("matrix", {}),
    "figure, one class": ("figure", {"name": "support", "label": 5}),
}
"""What pages ask, by what people do."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.dashboard", description="Measure esv dashboard.")
    parser.add_argument("--videos", type=int, default=1_000_000, help="number of videos (default: 1000000)")
    parser.add_argument("--folder", type=Path, help="for the output, which is kept (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esv-bench-") as temporary:
        output = (options.folder or Path(temporary)) / f"{options.videos}-videos"
        if not (output / "_SUCCESS").exists():
            write_output(str(output), Shape(videos=options.videos))
        for line in measure(str(output)):
            print(line, flush=True)


def measure(output: str) -> Iterator[str]:
    """Start `esv dashboard`, and yield a line per measurement.

    Args:
        output: location of an output of `write_output`.
    """
    began = time.perf_counter()
    with _started(output) as (process, port):
        started = time.perf_counter()
        yield f"until the server has started: {started - began:.1f} s"
        while not _ask(port, "videos", {})["rows"]:
            time.sleep(0.05)
        yield f"until the first videos: {time.perf_counter() - started:.2f} s after that"
        while not _ask(port, "output", {})["progress"]["done"]:
            time.sleep(0.2)
        yield f"until all videos are indexed: {time.perf_counter() - started:.1f} s after that"
        for name, (question, asked) in _QUESTIONS.items():
            taken = []
            for _ in range(_TIMES + 1):
                start = time.perf_counter()
                _ask(port, question, asked)
                taken.append(time.perf_counter() - start)
            first, *later = taken
            yield f"{name}: {1000 * first:.0f} ms the first time, then at most {1000 * max(later):.0f} ms"
        yield f"most memory: {_peak(process.pid):.0f} MB"


@contextmanager
def _started(output: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "esv_ray", "dashboard", output, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (this program)
        try:
            yield process, _port(process.stdout)
        finally:
            process.terminate()


def _port(printed: IO[str] | None) -> int:
    """Return the port in the address that the command prints."""
    line = "" if printed is None else printed.readline()
    address = next((word for word in line.split() if word.startswith("http://")), "")
    port = urlsplit(address).port
    if port is None:
        raise SystemExit(f"expected esv dashboard to print its address, got {line!r}")
    return port


def _ask(port: int, question: str, asked: Mapping[str, object]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", f"/api/{question}?{urlencode(asked)}")
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"{question} {dict(asked)}: {content['error']}")
    return content


def _peak(process: int) -> float:
    """Return the largest resident memory of a process so far, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
