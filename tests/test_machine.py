"""What a machine has: positive, never more than there is, and no more than its container may take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esv_ray import machine

CPU = torch.device("cpu")


def test_memory_is_some_of_what_there_is() -> None:
    assert 10_000_000 < machine.spare_memory(CPU) <= machine._physical()
    if not torch.cuda.is_available():
        assert machine.memory_per_actor(1) <= machine._physical()
        assert machine.memory_per_actor(4) == pytest.approx(machine.memory_per_actor(1) / 4, abs=4)
        assert machine.memory_per_actor(0) == machine.memory_per_actor(1)
    assert machine.cores() >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the memory of the device counts there")
@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("1000000000", "400000000", 0.6e9), ("max", "1", None), ("9223372036854771712", "1", None)],
)
def test_a_container_limits_it(
    limit: str, used: str, expected: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, total = machine.spare_memory(CPU), machine.memory_per_actor(1)
    (tmp_path / "max").write_text(f"{limit}\n")
    (tmp_path / "current").write_text(f"{used}\n")
    (tmp_path / "stat").write_text("anon 1\nactive_file 100000000\ninactive_file 50000000\n")
    monkeypatch.setattr(machine, "_CGROUPS", (tuple(str(tmp_path / name) for name in ("max", "current", "stat")),))
    if expected is None:
        assert machine.spare_memory(CPU) == pytest.approx(free, rel=0.2)
        assert machine.memory_per_actor(1) >= total
    else:
        assert machine.spare_memory(CPU) == pytest.approx(expected)
        assert machine.memory_per_actor(2) == pytest.approx(0.4e9)
