"""The calls in a pickle that make known values: containers, bytes, arrays, tensors. Any other call makes an `Inert`.

The table is the whole list. No name is looked up anywhere else, and the functions in it are this package's own.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from esv_ray.unpickling import arrays, tensors
from esv_ray.unpickling.inert import Global, Inert
from esv_ray.unpickling.limits import Budget, check_key

Builder = Callable[[tuple[object, ...], Budget], object]


class _UnknownContentError(Exception):
    """A container is made from an inert object, whose items nobody knows."""


def build(function: object, arguments: tuple[object, ...], budget: Budget, builders: Mapping[str, Builder]) -> object:
    """Return what a call makes: a known value, or an inert object.

    Args:
        function: what is called.
        arguments: its arguments.
        budget: of the file.
        builders: of known values, by name.

    Raises:
        ValueError: the arguments are not those of a known value.
    """
    if not isinstance(function, Global):
        return Inert("a call of no name", (function, *arguments))
    name = function.name.replace("numpy._core.", "numpy.core.").replace("__builtin__.", "builtins.")
    builder = builders.get(name)
    try:
        built = None if builder is None else builder(arguments, budget)
    except _UnknownContentError:
        built = None
    return Inert(function.name, arguments) if built is None else built


def set_state(target: object, state: object, budget: Budget) -> None:
    """Set what ``__setstate__`` would set: the numbers of an array; the attributes of an inert object.

    Other values have no state: attributes of containers and tensors are left out.

    Raises:
        ValueError: the state is not that of an array.
    """
    if isinstance(target, arrays.PickledType):
        target.set_order(state)
    elif isinstance(target, Inert):
        target.states.append(state)
    elif isinstance(target, np.ndarray):
        arrays.fill(target, state, budget)


def _items(arguments: tuple[object, ...], budget: Budget) -> list[object]:
    """Return the items of the only argument, a copy."""
    if not arguments:
        return []
    (values,) = arguments
    if isinstance(values, Inert):
        raise _UnknownContentError
    if not isinstance(values, list | tuple | set | frozenset | deque):
        raise ValueError("one with a container of something else than items")
    budget.spend(len(values))
    return list(values)


def _pairs(arguments: tuple[object, ...], budget: Budget) -> Iterable[tuple[object, object]]:
    if len(arguments) == 1 and isinstance(arguments[0], dict):
        budget.spend(len(arguments[0]))
        yield from arguments[0].items()
        return
    for pair in _items(arguments, budget):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError("one with a dictionary of something else than keys and values")
        yield check_key(pair[0]), pair[1]


def _ordered(arguments: tuple[object, ...], budget: Budget) -> object:
    return OrderedDict(_pairs(arguments, budget))


def _with_default(arguments: tuple[object, ...], budget: Budget) -> object:
    return defaultdict(None, _pairs(arguments[1:], budget))  # without its function


def _dictionary(arguments: tuple[object, ...], budget: Budget) -> object:
    return dict(_pairs(arguments, budget))


def _counts(arguments: tuple[object, ...], budget: Budget) -> object:
    counts: Counter[object] = Counter()
    for key, count in _pairs(arguments, budget):
        counts[key] = count  # type: ignore[assignment]  # any value, as in the pickle
    return counts


def _deque(arguments: tuple[object, ...], budget: Budget) -> object:
    return deque(_items(arguments[:1], budget))


def _list(arguments: tuple[object, ...], budget: Budget) -> object:
    return _items(arguments, budget)


def _tuple(arguments: tuple[object, ...], budget: Budget) -> object:
    return tuple(_items(arguments, budget))


def _set(arguments: tuple[object, ...], budget: Budget) -> object:
    return set(map(check_key, _items(arguments, budget)))


def _frozenset(arguments: tuple[object, ...], budget: Budget) -> object:
    return frozenset(map(check_key, _items(arguments, budget)))


def _bytes(arguments: tuple[object, ...], budget: Budget) -> object:
    """``bytes()``, ``_codecs.encode(text, "latin1")``: bytes in the protocols before 3."""
    if arguments and isinstance(arguments[0], bytes | bytearray):
        budget.spend(len(arguments[0]))
        return bytes(arguments[0])
    if not arguments or not isinstance(arguments[0], str):
        return b"" if not arguments else None
    if tuple(arguments[1:]) not in (("latin1",), ("latin-1",)):
        return None
    budget.spend(len(arguments[0]))
    return arguments[0].encode("latin-1")


def _byte_array(arguments: tuple[object, ...], budget: Budget) -> object:
    made = _bytes(arguments, budget)
    return None if made is None else bytearray(made)  # type: ignore[call-overload]  # bytes


def _complex(arguments: tuple[object, ...], budget: Budget) -> object:
    if len(arguments) == 2 and all(isinstance(part, float | int) for part in arguments):
        return complex(*arguments)  # type: ignore[call-overload]  # two numbers
    return None


BUILDERS: dict[str, Builder] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _with_default,
    "collections.Counter": _counts,
    "collections.deque": _deque,
    "builtins.dict": _dictionary,
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.set": _set,
    "builtins.frozenset": _frozenset,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _byte_array,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "torch.Size": _tuple,
    **arrays.BUILDERS,
    **tensors.BUILDERS,
}
"""By name, as ``module.name`` of Python 3 and of NumPy 1."""
