"""Torch's settings of a process."""

from __future__ import annotations

import pytest
import torch

from esv_ray.core.threads import one_thread, torch_settings


def settings() -> tuple[int, str]:
    return torch.get_num_threads(), torch.get_float32_matmul_precision()


def test_settings_are_restored() -> None:
    before = settings()
    with torch_settings(before[0] + 1, "high"):
        assert settings() == (before[0] + 1, "high")
        with one_thread():
            assert settings() == (1, "high")
        assert settings() == (before[0] + 1, "high")
    assert settings() == before


def test_one_thread_leaves_the_precision_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch raises on reading it if a module used the newer switches, and setting it changes single backends."""

    def refuse(*_: object) -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", refuse)
    with one_thread():
        assert torch.get_num_threads() == 1


def test_settings_of_the_work_inside_are_restored_even_after_an_error() -> None:
    before = settings()

    def work() -> None:
        torch.set_num_threads(before[0] + 2)
        torch.set_float32_matmul_precision("medium")
        raise RuntimeError("work")

    with pytest.raises(RuntimeError, match="work"), torch_settings():
        work()
    assert settings() == before
