"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.export.request import Request

Write = Callable[[Request], list[str]]
"""Writes an export, and returns notes, one line each."""


@dataclass(frozen=True)
class Format:
    """A format of exports.

    Attributes:
        module: has the function ``write``; imported when it is needed.
        default: name of its file or folder below the working directory.
        takes: options of a request that it uses, besides `path` and `overwrite`.
    """

    module: str
    default: str
    takes: frozenset[str] = frozenset()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "csv": Format("esv_ray.export.csv_files", "esv-csv", frozenset({"exact_text"})),
        "npz": Format("esv_ray.export.npz", "esv.npz"),
        "play-fair": Format("esv_ray.export.play_fair", "esv.pkl"),
        "fiftyone": Format("esv_ray.export.fiftyone", "esv-fiftyone", frozenset({"elements", "videos"})),
        "rerun": Format("esv_ray.export.rerun_recording", "esv.rrd", frozenset({"video_id", "elements", "videos"})),
    }
)
_OPTIONS = {"video_id": "VIDEO_ID", "elements": "--elements", "videos": "--videos"}
_OPTIONS |= {"exact_text": "--exact-text"}


def export(to: str, request: Request) -> list[str]:
    """Write an output in another format.

    Args:
        to: a key of `FORMATS`.
        request: the output, the place and the options.

    Returns:
        Notes, one line each.

    Raises:
        SpecError: there is no such format, an option does not go with it, or its package is not installed.
        DataError: the output cannot be read, lacks what the format needs, or the files exist or cannot be written.
    """
    if to not in FORMATS:
        raise SpecError(f"format: expected one of {', '.join(FORMATS)}, got {to!r:.60}")
    for name, option in _OPTIONS.items():
        if getattr(request, name) and name not in FORMATS[to].takes:
            takers = [each for each, form in FORMATS.items() if name in form.takes]
            raise SpecError(f"{option} has an effect only with --to {' or '.join(takers)}, got {to}; leave it out")
    absolute = Request(**{**vars(request), "output": storage.absolute(request.output)})
    write: Write = import_module(FORMATS[to].module).write
    return write(absolute)
