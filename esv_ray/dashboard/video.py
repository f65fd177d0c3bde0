"""One video as the pages show it: values, and the report's drawings of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from esv_ray.dashboard.index import Index
from esv_ray.errors import DataError, EsvError, SpecError, count_of
from esv_ray.report.drawings import HEIGHT, bars_svg, waterfall_svg
from esv_ray.show.geometry import Scale, scale_of
from esv_ray.show.read import StoredVideo, attributed, read_stored
from esv_ray.show.text import standard_error_note
from esv_ray.show.video import AttributedVideo, ClassEsvs, FloatArray

MOST_CLASSES = 8
"""Most classes of a video whose bars are drawn at once."""
MOST_ROWS = 40
"""Classes of a heat map: those with the largest scores."""
_TOP = 12  # classes among the top scores


@dataclass(frozen=True)
class Asked:
    """A request for a video.

    Attributes:
        video_id: the video.
        n_elements: the length; None: the longest.
        classes: ids of classes to draw; none: label and predicted class.
        contrast: two classes, the first minus the second; None: none.
    """

    video_id: str
    n_elements: int | None = None
    classes: Sequence[int] = ()
    contrast: tuple[int, int] | None = None


def rows_of(index: Index, video_id: str) -> list[dict[str, Any]]:
    """Return the rows of a video in the index, the longest first.

    Raises:
        DataError: it has none.
    """
    rows = index.query("SELECT * FROM listed WHERE video_id = ? ORDER BY n_elements DESC", [video_id])
    if not rows:
        progress = index.progress
        waiting = progress.committed - progress.units
        hint = f"; {count_of(waiting, 'unit')} of the output are not indexed yet; try again later" if waiting else ""
        raise DataError(f"expected a video of the output, got {video_id!r:.100}{hint}")
    return rows


def stored_video(index: Index, video_id: str, n_elements: int | None) -> StoredVideo:
    """Read a video at a length; None: the longest with ESVs.

    Raises:
        DataError: there is no such video, it has no ESVs, or a table cannot be read.
        SpecError: it was not attributed at that length.
    """
    rows = rows_of(index, video_id)
    longest = next((row["n_elements"] for row in rows if row["status"] == "ok"), rows[0]["n_elements"])
    n = longest if n_elements is None else n_elements
    row = next((row for row in rows if row["n_elements"] == n), rows[0])
    return read_stored(index.analyzed.output, index.names[row["unit"]], video_id, n)


def video_of(index: Index, asked: Asked, other: Index | None = None) -> dict[str, Any]:
    """Return a video as JSON values; one without ESVs has its status and the reason only.

    Args:
        index: of the output.
        asked: what is asked.
        other: of a second output, in which the same is asked; the bars of both have one scale. If the second has
            no such video or class, the status and the reason of `other` say so.

    Raises:
        DataError: there is no such video, or a table cannot be read.
        SpecError: it was not attributed at that length, or no ESVs are kept of a class.
    """
    if len(asked.classes) > MOST_CLASSES:
        raise SpecError(f"classes: expected at most {MOST_CLASSES}, got {len(asked.classes)}")
    own = _read(index, asked)
    if other is None:
        return _told(own, [own])
    try:
        beside = _read(other, replace(asked, n_elements=own.n, contrast=None))
    except EsvError as error:
        return _told(own, [own]) | {"other": {"status": "missing", "reason": str(error)}}
    return _told(own, [own, beside]) | {"other": _told(beside, [own, beside])}


@dataclass(frozen=True, eq=False)
class _Read:
    """A video of an output, as far as it was read.

    Attributes:
        head: what its rows in the index say.
        n: its length.
        asked: what is asked of it.
        stored, video: what the tables hold, and the asked classes of it; None for a video without ESVs.
        shown: classes that are drawn.
    """

    head: Mapping[str, Any]
    n: int
    asked: Asked
    stored: StoredVideo | None = None
    video: AttributedVideo | None = None
    shown: Sequence[ClassEsvs] = ()


def _read(index: Index, asked: Asked) -> _Read:
    rows = rows_of(index, asked.video_id)
    failed = {row["n_elements"]: row for row in rows if row["status"] != "ok"}
    lengths = sorted(row["n_elements"] for row in rows if row["status"] == "ok")
    head = {name: rows[0][name] for name in ("video_id", "n_frames", "label")} | {"lengths": lengths}
    if not lengths or asked.n_elements in failed:
        row = rows[0] if asked.n_elements is None else failed.get(asked.n_elements, rows[0])
        return _Read(head | {"status": row["status"], "reason": row["reason"]}, row["n_elements"], asked)
    stored = stored_video(index, asked.video_id, asked.n_elements)
    manifest = index.analyzed.manifest
    video = attributed(manifest, stored, [*asked.classes, *(asked.contrast or ())])
    shown = [each for each in video.classes if not asked.classes or each.class_id in asked.classes]
    if not asked.classes and asked.contrast:
        shown = list(attributed(manifest, stored).classes)
    return _Read(head | {"status": "ok"}, video.n, asked, stored, video, shown[:MOST_CLASSES])


def _told(read: _Read, beside: Sequence[_Read]) -> dict[str, Any]:
    """Return a video as JSON values, drawn on the scale of those that are beside each other."""
    stored, video = read.stored, read.video
    if stored is None or video is None:
        return {**read.head, "n": read.n}
    contrast = read.asked.contrast
    scale = _scale([each for one in beside for each in one.shown])
    return {
        **read.head,
        "n": read.n,
        "predicted": video.predicted,
        "outcome": video.outcome,
        "unit": video.unit,
        "evaluations": video.evaluations,
        "frames": video.frame_index.tolist(),
        "kept": stored.kept,
        "top": _top(stored.row["scores"]),
        "errors": standard_error_note("±") if video.has_errors else "",
        "classes": _drawn(video, read.shown, scale),
        "contrast": None if contrast is None else _contrast(video, *contrast),
        "heat": _heat(stored),
    }


def _scale(shown: Sequence[ClassEsvs]) -> Scale:
    """Return a scale that holds ESVs and their errors."""
    ends: list[FloatArray] = []
    for each in shown:
        error = 0.0 if each.stderr is None else each.stderr
        ends += [each.esv, each.esv - error, each.esv + error]
    return scale_of(ends, HEIGHT)


def _drawn(video: AttributedVideo, shown: Sequence[ClassEsvs], scale: Scale) -> list[dict[str, Any]]:
    """Return classes with their values and drawings."""
    return [
        {
            "class": each.class_id,
            "roles": [
                role for role, of in (("label", video.label), ("predicted", video.predicted)) if of == each.class_id
            ],
            "score": _finite(each.score),
            "prior": _finite(each.prior),
            "equation": each.equation(video.unit),
            "esv": _numbers(each.esv),
            "stderr": None if each.stderr is None else _numbers(each.stderr),
            "bars": bars_svg(video, each, scale, f"ESVs of {count_of(video.n, 'element')} for {each.title}"),
            "waterfall": waterfall_svg(video, each, f"Waterfall for {each.title} in time order"),
        }
        for each in shown
    ]


def _contrast(video: AttributedVideo, first: int, second: int) -> dict[str, Any]:
    """Return the ESVs of a class minus those of another, with their errors where the output has them."""
    a, b = video.of_class(first), video.of_class(second)
    assert a is not None
    assert b is not None
    esv = a.esv - b.esv
    stderr, note = None, ""
    if not video.exact:
        if {first, second} == {video.label, video.predicted}:
            stderr = video.difference_stderr
        if stderr is None:
            note = (
                "Without standard errors: the output has them only for the label minus the predicted class. They "
                "cannot be computed from the errors of both classes, because both ESVs use the same subsequences."
            )
    each = ClassEsvs(-1, "the difference", a.score - b.score, a.prior - b.prior, esv, stderr)
    alt = f"ESVs of {count_of(video.n, 'element')} for {a.title} minus those for {b.title}"
    return {
        "first": first,
        "second": second,
        "esv": _numbers(esv),
        "stderr": None if stderr is None else _numbers(stderr),
        "bars": bars_svg(video, each, _scale([each]), alt),
        "note": note,
    }


def _heat(stored: StoredVideo) -> dict[str, Any]:
    """Return the ESVs of all kept classes, the largest score first, at most `MOST_ROWS`."""
    scores, kept = stored.row["scores"], stored.kept
    classes = sorted(kept, key=lambda class_id: (-scores[class_id], class_id))[:MOST_ROWS]
    values = {
        class_id: stored.esvs.filter(pc.equal(stored.esvs.column("class"), class_id)).column("esv").to_numpy()
        for class_id in classes
    }
    return {"classes": classes, "values": [_numbers(values[class_id]) for class_id in classes], "kept": len(kept)}


def _top(scores: Sequence[float]) -> list[dict[str, Any]]:
    """Return the classes with the largest probabilities."""
    order = sorted(range(len(scores)), key=lambda class_id: (-scores[class_id], class_id))[:_TOP]
    return [{"class": class_id, "score": _finite(scores[class_id])} for class_id in order]


def _numbers(values: FloatArray) -> list[float | None]:
    """Return numbers as JSON has them: those that are not finite are null."""
    return [_finite(value) for value in np.asarray(values, np.float64).tolist()]


def _finite(value: float) -> float | None:
    return round(value, 7) if np.isfinite(value) else None
