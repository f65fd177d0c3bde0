"""What of plans takes long to build, built once a machine: actors share it through files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import comb
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from esv_ray.core.adjusted.plan import AdjustedPlan
from esv_ray.core.estimator import Recipe
from esv_ray.core.exact.plan import Blueprint, Operators, blueprint
from esv_ray.core.lattices.lattice import Lattice, Scale
from esv_ray.core.logit.plan import LogitPlan
from esv_ray.machine import others_can_rename

_FORMAT = 4  # another number here: plans of the same recipe are others now
_CHEAP = 100_000  # subsequences times elements that are built in less time than a file takes
_ADJUSTED_WORK = 100  # of a subsequence of an adjusted plan beside one of Algorithm 1's
_KEPT_BYTES = 2 * 2**30
_STALE_S = 3600.0
_PARTS = ("masks", "parents", "parent_share", "elements")


def shared_blueprint(recipe: Recipe) -> Blueprint:
    """The blueprint of a recipe: built here where that is cheap, else by the first who asks on this machine.

    Others wait for it and map the same file, so that actors share its memory. The folder is the user's own, in the
    machine's temporary folder; the oldest files go when it holds more than 2 GiB.
    """
    if _work(recipe) <= _CHEAP:
        return blueprint(recipe)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(store_folder())
            path = _path(folder, recipe)
            lock = stack.enter_context((folder / f"{path.stem}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # falls with its process
        except OSError:  # no room, no locks, or not ours: nobody shares
            return blueprint(recipe)
        found = _load(path, recipe)
        if found is None:
            found = blueprint(recipe)
            with suppress(OSError):  # a full disk: the next one builds its own, nothing is lost
                _save(path, found)
        return found


def is_kept(recipe: Recipe) -> bool:
    """Whether the blueprint of a recipe was built and kept on this machine."""
    try:
        with store_folder() as folder:
            return _work(recipe) > _CHEAP and _path(folder, recipe).exists()
    except OSError:  # nobody shares
        return False


def _path(folder: Path, recipe: Recipe) -> Path:
    return folder / f"{hashlib.sha256(f'{_FORMAT} {recipe}'.encode()).hexdigest()[:32]}.safetensors"


@contextmanager
def store_folder() -> Iterator[Path]:
    """Open the folder of the plans, which nobody else can enter.

    Yields:
        A path through an open descriptor: it stays the same folder even where others may rename what is in the
        temporary folder, as in a pod's.

    Raises:
        OSError: somebody else made something of that name.
    """
    folder = Path(tempfile.gettempdir()) / f"esv_ray-lattices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(f"{folder}: expected a folder of this user that others cannot enter; remove it")
        fixed = Path(f"/proc/self/fd/{descriptor}")
        if fixed.exists():
            yield fixed
        elif others_can_rename(folder.parent.resolve()):
            raise PermissionError(f"{folder.parent}: others can rename what is in it; set TMPDIR to another folder")
        else:
            yield folder
    finally:
        os.close(descriptor)


def _work(recipe: Recipe) -> int:
    if recipe.closed and recipe.sampling is None:
        return recipe.n * sum(comb(recipe.n, s) for s in range(1, recipe.heads + 1)) // 50
    if recipe.sampling is None:
        return recipe.n * 2**recipe.n // 50 if recipe.stored else 0
    m, iterations, _ = recipe.sampling
    return recipe.n * m * iterations * (_ADJUSTED_WORK if recipe.kind == "adjusted" else 1)


def _names(recipe: Recipe, count: int) -> set[str]:
    """The tensors of the lattices of a recipe."""

    def has(name: str, s: int) -> bool:
        if name == "elements":
            return s <= recipe.heads
        recursion = recipe.recursion and s > 1
        return name == "masks" or (recursion and (name == "parents" or not recipe.exact))

    scales = range(1, recipe.n + 1)
    return {f"{i}.{s}.{name}" for i in range(count) for s in scales for name in _PARTS if has(name, s)}


def _tensors(made: Blueprint) -> dict[str, Tensor]:
    if isinstance(made, Operators):
        return {name: tensor.contiguous() for name, tensor in made.tensors().items()}
    return {
        f"{index}.{s}.{name}": tensor.contiguous()
        for index, lattice in enumerate(made)
        for s, scale in enumerate(lattice.scales, start=1)
        for name in _PARTS
        if (tensor := getattr(scale, name)) is not None
    }


def _save(path: Path, made: Blueprint) -> None:
    tensors = _tensors(made)
    if sum(tensor.nbytes for tensor in tensors.values()) > _KEPT_BYTES // 2:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary)
        temporary.replace(path)
    except SafetensorError as error:  # a full disk, for one
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _tidy(path)


def _tidy(newest: Path) -> None:
    """Remove the oldest beyond what is kept, and what killed processes left. Others may do the same meanwhile."""
    found = []
    for file in newest.parent.iterdir():
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        if file.suffix == ".safetensors":
            found.append((status.st_mtime, status.st_size, file))
        elif file.suffix == ".tmp" and time.time() - status.st_mtime > _STALE_S:
            file.unlink(missing_ok=True)
    held = 0
    for _, size, file in sorted(found, reverse=True):
        held += size
        if held > _KEPT_BYTES and file != newest:
            file.unlink(missing_ok=True)  # who has it mapped keeps it


def _load(path: Path, recipe: Recipe) -> Blueprint | None:
    try:
        tensors = load_file(path)
        path.touch()
    except (OSError, SafetensorError):  # not there yet, or broken
        return None
    if recipe.closed or recipe.kind == "adjusted":
        try:
            return (LogitPlan if recipe.closed else AdjustedPlan).from_tensors(tensors)
        except (KeyError, ValueError):  # not what was saved
            return None

    count = 1 if recipe.sampling is None else recipe.sampling[1]
    if set(tensors) != _names(recipe, count):
        return None  # not what was saved

    def scale(index: int, s: int) -> Scale:
        masks, *others = (tensors.get(f"{index}.{s}.{name}") for name in _PARTS)
        assert masks is not None, "it is among the names"
        return Scale(masks, *others)

    return tuple(
        Lattice(recipe.n, recipe.exact, tuple(scale(index, s) for s in range(1, recipe.n + 1)))
        for index in range(count)
    )
