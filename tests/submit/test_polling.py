"""Polling of unreachable clusters: it retries for some time, but not after other errors."""

from __future__ import annotations

import pytest

from esv_ray.errors import IncompleteError, SpecError
from esv_ray.submit import polling
from esv_ray.submit.polling import UnreachableError, poll


def test_polling_retries_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_PAUSE_S", 0.0)
    answers: list[Exception | str] = [UnreachableError("no"), UnreachableError("no"), "here"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, str):
            return answer
        raise answer

    assert poll(ask, "esv-a-1") == "here"
    answers.append(SpecError("esv-a-1: no such job"))
    with pytest.raises(IncompleteError, match=r"esv-a-1: cannot determine how the job ended .*no such job.*; run"):
        poll(ask, "esv-a-1")
    monkeypatch.setattr(polling, "_PATIENCE_S", -1.0)
    answers.append(UnreachableError("it does not answer"))
    with pytest.raises(IncompleteError, match="it does not answer"):
        poll(ask, "esv-a-1")
