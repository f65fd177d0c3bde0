"""A spec's text: plain YAML in, `key=value` overrides, and what is wrong with it in one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from esv_ray import storage
from esv_ray.errors import SpecError

# A spec is a page of text. YAML aliases and deep nesting could blow a small file up, so those are refused too; and
# Python refuses to print, or takes long to read, numbers of thousands of digits.
_MOST_BYTES = 100_000
_DEEPEST = 20
_MOST_BITS = 63
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, OverflowError)


def read_yaml(url: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecError: it is no plain YAML mapping.
        DataError: it cannot be read.
    """
    data = storage.read_bytes(url, "read the spec", most=_MOST_BYTES)
    try:
        values = _plain_yaml(data)
    except _NOT_YAML as error:
        raise SpecError(f"{url}: not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SpecError(f"{url}: expected `key: value` lines, got {type(values).__name__}")
    return values


def _plain_yaml(data: bytes | str) -> Any:
    """A YAML value without aliases, not nested deeply; `_NOT_YAML` otherwise."""
    if len(data) > _MOST_BYTES:
        raise ValueError(f"a spec is a page of text, got {len(data)} bytes")
    depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("a spec has no YAML aliases (*name); write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"a spec is nested at most {_DEEPEST} levels deep")
    return yaml.safe_load(data)


def check_numbers(where: str, values: object, depth: int = 0) -> None:
    """Refuse whole numbers that nothing can be asked with.

    Raises:
        SpecError: there is one.
    """
    if isinstance(values, int) and values.bit_length() > _MOST_BITS:
        raise SpecError(f"{where}: expected numbers of at most {_MOST_BITS} bits, got one of {values.bit_length()}")
    if isinstance(values, Mapping | list | tuple) and depth < _DEEPEST:
        for value in values.values() if isinstance(values, Mapping) else values:
            check_numbers(where, value, depth + 1)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``a.b=VALUE`` in nested mappings.

    Raises:
        SpecError: it has no such form.
    """
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise SpecError(f"--set: expected key=value, e.g. estimator.m=256, got {override!r:.100}")
    try:
        value = _plain_yaml(text)
    except _NOT_YAML as error:
        raise SpecError(f"--set {key!r:.100}: not a YAML value: {' '.join(str(error).split())[:200]}") from None
    inner = values
    for name in names[:-1]:
        if inner.get(name) is None:
            inner[name] = {}
        inner = inner[name]
        if not isinstance(inner, dict):
            raise SpecError(f"--set {key!r:.100}: {name!r:.100} has no keys below it")
    inner[names[-1]] = value


def in_words(kind: type[BaseModel], error: ErrorDetails) -> str:
    """One validation error in one line: where, expected, got, and the nearest valid key."""
    parts = [str(part) for part in error["loc"]]
    where = ".".join(parts)
    if error["type"] == "extra_forbidden":
        *above, name = parts
        fields = _fields(kind, above)
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
        known = f"did you mean {'.'.join([*above, near[0]])!r}?" if near else f"valid keys: {', '.join(fields)}"
        return f"unknown key {where!r:.100}; {known}"
    if error["type"] == "missing":
        return f"key {where!r} is missing"
    # Beyond the key itself, the location names the branch of a union that was tried.
    while parts and parts[-1] not in _fields(kind, parts[:-1]):
        parts.pop()
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = message if "expected" in message or message.startswith("a class id") else f"expected {message}"
    got = "" if ", got " in expected else f", got {error['input']!r:.80}"
    return f"{'.'.join(parts)}: {expected}{got}" if parts else f"{expected}{got}"


def _fields(kind: type[BaseModel], names: Sequence[str]) -> list[str]:
    """The keys below a key; none where it has none."""
    for name in names:
        field = kind.model_fields.get(name)
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)
