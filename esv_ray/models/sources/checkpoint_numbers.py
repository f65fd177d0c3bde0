"""Plain numbers of a checkpoint that, by their names, may change F: a temperature beside the state dict."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping

from esv_ray.models.sources.checkpoint_names import is_of_training

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OF_F = re.compile(
    r"temperatures?|temp|tau|scale|scaling|gain|multiplier|bias|biases|offset|shift|mean|std|weight|calibration|"
    r"adjustment|priors?"
)
# Of a training, or of pictures before there are features.
_NOT_OF_F = re.compile(
    r"amp|aug|augment|augmentation|backoff|class|clip|crop|decay|dir|dropout|epochs?|flow|frames?|grad|growth|images?|"
    r"img|init|input|jitter|loss|lr|momentum|norm|optim|optimizer|pixel|range|rate|rgb|scheduler?|seed|size|steps?|"
    r"time|warmup"
)
_MOST_DEPTH = 8
_MOST_SHOWN = 10**15


def numbers_that_may_change_f(content: Mapping[object, object]) -> Iterator[str]:
    """Yield the numbers, and lists of numbers, of nested dictionaries whose names suggest it, with their values.

    What a training saves (the state of an optimizer, of a loss scale) is passed over.
    """
    waiting: deque[tuple[list[str], object]] = deque([([], content)])
    visited = set()
    while waiting:
        path, entry = waiting.popleft()
        shown = _shown(entry) if path and _may_change_f(path[-1]) else None
        if shown is not None:
            yield f"{'.'.join(path)} ({shown})"
        elif isinstance(entry, Mapping) and id(entry) not in visited and len(path) < _MOST_DEPTH:
            visited.add(id(entry))
            if "growth_factor" not in entry:  # of a loss scale
                items = ((str(key), value) for key, value in entry.items())
                waiting += [([*path, key], value) for key, value in items if not is_of_training(key)]


def _may_change_f(key: str) -> bool:
    words = [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
    return any(map(_OF_F.fullmatch, words)) and not any(map(_NOT_OF_F.fullmatch, words))


def _shown(value: object) -> str | None:
    """Return how a number is shown, or how many numbers a list has, or None."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < _MOST_SHOWN else "a large number"
    count = _count(value)
    return None if count is None else f"{count} number{'' if count == 1 else 's'}"


def _count(value: object, depth: int = 0) -> int | None:
    """Count the numbers of a list, or of a list of lists; None where it holds anything else."""
    if not isinstance(value, list | tuple) or not value or depth > 1:
        return None
    counts = [
        1 if isinstance(item, int | float) and not isinstance(item, bool) else _count(item, depth + 1) for item in value
    ]
    valid = [count for count in counts if count is not None]
    return sum(valid) if len(valid) == len(counts) else None
