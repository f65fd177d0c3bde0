"""Advice on what an import leaves out: fix the option that causes it, or allow it."""

from __future__ import annotations

from typing import NamedTuple

from esv_ray.input.faults import Counts
from esv_ray.input.sources.arrays import TURNED
from esv_ray.input.sources.labels import NO_CLASS
from esv_ray.input.sources.request import ImportRequest


class _Cause(NamedTuple):
    """An option that may be the cause of faults.

    Attributes:
        option: of the request.
        reasons: their beginnings; all must be among the faults.
        remedy: what to do.
    """

    option: str
    reasons: tuple[str, ...]
    remedy: str


_LAYOUT = "if the arrays are (D, T), give --layout DT"
_MATCH = "name ids with --match '(?P<video_id>...)'"
_CAUSES = (
    _Cause("key", ("no array",), "give --key the name of an array that the files have"),
    _Cause("key", ("several arrays in a file",), "give --key the name of one of the arrays"),
    _Cause("frames_key", ("no frame numbers",), "give --frames-key a name that the groups have"),
    _Cause(
        "labels",
        ("a label without a video", "a video without a label"),
        f"give labels and videos the same ids: correct --labels, or {_MATCH}",
    ),
    _Cause("labels", ("a video without a label",), "add the labels, or use --keep-unlabelled"),
    _Cause("labels", ("a label without a video",), f"correct the ids of --labels, or {_MATCH}"),
    _Cause("segments", ("a segment without a video",), f"correct the videos of --segments, or {_MATCH}"),
    _Cause("match", ("several files of one id",), f"{_MATCH}, each once"),
    _Cause("classes", (NO_CLASS,), "correct the labels, or add their names to --classes"),
    _Cause("layout", (TURNED,), _LAYOUT),
    _Cause("dtype", ("numbers that the type of the table cannot hold",), "give --dtype"),
)


def remedy(skipped: Counts, request: ImportRequest) -> str:
    """Return how to mend the option that at least half of the faults come from, else "correct them"."""
    for option, reasons, text in _CAUSES:
        numbers = [_number(skipped, reason) for reason in reasons]
        if option == "classes" and request.classes is None:
            continue
        if request.has(option) and all(numbers) and 2 * sum(numbers) >= skipped.total:
            return text if request.has("match") else text.removesuffix(f", or {_MATCH}")
    return "correct them"


def advice(skipped: Counts, total: int, request: ImportRequest, *, at_least: bool) -> str:
    """Return what to do if more is left out than the user allows.

    Args:
        skipped: what is left out.
        total: of these and of what can be written; if it is hardly more, --max-skipped is no help.
        request: the request.
        at_least: whether more may be left out when the features are read.
    """
    mended = remedy(skipped, request)
    if mended == _LAYOUT and request.layout == "DT":
        return "if the arrays are (T, D), leave --layout DT out"
    if mended == _LAYOUT:
        return mended  # not the turned half of the videos beside the other
    percent = -(-100 * skipped.total // total)
    allow = f", or set --max-skipped {percent / 100:g}{' or more' * at_least}" if percent < 100 else ""
    return mended + allow


def _number(skipped: Counts, reason: str) -> int:
    return sum(number for each, number, _ in skipped.rows() if each.startswith(reason))
