"""Read what a checkpoint's configuration says about frames and clips, if it is text as in OpenMMLab's.

The text is a program. It is searched for a few literals and never run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from esv_ray.models.sources.imported import Row

_MOST_TEXT = 1_000_000  # characters
_NUMBERS = r"\[\s{0,9}((?:[0-9.]{1,20}\s{0,9},?\s{0,9}){1,4})\]"
_LISTS = {name: re.compile(r"\b" + name + r"\s{0,9}=\s{0,9}" + _NUMBERS) for name in ("mean", "std")}
_ORDERS = (
    (re.compile(r"\b(?:bgr_to_rgb|to_rgb)\s{0,9}=\s{0,9}True\b"), "RGB"),
    (re.compile(r"\b(?:rgb_to_bgr|to_bgr)\s{0,9}=\s{0,9}True\b"), "BGR"),
    (re.compile(r"\bto_bgr\s{0,9}=\s{0,9}False\b"), "RGB"),
)
_SIZE = re.compile(r"\bcrop_size\s{0,9}=\s{0,9}([0-9]{1,5})\b")
_PROBABILITIES = re.compile(r"\baverage_clips\s{0,9}=\s{0,9}['\"]prob['\"]")


def configuration_of(content: Mapping[object, object]) -> str:
    """Return the configuration in the content of a checkpoint, or an empty text."""
    meta = content.get("meta")
    for key in ("cfg", "config"):
        text = meta.get(key) if isinstance(meta, Mapping) else None
        if isinstance(text, str):
            return text[:_MOST_TEXT]
    return ""


def extraction_of(text: str) -> dict[str, object] | None:
    """Return what frames must be like: `mean`, `std`, `color`, `size`; only what the text says once for all."""
    extraction: dict[str, object] = {}
    for name, pattern in _LISTS.items():
        found = {tuple(map(float, re.findall(r"[0-9]+\.?[0-9]*", match[1]))) for match in pattern.finditer(text)}
        if len(found) == 1:
            extraction[name] = list(found.pop())
    orders = {order for pattern, order in _ORDERS if pattern.search(text)}
    if len(orders) == 1:
        extraction["color"] = orders.pop()
    sizes = {int(match[1]) for match in _SIZE.finditer(text)}
    if len(sizes) == 1:
        extraction["size"] = sizes.pop()
    return extraction or None


def configuration_rows(text: str, over: str) -> tuple[Row, ...]:
    """Return the rows of the summary that a configuration gives rise to.

    Args:
        text: the configuration.
        over: what a TSN averages over elements.
    """
    extraction = extraction_of(text)
    rows = []
    if extraction is not None:
        rows.append(("frames", ", ".join(f"{key} {value}" for key, value in extraction.items())))
    if over != "probabilities" and _PROBABILITIES.search(text):
        rows.append(("note", "the configuration in the file averages probabilities: --over probabilities does that"))
    return tuple(rows)
