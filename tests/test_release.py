"""What a release needs: packages that build and install, and versions, URLs and linters that agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.support.pages import DOCS, ROOT

pytestmark = [pytest.mark.xdist_group("release"), pytest.mark.always]  # they share the packages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))


def run(*command: str, cwd: Path) -> str:
    """Run a command without this process's PYTHONPATH; return its standard output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, built from the sdist, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    names = sorted(folder.iterdir())
    assert [path.name.partition("-")[2] for path in names] == [
        f"{PROJECT['version']}-py3-none-any.whl",
        f"{PROJECT['version']}.tar.gz",
    ]
    return names


@pytest.mark.release
def test_descriptions_render(packages: list[Path]) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, packages), cwd=packages[0].parent)


@pytest.mark.release
def test_the_wheel_has_pages_data_and_manifests(packages: list[Path]) -> None:
    names = set(zipfile.ZipFile(packages[0]).namelist())
    assert {f"esv_ray/docs/{page.relative_to(DOCS)}" for page in DOCS.rglob("*.md")} <= names
    assert {"esv_ray/_demo/train.parquet", "esv_ray/_demo/test.parquet", "esv_ray/_k8s/base/rayjob.yaml"} <= names
    assert {"esv_ray/_demo/gru.py", "esv_ray/_demo/gru.safetensors", "esv_ray/docs/pictures/test-114.svg"} <= names
    assert not any(name.startswith("tests/") for name in names)


@pytest.mark.release
def test_the_wheel_runs(packages: list[Path], tmp_path: Path) -> None:
    """Installed into a fresh environment, which borrows the dependencies of this one."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = str(home / "bin" / "python")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(packages[0]),
        cwd=tmp_path,
    )
    (own,) = home.glob("lib/python*/site-packages")
    (own / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    place = run(python, "-c", "import esv_ray; print(esv_ray.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(own)
    esv = str(home / "bin" / "esv")
    assert "Usage: esv demo" in run(esv, "demo", "--help", cwd=tmp_path)
    assert run(esv, "--version", cwd=tmp_path).split()[-1] == PROJECT["version"]
    run(python, "-m", "esv_ray.sample", cwd=tmp_path)
    assert (tmp_path / "gru.py").exists()


def test_the_hooks_are_the_linters_of_the_environment() -> None:
    """They are no copies with versions of their own, and the environment has the pinned versions."""
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    assert all(hook["language"] == "system" for hook in hooks)
    assert {" ".join(hook["entry"].split()[:2]).split(" --")[0] for hook in hooks} == {
        "ruff check",
        "ruff format",
        "mypy",
        "lint-imports",
    }
    for tool in ("ruff", "mypy", "import-linter"):
        assert version(tool) == PINS[tool], f"{tool}: install with -c constraints.txt"


def test_what_tests_need_is_pinned() -> None:
    names = [re.split(r"[\[>=]", need)[0] for need in PROJECT["optional-dependencies"]["test"]]
    pinned = {name.lower().replace("_", "-") for name in PINS}
    assert {name.lower() for name in names} - pinned == {"esv-ray"}


def test_pages_name_this_project_and_version() -> None:
    home = PROJECT["urls"]["Homepage"]
    assert all(url.startswith(home) for url in PROJECT["urls"].values())
    for page in (DOCS / "citing.md", ROOT / ".github" / "CONTRIBUTING.md"):
        assert home in page.read_text()
    assert f"version = {{{PROJECT['version']}}}" in (DOCS / "citing.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["repository-code"] == home
    assert citation["preferred-citation"]["title"] in (DOCS / "citing.md").read_text()
    assert PROJECT["version"] in (DOCS / "changelog.md").read_text()


def test_issue_forms_are_well_formed() -> None:
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text())
        if path.stem == "config":
            continue
        assert {"name", "description", "body"} <= form.keys()
        assert all({"type", "id", "attributes"} <= field.keys() for field in form["body"])
        assert all(field["attributes"]["label"] for field in form["body"])
