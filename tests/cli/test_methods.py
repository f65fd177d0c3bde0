"""`methods` of a spec that the model cannot have: refused in one line, before anything is computed or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bundles import python_bundle
from tests.support.command import HERE
from tests.support.job_factories import CONSENT


@pytest.mark.parametrize("command", ["attribute", "plan"])
@pytest.mark.parametrize("methods", ["esv,integrated_gradients", "esv,grad_cam", "esv,occlusion,grad_cam,random"])
@pytest.mark.parametrize("how", ["no_grad", "detach", "numpy", "argmax"])
def test_a_model_without_gradients_is_refused(  # type: ignore[no-untyped-def]
    esv, features: str, tmp_path: Path, command: str, methods: str, how: str
) -> None:
    bundle, out = python_bundle(tmp_path / "model", "without_gradient", how=how), tmp_path / "out"
    arguments = ["--features", features, "--model", bundle, "--output", str(out), *HERE, "--set", CONSENT]
    code, stdout, err = esv(command, *arguments, "--set", f"methods=[{methods}]")
    assert (code, stdout, len(err.splitlines())) == (2, "", 1)
    assert f"{bundle}: integrated_gradients and grad_cam need gradients, but the module of scale 1 returns" in err
    assert "use esv and occlusion alone" in err
    assert not out.exists()


@pytest.mark.parametrize("command", ["attribute", "plan"])
def test_methods_without_gradients_need_none(esv, features: str, tmp_path: Path, command: str) -> None:  # type: ignore[no-untyped-def]
    bundle, out = python_bundle(tmp_path / "model", "without_gradient", how="numpy"), tmp_path / "out"
    arguments = ["--features", features, "--model", bundle, "--output", str(out), *HERE, "--set", CONSENT]
    code, _, err = esv(command, *arguments, "--set", "methods=[esv,occlusion,random]")
    assert code == 0, err
