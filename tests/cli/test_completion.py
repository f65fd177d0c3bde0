"""Completion in a real shell: commands, options, their values, and paths."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest


class Shell(NamedTuple):
    """How to start a shell without the user's files, and what completion needs before it is set up."""

    options: Sequence[str]
    setup: str


SHELLS = {
    "bash": Shell(["--norc", "--noprofile"], ""),
    "zsh": Shell(["-f"], "autoload -Uz compinit; compinit -u -D; "),
}


class Terminal:
    """An interactive shell in which `esv` is completed, on a terminal of its own."""

    def __init__(self, folder: Path, shell: str) -> None:
        home, far = pty.openpty()
        self.screen = home
        self.text = ""
        self.process = subprocess.Popen(
            [shell, *SHELLS[shell].options, "-i"],
            stdin=far,
            stdout=far,
            stderr=far,
            cwd=folder,
            env={
                **os.environ,
                "PS1": "$ ",
                "TERM": "dumb",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            start_new_session=True,
        )
        os.close(far)
        setup = f'{SHELLS[shell].setup}eval "$(_ESV_COMPLETE={shell}_source esv)"'
        self.type(f'{setup}; echo rea""dy\n')
        self.wait_for("ready")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.text = ""
        os.write(self.screen, keys.encode())

    def wait_for(self, part: str) -> None:
        """Wait until the screen shows a text."""
        until = time.monotonic() + 60
        while part not in self.text:
            assert time.monotonic() < until, f"expected {part!r}, the screen shows {self.text!r}"
            if select.select([self.screen], [], [], 1)[0]:
                self.text += os.read(self.screen, 4096).decode(errors="replace")

    def close(self) -> None:
        """End the shell."""
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_completion(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "outputs" / "esv-of-monday").mkdir(parents=True)
    (tmp_path / "job-of-monday.yaml").touch()
    terminal = Terminal(tmp_path, shell)
    try:
        for keys, completed in (
            ("esv attri\t", "esv attribute "),
            ("esv attribute job-\t", "job-of-monday.yaml"),
            ("esv attribute --feat\t", "--features "),
            ("esv attribute --features outputs/es\t", "outputs/esv-of-monday"),
            ("esv show out\t", "outputs/"),
            ("esv import features --from hd\t", "hdf5 "),
            ("esv import model --prior outp\t", "outputs/"),
        ):
            terminal.type(keys)
            terminal.wait_for(completed)
            terminal.type("\x15")  # clear the line
    finally:
        terminal.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_of_completion(shell: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "esv"],
        env={**os.environ, "_ESV_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"_ESV_COMPLETE={shell}_complete" in done.stdout
