"""Manifests in YAML as kubectl reads it: version 1.1 with Go's syntax of numbers, without dates and base 60.

PyYAML alone would read the argument 12:30 as 750, rewrite a time in another form, and write the text "12e5678" (for
example an abbreviated commit) without quotes, so that kubectl would read a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from esv_ray.errors import SpecError, one_line
from esv_ray.spec_yaml import Dumper

_TAG = "tag:yaml.org,2002:"
_BOOL = re.compile(r"(?:y|yes|n|no|true|false|on|off|Y|Yes|YES|N|No|NO|True|TRUE|False|FALSE|On|ON|Off|OFF)$")
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class _Loader(yaml.SafeLoader):
    """A YAML loader with the plain scalars of kubectl's parser."""


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdecimal():
        digits = f"0o{digits[1:]}"
    return int(digits, 0) * (-1 if text.startswith("-") else 1)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    text = str(loader.construct_scalar(node))
    number = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text if math.isinf(number) and "inf" not in text.lower() else number  # in Go, a number too large is a text


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag in (_TAG + "null", _TAG + "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _form, _first, _construct in (
    ("bool", _BOOL, list("yYnNtTfFoO"), _bool),
    ("int", _INT, list("-+0123456789"), _int),
    ("float", _FLOAT, list("-+.0123456789"), _float),
):
    _Loader.add_implicit_resolver(_TAG + _name, _form, _first)
    _Loader.add_constructor(_TAG + _name, _construct)


def read_objects(text: str, location: str) -> list[Any]:
    """Read the YAML documents of a text; leave out empty ones.

    Args:
        text: YAML.
        location: origin of the text, for the error.

    Raises:
        SpecError: it is not valid YAML.
    """
    try:
        return [document for document in yaml.load_all(text, Loader=_Loader) if document]  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{location}: not valid YAML: {one_line(error)}") from None


def as_yaml(objects: Sequence[object]) -> str:
    """Return objects as plain YAML, as kubectl reads it."""
    return str(yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, explicit_start=True, width=120))
