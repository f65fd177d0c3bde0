"""Find the sizes D and C of a module by running it, if they are not stated.

The sizes of a module's tensors are tried as D. A module multiplies its features by weights, so it runs with one of them
only; if it runs with several, the user has to say which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from esv_ray.core.games.pooled import OwnPooling
from esv_ray.errors import ModelError
from esv_ray.models.class_tables import few
from esv_ray.models.fixed_length import FixedLength
from esv_ray.models.module_weights import Modules
from esv_ray.models.probe import any_length, takes_images
from esv_ray.models.user_code import user_code

_LENGTHS = (1, 2)  # tried with a module of any length
_FIXED = (8, 16, 4, 32, 3, 5, 6, 7, 10, 12, 20, 24, 25, 30, 64)  # then tried, the usual ones first
_LONGEST_FIXED = 1024  # of other lengths that sizes of its tensors suggest
_MOST_FIXED = 16  # sizes that are tried at fixed lengths
_MOST_NUMBERS = 2**24  # of a sequence
_ROWS = 2
_MOST_TRIED = 64  # sizes
_LARGEST = 2**20  # size that is tried
_NEVER_OF_SIZES = (SystemExit, ImportError, NameError, AttributeError, NotImplementedError, OSError)


class _OtherCauseError(ModelError):
    """A module fails for a reason that another number of features does not mend."""


def feature_dim_of(modules: Modules) -> int:
    """Return D, the number of features that modules take: the only size of their tensors with which they run.

    A size of 1 is not tried, because it runs with any weights by broadcasting.

    Args:
        modules: one module of any length, or a mapping {s: module}; in eval mode.

    Raises:
        ModelError: they run with none of the sizes, or with several; or they return something else than logits (N, C).
    """
    sizes = list(dict.fromkeys(_sizes(modules)))[:_MOST_TRIED]
    fitting, faults, others = list[int](), dict[int, str](), list[_OtherCauseError]()
    for size in sizes:
        try:
            _n_classes(modules, size)
        except _OtherCauseError as error:
            others.append(error)
        except ModelError as error:
            faults[size] = str(error)
        else:
            fitting.append(size)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ModelError(f"--feature-dim: the module runs with {few(fitting)} features per element; say which")
    _check_any_length(modules, sizes)
    if others:  # it ran with that size, or never runs: --feature-dim is not the cause
        raise ModelError(str(others[0]))
    if not sizes:
        raise ModelError("--feature-dim: cannot find the number of features per element by running the module; give it")
    raise ModelError(
        f"{faults[sizes[0]]}; so it fails with each size of its tensors as the number of features ({few(sizes, 8)}); "
        f"--feature-dim gives another{_any_length(modules)}"
    )


def n_classes_of(modules: Modules, feature_dim: int) -> int:
    """Return C, the number of logits that modules return for features of a size.

    Raises:
        ModelError: a module fails, or does not return logits (N, C); or C depends on the length.
    """
    try:
        return _n_classes(modules, feature_dim)
    except ModelError as error:
        _check_any_length(modules, [feature_dim])
        other = isinstance(error, _OtherCauseError)
        raise ModelError(f"{error}{'' if other else _any_length(modules)}") from error


def _n_classes(modules: Modules, feature_dim: int) -> int:
    pairs = [*modules.items()] if isinstance(modules, Mapping) else [(s, modules) for s in _LENGTHS]
    found = {s: _columns(module, s, feature_dim) for s, module in pairs}
    if len(set(found.values())) != 1:
        raise _OtherCauseError(f"factory: expected logits of as many classes at every length, got {found!r:.200}")
    return next(iter(found.values()))


def _check_any_length(modules: Modules, sizes: Sequence[int]) -> None:
    """Look for the length with which a module that fails at other ones runs.

    Args:
        modules: one module, or a mapping {s: module}, whose modules need no other length.
        sizes: numbers of features to try; several: also those of a module that takes all elements as one vector.

    Raises:
        ModelError: there is one; or the module takes features (N, D, s).
    """
    if isinstance(modules, Mapping | OwnPooling | FixedLength):
        return
    found = _fixed_length(modules, sizes)
    if found is None:
        return
    s, size = found
    if len(sizes) > 1 and _runs(modules, s, size + 1):
        raise ModelError(
            f"factory: expected a module of features (N, s, D), got one of (N, D, s) with D = {s}: transpose its input"
        )
    shapes = [f"{s} elements (of {size} features)"]
    shapes += [
        f"{t} (of {s * size // t})"
        for t in (2 * s, s // 2)
        if len(sizes) > 1 and t > 1 and not s * size % t and _runs(modules, t, s * size // t)
    ]
    length = s if len(shapes) == 1 else "LENGTH"
    raise ModelError(
        f"factory: expected a module of any length, but it runs only on {', '.join(shapes)}"
        f"{'' if len(shapes) == 1 else ', ...'}; return esv_ray.fixed_length(module, {length})"
    )


def _any_length(modules: Modules) -> str:
    return "" if isinstance(modules, FixedLength) else any_length(modules)


def _fixed_length(module: nn.Module, sizes: Sequence[int]) -> tuple[int, int] | None:
    """Return a length and a size of features with which a module runs, though not with one element more or less."""
    lengths = dict.fromkeys((*_FIXED, *(size for size in sizes if size <= _LONGEST_FIXED), *range(9, 64)))
    lengths |= dict.fromkeys(size for size in _sizes(module) if size <= _LONGEST_FIXED)
    for s in lengths:
        shares = [size // s for size in sizes if len(sizes) > 1 and size > s and not size % s]
        for size in [*sizes[:_MOST_FIXED], *shares[:_MOST_FIXED]]:
            if s * size > _MOST_NUMBERS or not _runs(module, s, size):
                continue
            if not _runs(module, s + 1, size) and not _runs(module, s - 1, size):
                return s, size
    return None


def _runs(module: nn.Module, s: int, feature_dim: int) -> bool:
    try:
        _columns(module, s, feature_dim)
    except ModelError:
        return False
    return True


@torch.no_grad()
def _columns(module: nn.Module, s: int, feature_dim: int) -> int:
    features = torch.zeros(_ROWS, s, feature_dim, dtype=element_dtype_of(module))
    try:
        with user_code(f"factory: the module of scale {s} fails on features {tuple(features.shape)}"):
            out = module(features)
    except ModelError as error:
        if isinstance(error.__cause__, _NEVER_OF_SIZES):
            raise _OtherCauseError(str(error)) from error
        raise
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != _ROWS or not out.shape[1]:
        raise _OtherCauseError(
            f"factory: expected logits (N, C) for features (N, {s}, {feature_dim}), got {_got(out)} for N = {_ROWS}"
            f"{_mend(out)}"
        )
    return out.shape[1]


def _got(out: object) -> str:
    return str(tuple(out.shape)) if isinstance(out, Tensor) else type(out).__name__


def _mend(out: object) -> str:
    """Return the end of the error about an output that is no logits: what to do."""
    if isinstance(out, Mapping):
        return f"; return the logits alone, of its keys {few([str(key) for key in out], 5)}"
    if isinstance(out, list | tuple):
        parts = [_got(part) for part in out]
        return f"; return the logits alone, one of {few(parts, 5)}"
    if isinstance(out, Tensor) and out.ndim == 3 and out.shape[0] == 1:
        return "; the batch comes first: remove the axis of size 1"
    if isinstance(out, Tensor) and out.ndim == 3:
        return "; return the logits of the sequence, not those of each element"
    return ""


def _sizes(modules: Modules) -> Iterator[int]:
    """Yield the sizes of the modules' tensors, first layers first; those of a head of scale s divided by s."""
    length = modules.length if isinstance(modules, FixedLength) else 1
    for s, module in modules.items() if isinstance(modules, Mapping) else [(length, modules)]:
        for tensor in chain(module.parameters(), module.buffers()):
            for size in reversed(() if is_lazy(tensor) else tensor.shape):  # a linear layer's weight is (out, in)
                for features in {size, size // s} if size % s == 0 else {size}:
                    if 1 < features <= _LARGEST:
                        yield features


def element_dtype_of(module: nn.Module) -> torch.dtype:
    """Return the type of the elements that a module takes: that of its weights, or bytes of images."""
    return torch.uint8 if takes_images(module) else dtype_of(module)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the floating-point type of a module's weights; float32 if there are none."""
    return next((p.dtype for p in chain(module.parameters(), module.buffers()) if p.is_floating_point()), torch.float32)
