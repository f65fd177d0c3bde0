"""Lattices are built once a machine, whoever asks, and are the same as if each built its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esv_ray.cluster import lattice_store
from esv_ray.cluster.lattice_store import shared_lattices, store_folder
from esv_ray.core.estimator import Recipe, build_lattices
from esv_ray.core.lattice import Lattice

SAMPLED = Recipe(30, 8, True, True, (200, 3, 5))
EXACT = Recipe(11, 4, True, True, None)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(lattice_store, "_CHEAP", 0)


def files() -> list[Path]:
    return sorted(store_folder().glob("*.safetensors"))


def same(one: tuple[Lattice, ...], other: tuple[Lattice, ...]) -> bool:
    return len(one) == len(other) and all(
        (a.n, a.full, len(a.scales)) == (b.n, b.full, len(b.scales))
        and all(
            len(x.tensors()) == len(y.tensors()) and all(map(torch.equal, x.tensors(), y.tensors()))
            for x, y in zip(a.scales, b.scales, strict=True)
        )
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("recipe", [SAMPLED, EXACT, Recipe(70, 0, False, True, (20, 1, 0))])
def test_built_once_and_the_same_for_all(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build_lattices(recipe)
    assert same(shared_lattices(recipe), expected)
    assert len(files()) == 1

    def again(_: Recipe) -> tuple[Lattice, ...]:
        raise AssertionError("built twice")

    monkeypatch.setattr(lattice_store, "build_lattices", again)
    assert same(shared_lattices(recipe), expected)


def test_each_recipe_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Recipe(30, 8, True, True, (200, 3, 6))
    shared_lattices(SAMPLED)
    assert not same(shared_lattices(other), shared_lattices(SAMPLED))
    assert len(files()) == 2
    monkeypatch.setattr(lattice_store, "_CHEAP", 10**9)
    shared_lattices(EXACT)
    assert len(files()) == 2, "what is cheap is built where it is needed"


def test_broken_files_and_full_disks_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build_lattices(SAMPLED)
    shared_lattices(SAMPLED)
    files()[0].write_bytes(files()[0].read_bytes()[:100])
    assert same(shared_lattices(SAMPLED), expected)
    assert same(shared_lattices(SAMPLED), expected)
    tensors = load_file(files()[0])
    save_file({name: tensor for name, tensor in tensors.items() if "parents" not in name}, files()[0])
    assert same(shared_lattices(SAMPLED), expected), "a file without some of its tensors is built again"
    (store_folder() / f"{files()[0].stem}.lock").unlink()
    (store_folder() / f"{files()[0].stem}.lock").mkdir()
    assert same(shared_lattices(SAMPLED), expected), "no lock to be had"
    (store_folder() / f"{files()[0].stem}.lock").rmdir()
    files()[0].unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lattice_store, "save_file", full)
    assert same(shared_lattices(SAMPLED), expected)
    assert not list(store_folder().glob("*.tmp"))


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_lattices(SAMPLED)
    monkeypatch.setattr(lattice_store, "_KEPT_BYTES", 37 * files()[0].stat().st_size // 20)
    monkeypatch.setattr(lattice_store, "_STALE_S", -1.0)
    (store_folder() / "killed.1.tmp").touch()
    shared_lattices(Recipe(30, 8, True, True, (180, 3, 6)))
    assert len(files()) == 1
    assert not list(store_folder().glob("*.tmp"))
    monkeypatch.setattr(lattice_store, "_KEPT_BYTES", 1)
    shared_lattices(EXACT)
    assert len(files()) == 1, "what is too large to keep is not written"


def test_a_folder_that_others_can_enter_is_not_used() -> None:
    folder = store_folder()
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="of this user that others cannot enter"):
        store_folder()
    assert same(shared_lattices(SAMPLED), build_lattices(SAMPLED))
    assert not list(folder.iterdir())


ASK = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from safetensors.torch import load_file, save_file

from esv_ray.cluster import lattice_store
from esv_ray.core.estimator import Recipe, build_lattices
lattice_store._CHEAP = 0
def told(recipe):
    print("built", flush=True)
    return build_lattices(recipe)
lattice_store.build_lattices = told
lattice_store.shared_lattices(Recipe(40, 8, True, True, (300, 4, 1)))
"""


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    asked = [
        subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sorted(process.communicate()[0] for process in asked) == ["", "", "built\n"]
    assert [process.returncode for process in asked] == [0, 0, 0]
