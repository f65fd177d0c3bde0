"""Objects in the place of names and of the objects that a pickle would make with them."""

from __future__ import annotations

from collections.abc import Iterator


class Inert:
    """An object that a pickle makes by a call, in the place of which nothing is called.

    Attributes:
        name: the class or function, as ``module.name``; of a copyreg extension its code.
        arguments: of the call.
        states: what ``__setstate__`` would be given, or attributes.
        items: keys and values that would be set in it.
        elements: what would be appended or added to it.
    """

    def __init__(self, name: str, arguments: tuple[object, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.states: list[object] = []
        self.items: list[tuple[object, object]] = []
        self.elements: list[object] = []

    def __repr__(self) -> str:
        return f"<{self.name!r:.100}, inert>"

    def contents(self) -> Iterator[tuple[str, object]]:
        """Yield everything that the object was given, with the names of attributes and keys where there are some."""
        for index, value in enumerate((*self.arguments, *self.elements)):
            yield str(index), value
        yield from ((str(key) if isinstance(key, str | int) else "", value) for key, value in self.items)
        # The state of an object with slots is a pair: attributes of its dictionary, and of its slots.
        states = [part for state in self.states for part in (state if isinstance(state, tuple) else (state,))]
        for index, state in enumerate(states):
            if isinstance(state, dict):
                yield from ((str(key) if isinstance(key, str | int) else "", value) for key, value in state.items())
            else:
                yield str(index), state


class Global(Inert):
    """A name in a pickle: a class or a function. It is not looked up anywhere but among the known values."""
