"""YAML 1.2 with the core schema, without aliases and duplicate keys.

PyYAML parses the syntax but resolves values as in YAML 1.1, where ``yes`` is a boolean, 010 is 8, 1:30 is 90, and 1e3
is a string. Here a value has the same meaning in a file, in ``--set``, and in a spec that was sent to a cluster.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import yaml

from esv_ray.errors import SpecError, short_text

# Specs are short. Aliases and deep nesting can expand a small file, so they are refused.
MOST_BYTES = 100_000
DEEPEST = 20
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, OverflowError)

_INVALID = "not valid YAML"
_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL)?$")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_LINE_ENDS = "\0\r\n\x85\u2028\u2029"
# Strings that a reader of YAML 1.1 or 1.2, or kubectl's, could read as another type.
_UNCLEAR = re.compile(
    r"[-+.]?[0-9].*|[-+]?\.(?:inf|nan)|true|false|yes|no|on|off|y|n|null|~|=|<<|", re.IGNORECASE | re.DOTALL
)


class _Loader(yaml.SafeLoader):
    """A loader of the core schema, without PyYAML's own tags. Tabs separate, as in YAML 1.2, but never indent."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's is none
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def scan_to_next_token(self) -> None:
        """Skip separators between tokens.

        A tab before a key would indent it; PyYAML refuses it (so does libyaml).
        """
        while True:
            super().scan_to_next_token()
            length = self._blanks()
            separates = self.flow_level or not self.allow_simple_key or self.peek(length) in f"#{_LINE_ENDS}"
            if not length or not separates:
                return
            self.forward(length)

    def scan_plain_spaces(self, indent: int, start_mark: yaml.Mark) -> list[str]:
        """Read blanks within a plain scalar."""
        length = self._blanks()
        blanks = str(self.prefix(length))
        if "\t" in blanks and self.peek(length) not in f"#{_LINE_ENDS}":
            self.forward(length)
            return [blanks]
        return list(super().scan_plain_spaces(indent, start_mark) or ())

    def _blanks(self) -> int:
        length = 0
        while self.peek(length) in " \t":
            length += 1
        return length


def _null(loader: _Loader, node: yaml.ScalarNode) -> None:
    _text_of(loader, node, _NULL, "null")


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _text_of(loader, node, _BOOL, "true or false").lower() == "true"


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = _text_of(loader, node, _INT, "a whole number")
    return int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = _text_of(loader, node, _FLOAT, "a number")
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _text_of(loader: _Loader, node: yaml.ScalarNode, form: re.Pattern[str], expected: str) -> str:
    """Return the text of a scalar; with an explicit tag (``!!int x``) it may be any text."""
    text = str(loader.construct_scalar(node))
    if not form.match(text):
        raise SpecError(f"line {_line(node)}: expected {expected} after {_short(node.tag)}, got {text!r:.60}")
    return text


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    nodes: dict[str, yaml.Node] = {}
    values: dict[str, Any] = {}
    if not isinstance(node, yaml.MappingNode):
        raise SpecError(f"line {_line(node)}: expected keys and values after {_short(node.tag)}")
    for key_node, value_node in node.value:
        key = _key(loader, key_node)
        if key in nodes:
            raise SpecError(f"the key {key!r:.100} is given twice, in {_places(nodes[key], key_node)}; remove one")
        nodes[key] = key_node
        values[key] = loader.construct_object(value_node, deep=True)
    return values


