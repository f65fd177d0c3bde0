"""The command `esv` in this process."""

from __future__ import annotations

import sys

import pytest

from esv_ray import cli

HERE = ["--set", "cluster.actors=0"]


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of `esv ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["esv", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    stdout = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, stdout.out, stdout.err
