"""Find plain numbers of a checkpoint whose names suggest that they change F, such as a temperature."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from esv_ray.models.sources.checkpoint_names import is_training_state
from esv_ray.unpickling import Inert

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OF_F = re.compile(
    r"temperatures?|temp|tau|scale|scaling|gain|multiplier|bias|biases|offset|shift|mean|std|weight|calibration|"
    r"adjustment|priors?"
)
# Names of training options, or of image preprocessing.
_NOT_OF_F = re.compile(
    r"amp|aug|augment|augmentation|backoff|class|clip|crop|decay|dir|dropout|epochs?|flow|frames?|grad|growth|images?|"
    r"img|init|input|jitter|loss|lr|momentum|norm|optim|optimizer|pixel|range|rate|rgb|scheduler?|seed|size|steps?|"
    r"time|warmup"
)
_MOST_DEPTH = 8
_MOST_SHOWN = 10**15


def numbers_that_may_change_f(content: Mapping[object, object]) -> Iterator[str]:
    """Yield the names and values of numbers, and lists and arrays of numbers, that may change F.

    They are in nested dictionaries, or attributes of inert objects.

    Training state (of an optimizer, of a loss scale) is skipped.
    """
    waiting: deque[tuple[list[str], object]] = deque([([], content)])
    visited = set()
    while waiting:
        path, entry = waiting.popleft()
        shown = _shown(entry) if path and may_change_f(path[-1]) else None
        if shown is not None:
            yield f"{'.'.join(path)} ({shown})"
        elif isinstance(entry, Mapping | Inert) and id(entry) not in visited and len(path) < _MOST_DEPTH:
            visited.add(id(entry))
            items = [(str(key), value) for key, value in _pairs(entry)]
            if "growth_factor" not in dict(items):  # of a loss scale
                waiting += [([*path, key], value) for key, value in items if not is_training_state(key)]


def _pairs(entry: Mapping[object, object] | Inert) -> Iterable[tuple[object, object]]:
    return entry.contents() if isinstance(entry, Inert) else entry.items()


def may_change_f(key: str) -> bool:
    """Return whether a name suggests a number that changes F."""
    words = [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
    return any(map(_OF_F.fullmatch, words)) and not any(map(_NOT_OF_F.fullmatch, words))


def _shown(value: object) -> str | None:
    """Format a number, or the length of a list of numbers; return None for other values."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        numeric = value.dtype.kind in "fiu" and value.size
        return f"{value.size} number{'' if value.size == 1 else 's'}" if numeric else None
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < _MOST_SHOWN else "a large number"
    count = _count(value)
    return None if count is None else f"{count} number{'' if count == 1 else 's'}"


def _count(value: object, depth: int = 0) -> int | None:
    """Count the numbers in a list, or in a list of lists; return None if it holds anything else."""
    if not isinstance(value, list | tuple) or not value or depth > 1:
        return None
    counts = [
        1 if isinstance(item, int | float) and not isinstance(item, bool) else _count(item, depth + 1) for item in value
    ]
    valid = [count for count in counts if count is not None]
    return sum(valid) if len(valid) == len(counts) else None
