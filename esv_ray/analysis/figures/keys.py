"""Keys of marks: which videos a bar, a cell or a point of a figure stands for.

A page that can list videos draws figures with `Look.keyed`. Each mark that stands for a set of videos then leads to
this set: in the SVG it is inside a link, whose address holds the key. Files of `esv analyze` have no keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from esv_ray.analysis.figures.look import Look
    from esv_ray.analysis.figures.rows import Row

_ADDRESS = "https://videos.invalid/?"  # Vega accepts web addresses only; no host has this name (RFC 2606)
_COLUMN = "leads_to"
OUTCOMES: Mapping[bool | None, str] = {True: "right", False: "wrong", None: "unlabeled"}
"""Outcomes by whether the predicted class is the label; None without a label."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A set of videos. A condition that is None is none.

    Attributes:
        n: number of elements of their sequences.
        videos: number of videos in the set.
        outcome: one of `OUTCOMES`.
        explained: class that is explained.
        label, predicted: label, and predicted class.
        esvs: 1: those whose ESVs of the class explained are kept.
        supporting: number of supporting elements; `3`, or from `0` to `2`: `0..2`.
        best, worst: element with the largest, and with the smallest ESV; or one of several: `0..2`.
        over: elements `i,j`: the ESV of i exceeds that of j.
        video: id of the only video.
        element: an element of this video.
    """

    n: int
    videos: int
    outcome: str | None = None
    explained: int | None = None
    label: int | None = None
    predicted: int | None = None
    esvs: int | None = None
    supporting: str | None = None
    best: str | None = None
    worst: str | None = None
    over: str | None = None
    video: str | None = None
    element: int | None = None

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions as texts, by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self) if each.name != "videos")
        return {name: str(value) for name, value in values if value is not None}


def span(first: int, last: int) -> str:
    """Return numbers from a first to a last one, as in a key."""
    return str(first) if first == last else f"{first}..{last}"


def address_of(key: Key) -> str:
    """Return the address that holds a key."""
    return _ADDRESS + urlencode(key.conditions | {"videos": str(key.videos)})


def leading(key: Key | None, look: Look) -> Row:
    """Return what a row of a chart needs so that its mark leads to videos.

    Args:
        key: of the videos; None: the mark stands for none.
        look: of the figure.
    """
    if not look.keyed:
        return {}
    return {_COLUMN: "" if key is None else address_of(key)}


def linked(chart: Any, look: Look) -> Any:
    """Return a chart whose marks lead to the videos of their rows (`leading`).

    Args:
        chart: with marks.
        look: of the figure.
    """
    return chart.encode(href=f"{_COLUMN}:N") if look.keyed else chart


def conditions_at(address: str) -> dict[str, str] | None:
    """Return the conditions in the address of a mark, and the number of videos as `videos`; None if it has no key."""
    if not address.startswith(_ADDRESS):
        return None
    return dict(parse_qsl(address.removeprefix(_ADDRESS), keep_blank_values=True))
