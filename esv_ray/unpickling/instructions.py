"""The instructions of pickles, protocols 0 to 5.

An interpreter of its own: the set of instructions is closed, so nothing of the standard unpickler that imports, calls
or sets attributes can be reached. A name becomes a `Global`; what would call one goes through `builders.build`, which
makes known values and inert objects.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable

from esv_ray.unpickling.builders import set_state
from esv_ray.unpickling.inert import Global
from esv_ray.unpickling.limits import Budget, check_key
from esv_ray.unpickling.machine import Build, Machine, PersistentLoad

_HIGHEST_PROTOCOL = 5
codecs.lookup("raw-unicode-escape")  # Python imports it at its first use: nothing is imported while a file is read


def read_pickle(
    data: bytes, start: int, persistent: PersistentLoad, budget: Budget, build: Build
) -> tuple[object, int]:
    """Read one pickle.

    Args:
        data: the file.
        start: position of the pickle in it.
        persistent: returns the object of a persistent id.
        budget: of the file.
        build: returns what calls make.

    Returns:
        The object, and the position after the pickle.

    Raises:
        EOFError: it is cut short.
        ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error: it is damaged.
    """
    machine = Machine(data, start, persistent, budget, build)
    while True:
        code = machine.take(1)
        if code == b".":
            return machine.stack.pop(), machine.position
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            raise ValueError(f"one that is damaged: byte {machine.position - 1} is no instruction of a pickle")
        instruction(machine)


def _protocol(machine: Machine) -> None:
    protocol = machine.number(1)
    if protocol > _HIGHEST_PROTOCOL:
        raise ValueError(f"one of pickle protocol {protocol}, which is not known")


def _frame(machine: Machine) -> None:
    machine.take(8)  # its length, which only helps to read ahead


def _pop_to_mark(machine: Machine) -> None:
    machine.marked()


def _collect(make: Callable[[list[object]], object]) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        items = machine.marked()
        machine.stack.append(make(items))

    return push


def _frozen(items: list[object]) -> frozenset[object]:
    return frozenset(map(check_key, items))


def _mark(machine: Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.marked()


def _integer(machine: Machine) -> None:
    line = machine.line()
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _string(machine: Machine) -> None:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise ValueError("one with a string without quotation marks")
    machine.old_text(codecs.escape_decode(line[1:-1])[0])  # as pickle does


def _persistent_line(machine: Machine) -> None:
    machine.stack.append(machine.persistent(machine.line().decode("ascii")))


def _persistent(machine: Machine) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _global(machine: Machine) -> None:
    module = machine.line().decode()
    machine.name(module, machine.line().decode())


def _stack_global(machine: Machine) -> None:
    name = machine.stack.pop()
    machine.name(machine.stack.pop(), name)


def _instance(machine: Machine) -> None:
    _global(machine)
    function = machine.stack.pop()
    machine.call(function, tuple(machine.marked()))


def _object(machine: Machine) -> None:
    function, *arguments = machine.marked()
    machine.call(function, tuple(arguments))


def _reduce(machine: Machine) -> None:
    arguments = machine.stack.pop()
    machine.call(machine.stack.pop(), arguments)


def _new_with_keywords(machine: Machine) -> None:
    keywords, arguments = machine.stack.pop(), machine.stack.pop()
    function = machine.stack.pop()
    given = tuple(arguments) if isinstance(arguments, tuple) else (arguments,)
    machine.call(function, (*given, keywords) if keywords else given)


def _extension(size: int) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        machine.stack.append(Global(f"copyreg extension {machine.number(size)}"))

    return push


def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    set_state(machine.stack[-1], state, machine.budget)


def _dictionary(machine: Machine) -> None:
    items = machine.marked()
    machine.stack.append({})
    machine.set_items(items)


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _tuple(count: int) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return push


def _out_of_band(machine: Machine) -> None:
    raise ValueError("one whose numbers are in another place (buffers of pickle protocol 5)")


def _push(value: object) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


_INSTRUCTIONS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"(": _mark,
    b"0": _pop,
    b"1": _pop_to_mark,
    b"2": lambda machine: machine.stack.append(machine.stack[-1]),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"I": _integer,
    b"L": lambda machine: machine.stack.append(int(machine.line().removesuffix(b"L"))),
    b"J": lambda machine: machine.stack.append(machine.number(4, signed=True)),
    b"K": lambda machine: machine.stack.append(machine.number(1)),
    b"M": lambda machine: machine.stack.append(machine.number(2)),
    b"\x8a": lambda machine: machine.stack.append(machine.number(machine.number(1), signed=True)),
    b"\x8b": lambda machine: machine.stack.append(machine.number(machine.number(4, signed=True), signed=True)),
    b"F": lambda machine: machine.stack.append(float(machine.line())),
    b"G": lambda machine: machine.stack.append(struct.unpack(">d", machine.take(8))[0]),
    b"S": _string,
    b"T": lambda machine: machine.old_text(machine.take(machine.number(4, signed=True))),
    b"U": lambda machine: machine.old_text(machine.take(machine.number(1))),
    b"V": lambda machine: machine.stack.append(machine.line().decode("raw-unicode-escape")),
    b"X": lambda machine: machine.text(4),
    b"\x8c": lambda machine: machine.text(1),
    b"\x8d": lambda machine: machine.text(8),
    b"B": lambda machine: machine.stack.append(machine.take(machine.number(4))),
    b"C": lambda machine: machine.stack.append(machine.take(machine.number(1))),
    b"\x8e": lambda machine: machine.stack.append(machine.take(machine.number(8))),
    b"\x96": lambda machine: machine.stack.append(bytearray(machine.take(machine.number(8)))),
    b"\x97": _out_of_band,
    b"\x98": _out_of_band,
    b"P": _persistent_line,
    b"Q": _persistent,
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _instance,
    b"o": _object,
    b"R": _reduce,
    b"\x81": _reduce,
    b"\x92": _new_with_keywords,
    b"\x82": _extension(1),
    b"\x83": _extension(2),
    b"\x84": _extension(4),
    b"b": _build,
    b")": _push(()),
    b"t": _collect(tuple),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"]": lambda machine: machine.stack.append([]),
    b"l": _collect(list),
    b"a": lambda machine: machine.extend([machine.stack.pop()]),
    b"e": lambda machine: machine.extend(machine.marked()),
    b"}": lambda machine: machine.stack.append({}),
    b"d": _dictionary,
    b"s": _set_item,
    b"u": lambda machine: machine.set_items(machine.marked()),
    b"\x8f": lambda machine: machine.stack.append(set()),
    b"\x90": lambda machine: machine.add(machine.marked()),
    b"\x91": _collect(_frozen),
    b"p": lambda machine: machine.remember(int(machine.line())),
    b"q": lambda machine: machine.remember(machine.number(1)),
    b"r": lambda machine: machine.remember(machine.number(4)),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"g": lambda machine: machine.recall(int(machine.line())),
    b"h": lambda machine: machine.recall(machine.number(1)),
    b"j": lambda machine: machine.recall(machine.number(4)),
}
