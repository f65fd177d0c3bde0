"""Filters: which videos a request asks for, as a condition of the index."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from esv_ray.errors import SpecError

LARGEST = 2**31 - 1
"""Largest number of a parameter."""
_MOST_TEXT = 1000  # characters of a parameter
_MOST_PARTS = 8  # of a parameter
_OUTCOMES = {"right": "correct", "wrong": "NOT correct", "unlabeled": "label IS NULL"}
_STATUSES = {status: f"status = '{status}'" for status in ("ok", "skipped", "failed")}
_IDS = {
    "class": "(label = $class OR predicted = $class)",
    "explained": "class = $explained",
    "label": "label = $label",
    "predicted": "predicted = $predicted",
    "n": "n_elements = $n",
}
_MEASURES = {"score": "score", "evidential": "evidential", "misled": "misled", "distracted": "distracted"}
_COUNTS = {"supporting": "supporting", "misleading": "misleading", "frames": "n_frames"}
_ENDS = ("best", "worst")
FILTERS = ("q", *_IDS, "outcome", "status", "esvs", *_MEASURES, *_COUNTS, *_ENDS, "over")
"""Names of the parameters that choose videos."""

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class Filter:
    """A condition on videos.

    Attributes:
        where: SQL condition on the table `listed`.
        values: values of its parameters.
    """

    where: str
    values: Mapping[str, Any]


def filter_of(asked: Mapping[str, str]) -> Filter:
    """Return the filter that the parameters of a request ask for; other parameters are ignored.

    Args:
        asked: by name:

            - q: a part of the id;
            - label, predicted, explained (class explained), class (label or predicted class): an id;
            - n: number of elements;
            - outcome: right, wrong or unlabeled; status: ok, skipped or failed;
            - esvs: 1: only those whose ESVs of the class explained are kept;
            - score, evidential, misled, distracted, frames, supporting, misleading: a number, or a range of them:
              `0.2..0.5`, `0.2..`, `..0.5`;
            - best, worst: an element that has the largest or the smallest ESV, if need be with others; or a range of
              elements of which one has;
            - over: elements `i,j`: the ESV of i exceeds that of j.

            Those of the last three lines may have several parts with spaces between them, all of which hold.

    Raises:
        SpecError: a value is not one that the parameter may have.
    """
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name in FILTERS:
        text = asked.get(name, "")
        if not text:
            continue
        if len(text) > _MOST_TEXT:
            raise SpecError(f"{name}: expected at most {_MOST_TEXT} characters, got {len(text)}")
        conditions.append(_condition(name, text, values))
    return Filter(" AND ".join(conditions) or "true", values)


def number_of(name: str, text: str) -> int:
    """Return a parameter that is a number from 0 on.

    Raises:
        SpecError: it is not.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= LARGEST):
        raise SpecError(f"{name}: expected a number from 0 to {LARGEST}, got {text!r:.80}")
    return int(text)


def _condition(name: str, text: str, values: dict[str, Any]) -> str:
    """Return the condition of a parameter, and add the values of it.

    Raises:
        SpecError: the parameter has no such value.
    """
    if name == "q":
        values[name] = text
        return "contains(lower(video_id), lower($q))"
    if name in _IDS:
        values[name] = number_of(name, text)
        return _IDS[name]
    if name in ("outcome", "status", "esvs"):
        known = {"outcome": _OUTCOMES, "status": _STATUSES, "esvs": {"1": "esv IS NOT NULL"}}[name]
        if text not in known:
            raise SpecError(f"{name}: expected one of {', '.join(known)}, got {text!r:.80}")
        return known[text]
    parts = text.split()
    if not 0 < len(parts) <= _MOST_PARTS:
        raise SpecError(f"{name}: expected 1 to {_MOST_PARTS} parts with spaces between them, got {len(parts)}")
    return " AND ".join(_part(name, part, place, values) for place, part in enumerate(parts))


def _part(name: str, text: str, place: int, values: dict[str, Any]) -> str:
    """Return the condition of a part of a parameter, and add the values of it.

    Raises:
        SpecError: the parameter has no such part.
    """
    key = f"{name}{place}"
    if name in _MEASURES:
        return _within(_MEASURES[name], key, _range(name, text, _finite), values)
    if name in _COUNTS:
        return _within(_COUNTS[name], key, _range(name, text, number_of), values)
    if name in _ENDS:
        return _at_an_end(name, key, _range(name, text, number_of), values)
    return _in_order(name, key, text, values)


def _within(column: str, key: str, ends: Range, values: dict[str, Any]) -> str:
    conditions = []
    for end, sign, value in zip(("from", "to"), (">=", "<="), ends, strict=True):
        if value is not None:
            values[f"{key}_{end}"] = value
            conditions.append(f"{column} {sign} ${key}_{end}")
    return " AND ".join(conditions)


def _at_an_end(name: str, key: str, ends: Range, values: dict[str, Any]) -> str:
    """Return the condition that an element of a range has the largest or smallest ESV, if need be with others."""
    first, last = ends
    extreme = "list_max" if name == "best" else "list_min"
    values |= {f"{key}_from": int(first or 0) + 1, f"{key}_to": LARGEST if last is None else int(last) + 1}
    # The column is the first such element; it spares a search of all elements.
    if first == last:
        del values[f"{key}_to"]
        return f"esv[${key}_from] = esv[{name} + 1]"
    return f"{extreme}(esv[${key}_from:${key}_to]) = esv[{name} + 1]"


def _in_order(name: str, key: str, text: str, values: dict[str, Any]) -> str:
    pair = text.split(",")
    if len(pair) != 2:
        raise SpecError(f"{name}: expected two elements such as 0,3, got {text!r:.80}")
    values |= {f"{key}_{side}": number_of(name, each) + 1 for side, each in zip("ij", pair, strict=True)}
    return f"esv[${key}_i] > esv[${key}_j]"


def _range(name: str, text: str, number: Callable[[str, str], float]) -> Range:
    """Return the ends of a range; None where it has none.

    Raises:
        SpecError: the text is no range.
    """
    first, dots, last = text.partition("..")
    if not dots:
        value = number(name, first)
        return value, value
    if not first and not last:
        raise SpecError(f"{name}: expected a number or a range such as 1..5, 1.. or ..5, got {text!r:.80}")
    return (number(name, first) if first else None), (number(name, last) if last else None)


def _finite(name: str, text: str) -> float:
    try:
        value = float(text[:40])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"{name}: expected a finite number, or a range such as 0.2..0.5, got {text!r:.80}")
    return value
