"""Consent to run code: the packages that a user names, and the mark of factory functions.

A model bundle is data, and may come from anyone. A module that it names is imported only if the user named the package,
and a function is called only if its author marked it. This module imports neither torch nor Ray: the modules of users
import it for `esv_ray.factory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, TypeGuard, TypeVar

_MARK = "__esv_ray_factory__"
_LONGEST = 200  # characters of a dotted name
_Function = TypeVar("_Function", bound=Callable[..., Any])


def factory(function: _Function) -> _Function:
    """Mark a function as a factory, which bundles of kind `python` may name.

    This must be the outermost decorator. A bundle chooses the keyword arguments, so give a factory no argument that
    could do harm.

    Args:
        function: a plain function that returns a mapping {s: module (N, s, D) -> (N, C)} or one module of any length.

    Returns:
        The same function.

    Raises:
        ValueError: it is not a plain function but, e.g., a class, a method or another callable.
    """
    if not isinstance(function, FunctionType):
        raise ValueError(f"esv_ray.factory marks a plain function (def), got {type(function).__name__}")
    function.__dict__[_MARK] = True
    return function


def is_factory(value: object) -> TypeGuard[FunctionType]:
    """Return whether a value is a function decorated with @esv_ray.factory."""
    return type(value) is FunctionType and value.__dict__.get(_MARK) is True


def check_packages(value: object) -> tuple[str, ...]:
    """Check the names of packages whose code may run.

    Args:
        value: dotted names of packages or modules; a single name is also accepted; None: no names.

    Returns:
        The names, each once, in order.

    Raises:
        ValueError: a name is not a dotted name.
    """
    names = [] if value is None else value if isinstance(value, list | tuple | set | frozenset) else [value]
    for name in names:
        if not isinstance(name, str) or not is_dotted(name):
            raise ValueError(f"expected names of Python packages such as my_models or company.models, got {name!r:.80}")
    return tuple(dict.fromkeys(names))


def is_dotted(name: str) -> bool:
    """Return whether a text is the name of a module: identifiers joined by dots."""
    return len(name) <= _LONGEST and all(part.isidentifier() for part in name.split("."))


def covers(packages: Sequence[str], module: str) -> bool:
    """Return whether a module is one of the packages or below one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)
