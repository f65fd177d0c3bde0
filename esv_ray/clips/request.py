"""Requests to explain clips: the clips, the model, and how features are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, SpecError, count_of
from esv_ray.estimator import Estimator
from esv_ray.extraction.run_file import read_run
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.videos.finding import find_videos
from esv_ray.models.bundle import extraction_of as frames_of
from esv_ray.models.bundle import training_of
from esv_ray.spec import EstimatorSpec, Frozen, load_as, section
from esv_ray.spec_extract import ExtractSpec, load_extract_spec

MOST_CLIPS = 100
"""Most clips of a request, whose features and pictures are in memory together; more need a job."""
_NOWHERE = "memory://esv-explain"  # nothing is written there
_OF_A_BACKBONE = ("backbone", "arguments", "weights", "size", "clip", "stride", "dtype", "decoder")
_IN_A_BUNDLE = ("backbone", "size", "clip", "stride")
_ESTIMATOR = "estimator."


class _Estimating(Frozen):
    """The keys of a request that do not belong to an extraction."""

    estimator: Annotated[EstimatorSpec, BeforeValidator(section)] = EstimatorSpec()


@dataclass(frozen=True)
class ClipRequest:
    """A request to explain clips.

    Attributes:
        clips: video files, folders or globs of them, or lists.
        model: location of a bundle.
        code: packages whose code may run to build the model and the backbone.
        options: the keys of an extraction that are set (`spec_extract.ExtractSpec`).
        table: feature table of `esv extract` whose backbone is used, or None.
        overrides: ``key=value`` of an extraction, or ``estimator.key=value``.
        classes: `predicted`, ids or names of classes; none: the predicted one.
        pictures: whether small pictures of the elements are made.
    """

    clips: tuple[str, ...]
    model: str
    code: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    table: str | None = None
    overrides: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    pictures: bool = False


def clips_of(request: ClipRequest) -> list[Clip]:
    """Find the clips.

    Raises:
        DataError: a file does not exist, or there are no videos.
        SpecError: there are too many.
    """
    found = [clip for place in request.clips for clip in find_videos(storage.absolute(place)).clips]
    if len(found) > MOST_CLIPS:
        raise SpecError(
            f"expected at most {MOST_CLIPS} clips, got {count_of(len(found), 'video')}; for many, run esv extract and "
            "esv attribute"
        )
    return found


def extraction_of(request: ClipRequest) -> ExtractSpec:
    """Return the spec that makes the features: from the options, else as the model's own features were made.

    Raises:
        SpecError: nothing says which backbone; or a value is invalid.
        DataError: `esv extract` did not write the table.
    """
    estimator = tuple(text for text in request.overrides if text.startswith(_ESTIMATOR))
    overrides = [text for text in request.overrides if text not in estimator]
    given = {key: value for key, value in request.options.items() if value is not None}
    if "backbone" not in given and not any(text.partition("=")[0].strip() == "backbone" for text in overrides):
        given = {**_recorded(request), **given}
    if {"frames", "fps"} & set(request.options):  # one of them replaces the other
        given = {key: value for key, value in given.items() if key != "frames" or "frames" in request.options}
    fixed = {"videos": request.clips[0], "output": _NOWHERE, "thumbnails": request.pictures}
    return load_extract_spec({**given, **fixed}, overrides, code=request.code)


def estimator_of(request: ClipRequest) -> Estimator:
    """Return the request for an estimator.

    Raises:
        SpecError: a value is invalid.
    """
    texts = [text for text in request.overrides if text.startswith(_ESTIMATOR)]
    return load_as(_Estimating, {}, texts).estimator.request()


def _recorded(request: ClipRequest) -> dict[str, Any]:
    """Return the recorded keys of the extraction: from the table, the model, or the table it was trained on."""
    if request.table is not None:
        written = read_run(storage.absolute(request.table))
        if written is None:
            raise DataError(
                f"{request.table}: expected a feature table of esv extract, which records its backbone, found no "
                "run.json; give --backbone"
            )
    else:
        written = _of_training(request.model)
        said = frames_of(request.model) or {}
        if written is None and isinstance(said.get("backbone"), str):
            return {key: said[key] for key in _IN_A_BUNDLE if said.get(key) is not None}
    if written is None:
        raise SpecError(
            f"--backbone: expected the backbone that made the features of {request.model}, which does not record it; "
            "give its name, or --features with a feature table of esv extract"
        )
    kept = {key: written.spec[key] for key in _OF_A_BACKBONE if written.spec.get(key) is not None}
    frames = written.spec.get("frames")
    return {**kept, "frames": frames} if isinstance(frames, int) else kept


def _of_training(model: str) -> Any:
    """Return the run.json of the table that a model was trained on, if it is there."""
    features = (training_of(model) or {}).get("features")
    if not isinstance(features, str):
        return None
    try:
        return read_run(features)
    except EsvError:  # it was moved, or made by something else
        return None
