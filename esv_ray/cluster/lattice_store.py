"""Lattices that take long to build, built once a machine: actors share them through files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from esv_ray.core.estimator import Recipe, build_lattices
from esv_ray.core.lattice import Lattice, Scale

_FORMAT = 1  # another number here: lattices of the same recipe are others now
_CHEAP = 100_000  # subsequences times elements that are built in less time than a file takes
_KEPT_BYTES = 2 * 2**30
_PARTS = ("masks", "parents", "parent_share", "elements")


def shared_lattices(recipe: Recipe) -> tuple[Lattice, ...]:
    """The lattices of a recipe: built here where that is cheap, else by the first who asks on this machine.

    Others wait for it and map the same file, so that actors share its memory. The folder is the user's own, in the
    machine's temporary folder; the oldest files go when it holds more than 2 GiB.
    """
    if _work(recipe) <= _CHEAP:
        return build_lattices(recipe)
    try:
        folder = store_folder()
    except OSError:  # no room, or not ours: nobody shares
        return build_lattices(recipe)
    path = folder / f"{hashlib.sha256(f'{_FORMAT} {recipe}'.encode()).hexdigest()[:32]}.safetensors"
    with (folder / f"{path.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # falls with its process
        found = _load(path, recipe)
        if found is not None:
            return found
        built = build_lattices(recipe)
        _save(path, built)
    return built


def store_folder() -> Path:
    """Where they are: a folder that nobody else can write to.

    Raises:
        PermissionError: somebody else made a folder of that name.
    """
    folder = Path(tempfile.gettempdir()) / f"esv_ray-lattices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder}: expected a folder of this user that others cannot enter; remove it")
    return folder


def _work(recipe: Recipe) -> int:
    if recipe.sampling is None:
        return recipe.n * 2**recipe.n // 50 if recipe.stored else 0
    m, iterations, _ = recipe.sampling
    return recipe.n * m * iterations


def _save(path: Path, lattices: tuple[Lattice, ...]) -> None:
    tensors = {
        f"{index}.{s}.{name}": tensor.contiguous()
        for index, lattice in enumerate(lattices)
        for s, scale in enumerate(lattice.scales, start=1)
        for name in _PARTS
        if (tensor := getattr(scale, name)) is not None
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError):  # a full disk: nobody shares, nothing is lost
        temporary.unlink(missing_ok=True)
        return
    _tidy(path)


def _tidy(newest: Path) -> None:
    files = sorted(newest.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    held = 0
    for file in files:
        held += file.stat().st_size
        if held > _KEPT_BYTES and file != newest:
            file.unlink(missing_ok=True)  # who has it mapped keeps it


def _load(path: Path, recipe: Recipe) -> tuple[Lattice, ...] | None:
    try:
        tensors = load_file(path)
        path.touch()
    except (OSError, SafetensorError):  # not there yet, or broken
        return None

    def scale(index: int, s: int) -> Scale:
        masks, *others = (tensors.get(f"{index}.{s}.{name}") for name in _PARTS)
        assert isinstance(masks, torch.Tensor)
        return Scale(masks, *others)

    count = 1 if recipe.sampling is None else recipe.sampling[1]
    return tuple(
        Lattice(recipe.n, recipe.exact, tuple(scale(index, s) for s in range(1, recipe.n + 1)))
        for index in range(count)
    )
