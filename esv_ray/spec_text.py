"""The text of specs: YAML files, `key=value` overrides, and error messages of one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.spec_yaml import DEEPEST, MOST_BYTES, read_plain, read_value

# Python refuses to print numbers of thousands of digits, or is slow to read them.
_MOST_BITS = 63


def read_yaml(url: str) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        SpecError: the file is not a YAML mapping.
        DataError: the file cannot be read.
    """
    data = storage.read_bytes(url, "read the spec", most=MOST_BYTES)
    try:
        values = read_plain(data)
    except SpecError as error:
        raise SpecError(f"{url}: {error}") from None
    if not isinstance(values, dict):
        got = "nothing" if values is None else "a list" if isinstance(values, list) else repr(values)[:60]
        raise SpecError(f"{url}: expected `key: value` lines, got {got}")
    return values


def check_numbers(location: str, values: object, depth: int = 0) -> None:
    """Refuse whole numbers of more bits than any key can use.

    Raises:
        SpecError: there is such a number.
    """
    if isinstance(values, int) and values.bit_length() > _MOST_BITS:
        raise SpecError(f"{location}: expected numbers of at most {_MOST_BITS} bits, got one of {values.bit_length()}")
    if isinstance(values, Mapping | list | tuple) and depth < DEEPEST:
        for value in values.values() if isinstance(values, Mapping) else values:
            check_numbers(location, value, depth + 1)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``a.b=VALUE`` in nested mappings.

    Raises:
        SpecError: the override is malformed.
    """
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise SpecError(f"--set: expected key=value, e.g. estimator.m=256, got {override!r:.100}")
    try:
        value = read_value(text)
    except SpecError as error:
        raise SpecError(f"--set {key!r:.100}: {error}") from None
    inner = values
    for name in names[:-1]:
        if inner.get(name) is None:
            inner[name] = {}
        inner = inner[name]
        if not isinstance(inner, dict):
            raise SpecError(f"--set {key!r:.100}: {name!r:.100} is not a mapping, so it has no nested keys")
    inner[names[-1]] = value


def describe_error(kind: type[BaseModel], error: ErrorDetails) -> str:
    """Return a validation error in one line: where, expected, got, and the nearest valid key."""
    parts = [str(part) for part in error["loc"]]
    key = ".".join(parts)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r:.100}; {_hint(kind, parts)}"
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    if error["type"] == "invalid_key":
        return f"{'.'.join(parts[:-1]) or 'spec'}: expected keys that are text (string), got {parts[-1]:.60}"
    # After the key, pydantic's location names the branch of a union that was tried.
    while parts and parts[-1] not in _fields(kind, parts[:-1]):
        parts.pop()
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = message if "expected" in message or message.startswith("a class id") else f"expected {message}"
    got = "" if ", got " in expected else f", got {error['input']!r:.80}"
    return f"{'.'.join(parts)}: {expected}{got}" if parts else f"{expected}{got}"


def _hint(kind: type[BaseModel], parts: Sequence[str]) -> str:
    """Return what may be meant by an unknown key: one of this name elsewhere, or one nearby that is spelled alike."""
    *above, name = parts
    fields = _fields(kind, above)
    elsewhere = [key for key in _keys(kind) if key.split(".")[-1] == name]
    if elsewhere:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    return f"did you mean {'.'.join([*above, near[0]])!r}?" if near else f"valid keys: {', '.join(fields)}"


def _keys(kind: type[BaseModel]) -> list[str]:
    """Return all keys with a value, those of sections with the section's name."""
    return [
        ".".join([name, *inner])
        for name in kind.model_fields
        for inner in ([[field] for field in _fields(kind, [name])] or [[]])
    ]


def _fields(kind: type[BaseModel], names: Sequence[str]) -> list[str]:
    """Return the keys below a key."""
    for name in names:
        field = kind.model_fields.get(name)
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)
