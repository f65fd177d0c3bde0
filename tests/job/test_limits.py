"""Limits under which Ray hangs or aborts are named before it starts; a job without Ray runs under most of them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from esv_ray.job.on_ray.limits import check_limits
from tests.support.jobs import attribute
from tests.support.processes import Command

pytestmark = pytest.mark.xdist_group("nobody")  # of one user, who has processes of one test at a time

WITHOUT = "or set cluster.actors to 0, which needs no Ray"
UNDER = """
import os, resource, sys
from esv_ray import signals
from esv_ray.job.on_ray.limits import check_limits
from esv_ray.errors import SpecError
name, limit, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if user:
    check_limits(1)  # imports all that it needs, which another user may not read
    os.setuid(user)
resource.setrlimit(getattr(resource, name), (limit, limit))
try:
    check_limits(1)
except SpecError as error:
    print(error)
"""
USER = 54322


def under(name: str, limit: int, user: int = 0) -> str:
    """What a process under a limit is told."""
    words = [sys.executable, "-c", UNDER, name, str(limit), str(user)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=100).stdout.strip()


def test_no_limit_is_met_here() -> None:
    before = threading.active_count(), threading.stack_size()
    check_limits(2)
    assert (threading.active_count(), threading.stack_size()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="limits of processes are for a user without other processes")
@pytest.mark.parametrize("limit", [40, 100, 150, 200])
def test_too_few_processes(limit: int) -> None:
    said = under("RLIMIT_NPROC", limit, USER)
    assert said.startswith("cannot start Ray on this machine: expected to start 240 more processes and threads, got ")
    assert said.endswith(f"raise the user's limit (ulimit -u) or the container's (its pids limit), {WITHOUT}")


@pytest.mark.skipif(os.geteuid() != 0, reason="as above")
def test_enough_processes() -> None:
    assert under("RLIMIT_NPROC", 400, USER) == ""


@pytest.mark.parametrize(
    ("name", "limit", "said"),
    [
        (
            "RLIMIT_NOFILE",
            32,
            f"open files for each process, got a limit of 32; raise ulimit -n, {WITHOUT}",
        ),
        ("RLIMIT_AS", 3 * 2**30, "expected 4 GiB of address space for each process, got 3 GiB; raise ulimit -v"),
        ("RLIMIT_FSIZE", 10**5, "expected files of up to 104857600 bytes, got a limit of 100000; raise ulimit -f"),
    ],
)
def test_other_limits(name: str, limit: int, said: str) -> None:
    assert said in under(name, limit)


def test_a_lower_limit_of_its_own_is_raised() -> None:
    """`ulimit -S -n 32`, where the hard limit leaves room."""
    code = UNDER.replace("(limit, limit)", f"(limit, {resource.getrlimit(resource.RLIMIT_NOFILE)[1]})")
    words = [sys.executable, "-c", code, "RLIMIT_NOFILE", "32", "0"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == ""


def test_no_loopback() -> None:
    apart = ["unshare", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a network namespace")
    words = [*apart, sys.executable, "-c", UNDER, "RLIMIT_CORE", "0", "0"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "expected a loopback interface, got Network is unreachable; bring it up" in said


@pytest.mark.slow
def test_the_command_ends_with_2_and_does_without_ray(features: str, bundle: str, tmp_path: Path) -> None:
    """At once, not after half a minute of Ray's; under the same limit a job without Ray is done."""
    command = Command(*attribute(features, bundle, tmp_path / "out", "cluster.actors=1"), open_files=32)
    code, out, err = command.end()
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("esv: cannot start Ray on this machine: expected 64 open files")
    assert "Traceback" not in err
    command = Command(*attribute(features, bundle, tmp_path / "out", "cluster.actors=0"), open_files=32)
    code, out, err = command.end()
    assert (code, out.startswith("40 videos: 40 ok")) == (0, True), err
