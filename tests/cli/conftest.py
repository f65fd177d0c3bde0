"""The command `esv` in this process."""

from __future__ import annotations

import pytest

from tests.support.command import run


@pytest.fixture
def esv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """A function that runs a command: `esv("attribute", ...)` -> (code, out, err)."""
    return lambda *arguments: run(*arguments, monkeypatch=monkeypatch, capsys=capsys)
