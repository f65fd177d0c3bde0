"""The state of reading one pickle: its bytes, stack and memo, and what instructions do with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from esv_ray.unpickling.inert import Global, Inert
from esv_ray.unpickling.limits import Budget, check_key

PersistentLoad = Callable[[object], object]
"""Returns the object of a persistent id."""
Build = Callable[[object, tuple[object, ...], Budget], object]
"""Returns what a call makes, from what is called, its arguments and the budget."""


class Machine:
    """The state of reading one pickle."""

    def __init__(self, data: bytes, start: int, persistent: PersistentLoad, budget: Budget, build: Build) -> None:
        self.data = data
        self.position = start
        self.persistent = persistent
        self.budget = budget
        self.build = build
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def take(self, count: int) -> bytes:
        """Read bytes."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise EOFError
        self.position, start = end, self.position
        return self.data[start:end]

    def line(self) -> bytes:
        """Read up to the end of a line."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise EOFError
        self.position, start = end + 1, self.position
        return self.data[start:end]

    def number(self, size: int, *, signed: bool = False) -> int:
        """Read an integer."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def text(self, size: int) -> None:
        """Push a text whose length takes some bytes."""
        self.stack.append(self.take(self.number(size)).decode("utf-8", "surrogatepass"))

    def old_text(self, raw: bytes) -> None:
        """Push a string of Python 2: a text if it is ASCII, else its bytes."""
        self.stack.append(raw.decode("ascii") if raw.isascii() else raw)

    def name(self, module: object, name: object) -> None:
        """Push a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("one with a name that is no text")
        self.stack.append(Global(f"{module}.{name}"))

    def marked(self) -> list[object]:
        """Pop what was pushed since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def call(self, function: object, arguments: object) -> None:
        """Push what a call would make."""
        given = tuple(arguments) if isinstance(arguments, tuple) else (arguments,)
        self.stack.append(self.build(function, given, self.budget))

    def extend(self, items: list[object]) -> None:
        """Append items to the list on the stack."""
        target = self.stack[-1]
        if isinstance(target, list | deque):
            target.extend(items)
        elif isinstance(target, Inert):
            target.elements.extend(items)
        else:
            raise ValueError("one that appends to something else than a list")

    def add(self, items: list[object]) -> None:
        """Add items to the set on the stack."""
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(check_key, items))
        elif isinstance(target, Inert):
            target.elements.extend(items)
        else:
            raise ValueError("one that adds to something else than a set")

    def set_items(self, items: list[object]) -> None:
        """Set keys, which alternate with their values, in the dictionary on the stack."""
        target = self.stack[-1]
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, dict):
            for key, value in pairs:
                target[check_key(key)] = value
        elif isinstance(target, Inert):
            target.items.extend(pairs)
        else:
            raise ValueError("one that sets keys of something else than a dictionary")

    def remember(self, index: int) -> None:
        """Keep the value on the stack."""
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Push a value that was kept."""
        self.stack.append(self.memo[index])
