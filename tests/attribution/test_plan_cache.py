"""Plans are built once per machine, and are the same as if each process built its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esv_ray.attribution import plan_cache
from esv_ray.attribution.plan_cache import cache_folder, cached_plan
from esv_ray.core.plan import Plan, build_plan
from esv_ray.core.recipe import Recipe
from esv_ray.core.scales import equal_scales

SAMPLED = Recipe("algorithm1", 30, equal_scales(8), True, (200, 3, 5))
ADJUSTED = Recipe("adjusted", 30, equal_scales(8), True, (50, 2, 5))
EXACT = Recipe("exact", 11, equal_scales(4), True, None)
LOGITS = Recipe("adjusted", 20, equal_scales(3), True, (60, 2, 5), True)
ALL_LOGITS = Recipe("exact", 30, equal_scales(3), True, None, True)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(plan_cache, "_CHEAP", 0)


def place() -> Path:
    """The folder under its name; `cache_folder` gives it through a descriptor."""
    with cache_folder():
        return Path(tempfile.gettempdir()) / f"esv_ray-lattices-{os.getuid()}"


def files() -> list[Path]:
    return sorted(place().glob("*.safetensors"))


def same(first: Plan, second: Plan) -> bool:
    a, b = first.tensors(), second.tensors()
    return type(first) is type(second) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "recipe", [SAMPLED, EXACT, ADJUSTED, LOGITS, ALL_LOGITS, Recipe("algorithm1", 70, None, True, (20, 1, 0))]
)
def test_built_once_and_the_same_for_all(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build_plan(recipe)
    assert same(cached_plan(recipe), expected)
    assert len(files()) == 1

    def again(_: Recipe) -> Plan:
        raise AssertionError("built twice")

    monkeypatch.setattr(plan_cache, "build_plan", again)
    assert same(cached_plan(recipe), expected)


def test_each_recipe_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Recipe("algorithm1", 30, equal_scales(8), True, (200, 3, 6))
    cached_plan(SAMPLED)
    assert not same(cached_plan(other), cached_plan(SAMPLED))
    assert len(files()) == 2
    monkeypatch.setattr(plan_cache, "_CHEAP", 10**9)
    cached_plan(EXACT)
    assert len(files()) == 2, "what is cheap is built where it is needed"


@pytest.mark.slow
def test_broken_files_and_full_disks_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build_plan(SAMPLED)
    cached_plan(SAMPLED)
    files()[0].write_bytes(files()[0].read_bytes()[:100])
    assert same(cached_plan(SAMPLED), expected)
    assert same(cached_plan(SAMPLED), expected)
    tensors = load_file(files()[0])
    save_file({name: tensor for name, tensor in tensors.items() if "parents" not in name}, files()[0])
    assert same(cached_plan(SAMPLED), expected), "a file without some of its tensors is built again"
    (place() / f"{files()[0].stem}.lock").unlink()
    (place() / f"{files()[0].stem}.lock").mkdir()
    assert same(cached_plan(SAMPLED), expected), "without a lock"
    (place() / f"{files()[0].stem}.lock").rmdir()
    files()[0].unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_cache, "save_file", full)
    assert same(cached_plan(SAMPLED), expected)
    assert not list(place().glob("*.tmp"))


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    cached_plan(SAMPLED)
    monkeypatch.setattr(plan_cache, "_KEPT_BYTES", 37 * files()[0].stat().st_size // 20)
    monkeypatch.setattr(plan_cache, "_STALE_S", -1.0)
    (place() / "killed.1.tmp").touch()
    cached_plan(Recipe("algorithm1", 30, equal_scales(8), True, (180, 3, 6)))
    assert len(files()) == 1
    assert not list(place().glob("*.tmp"))
    monkeypatch.setattr(plan_cache, "_KEPT_BYTES", 1)
    cached_plan(EXACT)
    assert len(files()) == 1, "what is too large to keep is not written"


def test_a_folder_that_others_can_enter_is_not_used() -> None:
    folder = place()
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="of this user that others cannot enter"):
        place()
    assert same(cached_plan(SAMPLED), build_plan(SAMPLED))
    assert not list(folder.iterdir())


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"esv_ray-lattices-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert same(cached_plan(SAMPLED), build_plan(SAMPLED))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_another_folder_that_takes_its_name_gets_nothing(tmp_path: Path) -> None:
    """Where others may rename what is in the temporary folder, as in that of a pod."""
    with cache_folder() as folder:
        place().rename(tmp_path / "moved")
        (tmp_path / f"esv_ray-lattices-{os.getuid()}").mkdir()
        (folder / "plan").touch()
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["plan"]


ASK = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from safetensors.torch import load_file, save_file

from esv_ray.attribution import plan_cache
from esv_ray.core.recipe import Recipe
from esv_ray.core.plan import build_plan
from esv_ray.core.scales import equal_scales
plan_cache._CHEAP = 0
def counted(recipe):
    print("built", flush=True)
    return build_plan(recipe)
plan_cache.build_plan = counted
plan_cache.cached_plan(Recipe("algorithm1", 40, equal_scales(8), True, (300, 4, 1)))
"""


@pytest.mark.slow
def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sorted(process.communicate()[0] for process in processes) == ["", "", "built\n"]
    assert [process.returncode for process in processes] == [0, 0, 0]
