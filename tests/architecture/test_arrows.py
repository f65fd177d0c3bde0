"""The house: rooms, import arrows, and what importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_arrows() -> None:
    """The contracts in pyproject.toml: rooms import one way, core knows no I/O, only job and submit import ray."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'ray', 'torch', 'pyarrow', 'numpy'}"
    code = f"import esv_ray, sys; esv_ray.factory(lambda: 0); print(sorted({heavy} & set(sys.modules)), dir(esv_ray))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert all(
        name in done.stdout for name in ("characteristic_game", "explain", "factory", "load_model", "load_spec", "run")
    )


@pytest.mark.slow
def test_explaining_imports_no_ray() -> None:
    names = "esv_ray.explain; esv_ray.load_model; esv_ray.load_spec"
    code = f"import esv_ray, sys; {names}; import esv_ray.clips.explaining; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.xdist_group("kept")
def test_groups_of_tests_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist marks a group in the id of a test; not every version of pytest lets it."""
    assert request.node.nodeid.endswith("@kept") == ("PYTEST_XDIST_WORKER" in os.environ)


def test_top_level() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    allowed = {
        "esv_ray",
        "jobs",
        "tests",
        "k8s",
        "pyproject.toml",
        "README.md",
        "constraints.txt",
        "LICENSE",
        "CITATION.cff",
    }
    assert names - {"esv-demo"} == allowed, "esv-demo is what the README's command makes, ignored by git"


def test_every_package_has_its_tests() -> None:
    rooms = {path.name for path in (ROOT / "esv_ray").iterdir() if (path / "__init__.py").exists()}
    assert rooms == {
        "storage", "core", "models", "input", "output", "job", "attribution", "forecast", "submit", "analysis", "bench",
        "cli", "unpickling", "show", "report", "decoding", "extraction", "media", "training",
        "export", "clips", "dashboard",
    }  # fmt: skip
    assert all(any((ROOT / "tests" / room).glob("test_*.py")) for room in rooms)
