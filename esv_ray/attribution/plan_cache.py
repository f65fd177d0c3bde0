"""Cache of plans in files: actors of a machine share plans that take long to build."""

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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from esv_ray.core.plan import Plan, build_plan, plan_from_tensors
from esv_ray.core.recipe import Recipe, evaluated_scales
from esv_ray.machine import others_can_rename

_FORMAT = 7  # increased when the plan of a recipe, or its tensors, change
_CHEAP = 100_000  # subsequences times elements that are built faster than a file is read
_ADJUSTED_WORK = 100  # work per subsequence of an adjusted plan, relative to Algorithm 1
_KEPT_BYTES = 2 * 2**30
_STALE_S = 3600.0
_COUNT = "count"  # name of the number of tensors in a file, which shows whether it is complete


def cached_plan(recipe: Recipe) -> Plan:
    """Return the plan of a recipe: built here if that is cheap, otherwise once per machine.

    Other processes wait for the one that builds it and map the same file, so that actors share its memory. The folder
    belongs to the user, in the machine's temporary folder; the oldest files are removed when it exceeds 2 GiB.
    """
    if _work(recipe) <= _CHEAP:
        return build_plan(recipe)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(cache_folder())
            path = _path(folder, recipe)
            lock = stack.enter_context((folder / f"{path.stem}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when its process ends
        except OSError:  # no space, no locks, or another user's folder: build without sharing
            return build_plan(recipe)
        plan = _load(path, recipe)
        if plan is None:
            plan = build_plan(recipe)
            with suppress(OSError):  # a full disk: the next process builds its own, nothing is lost
                _save(path, plan)
        return plan


def is_cached(recipe: Recipe) -> bool:
    """Return whether the plan of a recipe is cached on this machine."""
    try:
        with cache_folder() as folder:
            return _work(recipe) > _CHEAP and _path(folder, recipe).exists()
    except OSError:  # plans are not shared here
        return False


def _path(folder: Path, recipe: Recipe) -> Path:
    """Return the file of a recipe."""
    return folder / f"{hashlib.sha256(f'{_FORMAT} {recipe}'.encode()).hexdigest()[:32]}.safetensors"


@contextmanager
def cache_folder() -> Iterator[Path]:
    """Open the folder of cached plans, which only this user can enter.

    Yields:
        A path through an open descriptor: it refers to the same folder even if others can rename entries of the
        temporary folder, as in a pod.

    Raises:
        OSError: the name is taken by another user's folder or by a link.
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
            raise PermissionError(f"{folder.parent}: others can rename its entries; set TMPDIR to another folder")
        else:
            yield folder
    finally:
        os.close(descriptor)


def _work(recipe: Recipe) -> int:
    """Estimate the work of building a plan, in subsequences times elements."""
    if recipe.constant:
        return 0
    if recipe.closed and recipe.sampling is None:
        return recipe.n * sum(comb(recipe.n, s) for s in evaluated_scales(recipe.n, recipe.scales)) // 50
    if recipe.sampling is None:
        return recipe.n * 2**recipe.n // 50 if recipe.stored else 0
    m, iterations, _ = recipe.sampling
    return recipe.n * m * iterations * (_ADJUSTED_WORK if recipe.kind == "adjusted" else 1)


def _save(path: Path, plan: Plan) -> None:
    """Write a plan, unless it is too large to keep.

    Raises:
        OSError: the file cannot be written, e.g. since the disk is full.
    """
    tensors = {name: tensor.contiguous() for name, tensor in plan.tensors().items()}
    tensors[_COUNT] = torch.tensor(len(tensors))
    if sum(tensor.nbytes for tensor in tensors.values()) > _KEPT_BYTES // 2:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary)
        temporary.replace(path)
    except SafetensorError as error:  # e.g. a full disk
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _tidy(path)


def _tidy(newest: Path) -> None:
    """Remove the oldest files beyond the limit, and those of killed processes; other processes may do the same."""
    files = []
    for file in newest.parent.iterdir():
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        if file.suffix == ".safetensors":
            files.append((status.st_mtime, status.st_size, file))
        elif file.suffix == ".tmp" and time.time() - status.st_mtime > _STALE_S:
            file.unlink(missing_ok=True)
    total = 0
    for _, size, file in sorted(files, reverse=True):
        total += size
        if total > _KEPT_BYTES and file != newest:
            file.unlink(missing_ok=True)  # processes that have it mapped keep it


def _load(path: Path, recipe: Recipe) -> Plan | None:
    """Read a plan; return None if its file is missing or incomplete."""
    try:
        tensors = load_file(path)
        path.touch()
        if int(tensors.pop(_COUNT)) != len(tensors):
            return None
        return plan_from_tensors(recipe, tensors)
    except (OSError, SafetensorError, KeyError, ValueError):  # not there yet, damaged, or another program's
        return None
