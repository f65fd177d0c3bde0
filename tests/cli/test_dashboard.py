"""esv dashboard: the command; wrong input is one line, and Ctrl-C ends it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from esv_ray.bench.outputs import Shape, write_output
from tests.cli.test_report import Esv, refused
from tests.support.preloaded import Process

TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_output(str(tmp_path / "out"), Shape(6, 2, 2))
    return tmp_path / "out"


def test_wrong_input(esv: Esv, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(output)
    refused(esv("dashboard", str(tmp_path / "none"), "--port", "0"), "found no run.json")
    refused(esv("dashboard", out, "--host", "0.0.0.0"), "--host 0.0.0.0: expected --token TOKEN too", "ssh -L")
    refused(esv("dashboard", out, "--token", "short"), "--token: expected 16 or more", "openssl rand -hex 16")
    refused(esv("dashboard", out, "--host", "no such host", "--token", TOKEN), "expected a name or an address")
    refused(esv("dashboard", out, "--host", "192.0.2.1", "--token", TOKEN), "cannot listen there")
    refused(esv("dashboard", out, "--port", "70000"), "--port", "see esv dashboard --help")
    refused(esv("dashboard", out, "--port", "0", "--media", str(tmp_path / "none")), "--media", "found nothing")
    refused(esv("dashboard", out, "--port", "0", "--compare", str(tmp_path / "none")), "found no run.json")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(esv("dashboard", out, "--port", str(taken.getsockname()[1])), "cannot listen there", "--port 0")
    monkeypatch.setenv("ESV_DASHBOARD_TOKEN", "short")
    refused(esv("dashboard", out, "--port", "0"), "--token: expected 16 or more")
    for path in (output / "videos").iterdir():
        path.unlink()
    monkeypatch.delenv("ESV_DASHBOARD_TOKEN")
    refused(esv("dashboard", out, "--port", "0"), "expected committed units, found none")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_interrupted(output: Path, tmp_path: Path, ending: signal.Signals) -> None:
    """Nothing is written to the output, and nothing is left in the temporary folder."""
    before = sorted(output.rglob("*"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "ESV_DASHBOARD_TOKEN": TOKEN}
    process = Process(["dashboard", str(output), "--port", "0"], environment=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = urlsplit(next(word for word in line.split() if word.startswith("http://")))
        assert TOKEN not in line
        until = time.monotonic() + 60
        while b"video-00000000" not in _asked(address.port or 0):  # it is not indexed yet
            assert time.monotonic() < until
        process.send_signal(ending)
        out, err = process.communicate(60)
        assert (process.wait(), out, err.strip()) == (130, "", "esv: interrupted")
    finally:
        process.kill()
    assert sorted(output.rglob("*")) == before
    assert list(temporary.iterdir()) == []


def _asked(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/api/videos", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    assert answer.status == 200
    found = answer.read()
    connection.close()
    return found
