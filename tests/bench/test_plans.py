"""The benchmark of plans prints both ways, and says which one attributions use."""

from __future__ import annotations

import pytest

from esv_ray.bench import plans


@pytest.mark.slow
def test_it_compares_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    plans.main(["-n", "200", "--rows", "20", "--rounds", "1"])
    header, joint, each, ratio = capsys.readouterr().out.splitlines()
    assert header.split() == ["n", "rows", "way", "CPU", "s", "plan", "MB", "peak", "MB", "used"]
    assert joint.split()[:3] == ["200", "20", "joint"]
    assert joint.split()[-1] == "yes"
    assert each.split()[:3] == ["200", "20", "each"]
    assert float(joint.split()[3]) < float(each.split()[3])
    assert float(ratio.split()[-1]) > 1


def test_short_sequences_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plans.main(["-n", "24"])
    assert "above 24" in capsys.readouterr().err
