"""How the frames of a feature table were made into features, as `esv extract` records it; compared with a model's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from esv_ray.errors import DataError
from esv_ray.input.parquet.footers import Footer

KEYS = ("color", "mean", "std", "size", "short_side", "interpolation", "clip", "digest")
"""What both a table and a model may record: of the frames, of the clips, and the hash of the backbone's weights."""
_LEVELS = 255  # mean and std of a model may count for values 0..255
_TOLERANCE = 0.005  # configurations round them


def check_same_preprocessing(footers: Sequence[Footer], expected: Mapping[str, Any] | None, model: str) -> None:
    """Refuse features from frames that were prepared in another way than the model says.

    What only one of the two records is not compared.

    Args:
        footers: of the files of the table.
        expected: key `extraction` of the model bundle, or None.
        model: location of the bundle.

    Raises:
        DataError: names what differs, the model's value first.
    """
    if not expected:
        return
    for footer in footers:
        found = footer.preprocessing or {}
        differ = differing_keys(expected, found)
        if differ:
            raise DataError(
                f"{footer.file.url}: expected features of frames with {_listed(differ, expected)}, as the model "
                f"{model} says, got {_listed(differ, found)}; extract them again with a backbone that prepares frames "
                "in this way, or correct `extraction` in the model's model.json"
            )


def differing_keys(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the keys that both record, and in which they differ.

    Args:
        expected: what a model says (`extraction` of its bundle).
        found: what a feature table, or a backbone, says.
    """
    both = (key for key in KEYS if key in expected and key in found)
    return [key for key in both if not _agree(key, expected[key], found[key])]


def _listed(keys: Sequence[str], values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(values[key]):.80}" for key in keys)


def _agree(key: str, expected: object, found: object) -> bool:
    if key == "color":
        return str(expected).upper() == str(found).upper()
    if key in ("digest", "interpolation"):
        return expected == found
    if key in ("short_side", "clip") and None in (expected, found):
        return expected is found
    ours, theirs = _numbers(expected), _numbers(found)
    if ours is None or theirs is None:
        return True  # nothing that could be compared
    if len(ours) == 1:
        ours *= len(theirs)
    if len(ours) != len(theirs):
        return False
    if key in ("mean", "std") and max(map(abs, ours)) > 1:
        ours = [number / _LEVELS for number in ours]
    return all(math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) for a, b in zip(ours, theirs, strict=True))


def _numbers(value: object) -> list[float] | None:
    """Return a number or a list of numbers as a list; None for anything else."""
    listed = value if isinstance(value, list) else [value]
    numbers = [float(each) for each in listed if isinstance(each, int | float) and math.isfinite(each)]
    return numbers if numbers and len(numbers) == len(listed) else None