def _key(loader: _Loader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
        got = repr(node.value)[:60] if isinstance(node, yaml.ScalarNode) else "a list or keys"
        raise SpecError(f"line {_line(node)}: expected a key that is text in `key: value`, got {got}")
    if node.value == "<<" and node.style is None:
        raise SpecError(f"line {_line(node)}: YAML 1.2 has no merge keys (<<); write the keys out")
    return str(loader.construct_scalar(node))


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


def _undefined(loader: _Loader, node: yaml.Node) -> None:
    raise SpecError(
        f"line {_line(node)}: expected a plain value, got one tagged {_short(node.tag):.60}; remove the tag"
    )


def _string(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


for _name, _form, _first, _construct in (
    ("null", _NULL, ["~", "n", "N", ""], _null),
    ("bool", _BOOL, list("tTfF"), _bool),
    ("int", _INT, list("-+0123456789"), _int),
    ("float", _FLOAT, list("-+.0123456789"), _float),
):
    _Loader.add_implicit_resolver(_TAG + _name, _form, _first)
    _Loader.add_constructor(_TAG + _name, _construct)
_Loader.add_constructor(_TAG + "str", _string)
_Loader.add_constructor(_TAG + "seq", _sequence)
_Loader.add_constructor(_TAG + "map", _mapping)
_Loader.add_constructor(None, _undefined)


def read_plain(data: bytes | str) -> Any:
    """Read a YAML value without aliases, deep nesting and duplicate keys.

    Raises:
        SpecError: it is not such a value; the message does not name its source.
    """
    if len(data) > MOST_BYTES:
        raise SpecError(f"expected at most {MOST_BYTES} bytes, got {len(data)}; check that this is a spec")
    try:
        if "\x85" in (data.decode("utf-8", "ignore") if isinstance(data, bytes) else data):
            raise SpecError("it contains the character U+0085, which YAML 1.1 treats as a line break; remove it")
        _check_events(data)
        return yaml.load(data, Loader=_Loader)  # noqa: S506  # a safe loader, of fewer tags
    except _NOT_YAML as error:
        raise SpecError(f"{_INVALID}: {_why(error)}") from None


def _why(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is not None and "'\\t'" in str(error):
        return f"line {mark.line + 1}, column {mark.column + 1}: expected a space, got a tab; replace it by spaces"
    return short_text(error, 200)


def read_value(text: str) -> Any:
    """Read the value of an option as `read_plain` does; an empty text and a comment are refused.

    Raises:
        SpecError: it is not such a value.
    """
    if not text.strip():
        raise SpecError("expected a value after =, got none; a variable in it may be empty; write null for no value")
    try:
        value = read_plain(text)
    except SpecError as error:
        hint = "; put a text with such characters in quotes" if str(error).startswith(_INVALID) else ""
        raise SpecError(f"{error}{hint}") from None
    node = yaml.compose(text, Loader=_Loader) if "#" in text else None
    outside = text if node is None else text[: node.start_mark.index] + text[node.end_mark.index :]
    if "#" in outside:
        raise SpecError("expected a value alone, got a comment (#) beside it; put a text with # in quotes")
    return value


def _check_events(data: bytes | str) -> None:
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 2)):
            raise SpecError("expected YAML 1.2, got a %YAML line of another version; remove that line")
        if isinstance(event, yaml.AliasEvent):
            raise SpecError("a spec has no YAML aliases (*name); write the value out, or put a text with * in quotes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise SpecError(f"a spec is nested at most {DEEPEST} levels deep")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _places(first: yaml.Node, second: yaml.Node) -> str:
    if _line(first) != _line(second):
        return f"lines {_line(first)} and {_line(second)}"
    return f"line {_line(first)}, columns {first.start_mark.column + 1} and {second.start_mark.column + 1}"


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


class Dumper(yaml.SafeDumper):
    """A dumper that quotes strings which another reader of YAML could read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True, so that no alias is written."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _UNCLEAR.fullmatch(text) else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


Dumper.add_representer(str, _represent_text)


def write_plain(value: object) -> str:
    """Return a value as YAML that `read_plain`, and any other reader, reads as the same value."""
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False))


def write_value(value: object) -> str:
    """Return a value as YAML of one line, which `read_value` reads as the same value."""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else write_text(value)


def write_text(text: str) -> str:
    """Return a string as a YAML value of one line, whatever characters it has."""
    return str(yaml.dump(text, Dumper=yaml.SafeDumper, default_style='"', width=float("inf"))).strip()
