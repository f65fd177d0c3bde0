"""The image's Dockerfile: linted, and its steps done as far as they can be without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("image")

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "k8s" / "image" / "Dockerfile"


@dataclass(frozen=True)
class Step:
    stage: str
    verb: str
    rest: str


def steps(text: str) -> Iterator[Step]:
    """Instructions with their stages; comments left out, lines that go on joined."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stage = ""
    for line in re.sub(r"\\\n", " ", plain).splitlines():
        verb, _, rest = line.strip().partition(" ")
        if verb == "FROM":
            stage = rest.partition(" AS ")[2] or "final"
        if verb:
            yield Step(stage, verb, rest.strip())


STEPS = list(steps(DOCKERFILE.read_text()))


def of(stage: str, verb: str) -> list[str]:
    return [step.rest for step in STEPS if (step.stage, step.verb) == (stage, verb)]


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["hadolint", str(file)], capture_output=True, text=True, check=False)


def test_lint(tmp_path: Path) -> None:
    found = lint(DOCKERFILE)
    assert found.returncode == 0, found.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("FROM python:${PYTHON} AS source", "FROM python:latest AS source"))
    assert "DL3007" in lint(wrong).stdout


def test_what_is_sure_of_the_image() -> None:
    assert of("final", "USER") == ["10001"], "without privileges, as Kubernetes wants it by number"
    assert len(of("final", "HEALTHCHECK")) == 1
    assert {step.stage for step in STEPS} >= {"source", "torch-cpu", "torch-cuda", "build", "final"}
    args = dict(rest.partition("=")[::2] for rest in of("", "ARG"))
    assert args["VARIANT"] == "cpu"
    assert re.fullmatch(r"\d+\.\d+\.\d+-slim-bookworm", args["PYTHON"])
    (build,) = of("build", "RUN")
    assert "-c constraints.txt" in build
    text = DOCKERFILE.read_text()
    assert not re.search(r"(?i)secret|password|AKIA", text)


@pytest.fixture(scope="module", params=["packages of this environment", pytest.param("all", marks=pytest.mark.soak)])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps of the stages `source` and `build`, in folders of the test in place of /src and /opt/esv.

    The index of torch's builds for processors is another one here: where pip is told to look. All dependencies are
    installed in the soak tests; else those of this environment serve, and pip checks that they do.
    """
    root = tmp_path_factory.mktemp("image")
    source, made = root / "src", root / "opt" / "esv"
    source.mkdir()
    made.parent.mkdir()
    for rest in of("source", "COPY"):
        *names, target = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, source / target, ignore=leave)
            else:
                shutil.copy(ROOT / name, source / target)
    (run,) = of("build", "RUN")
    run = run.replace("/opt/esv", str(made)).replace("python -m venv", f"{sys.executable} -m venv")
    if request.param != "all":
        packages = made / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        run = run.replace("&&", f"&& echo {sysconfig.get_path('purelib')} > {packages}/here.pth &&", 1)
    run = run.replace("--no-cache-dir", "-q")  # nothing is thrown away here
    done = subprocess.run(["sh", "-ec", run], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return made


def in_image(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{image}/bin:/usr/bin:/bin", "HOME": str(image.parent)}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_installation_runs(image: Path) -> None:
    """The entry points that RayJobs name, the job server's packages, and the manifests inside the wheel."""
    version = in_image(image, "esv", "--version")
    assert version.returncode == 0, version.stderr
    ready = in_image(image, "python", "-c", "import esv_ray, ray, aiohttp, opencensus; print('well')")
    assert ready.stdout == "well\n", ready.stderr
    entries = sorted((image / "jobs").glob("*.py"))
    assert [entry.stem for entry in entries] == ["analyze", "attribute", "extract", "train", "verify"]
    for entry in entries:
        assert in_image(image, "python", str(entry), "--help").returncode == 0
    assert in_image(image, "python", str(image / "jobs" / "attribute.py"), "/none.yaml").returncode == 2
    listed = in_image(
        image, "python", "-c", "from esv_ray.submit.kubernetes.manifests import overlays; print(list(overlays()))"
    )
    assert listed.stdout == "['base', 'cpu-local', 'gpu', 'kueue', 'spot']\n", listed.stderr


@pytest.mark.slow
def test_health(image: Path, tmp_path: Path) -> None:
    """A container without a Ray node is well if `esv` can be started."""
    script = (DOCKERFILE.parent / "healthy").read_text()
    asks = tmp_path / "healthy"
    asks.write_text(script.replace("/proc/", f"{tmp_path}/proc/"))
    assert os.access(DOCKERFILE.parent / "healthy", os.X_OK)
    assert in_image(image, "sh", str(asks)).returncode == 0
    (image / "bin" / "esv").rename(image / "bin" / "gone")
    try:
        assert in_image(image, "sh", str(asks)).returncode != 0
    finally:
        (image / "bin" / "gone").rename(image / "bin" / "esv")
    comm = tmp_path / "proc" / "17" / "comm"
    comm.parent.mkdir(parents=True)
    comm.write_text("raylet\n")
    asks.write_text(asks.read_text().replace("52365", "9"))  # where nobody answers
    assert in_image(image, "sh", str(asks)).returncode != 0, "its node does not answer"


@pytest.mark.slow
def test_the_packages_of_the_system_exist() -> None:
    (run,) = of("final", "RUN")
    names = re.search(r"--no-install-recommends ([a-z0-9 -]+?)\s+&&", run)
    assert names is not None
    if shutil.which("apt-get") is None or not any(Path("/var/lib/apt/lists").glob("*Packages*")):
        pytest.skip("no lists of Debian's packages here")
    command = ["apt-get", "install", "--simulate", "--no-install-recommends", *names[1].split()]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
