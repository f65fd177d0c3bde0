"""Explain clips: features as `esv extract` makes them, ESVs as `esv_ray.explain` computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esv_ray.clips.request import ClipRequest, clips_of, estimator_of, extraction_of
from esv_ray.core.games.model import VideoModel
from esv_ray.decoding import open_decoder
from esv_ray.decoding.threads import DecodingThreads
from esv_ray.errors import DataError, ModelError
from esv_ray.extraction.backbones.backbone import Backbone
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.pipeline import extract_rows
from esv_ray.extraction.run_file import ExtractionPlan, Written
from esv_ray.extraction.tables import Extracted, Failed
from esv_ray.extraction.thumbnails import check_installed
from esv_ray.extraction.units import videos_of_unit
from esv_ray.extraction.videos.clip import Clip, clips_checksum
from esv_ray.extraction.workplace import Target, Workplace
from esv_ray.input.preprocessing import differing_keys
from esv_ray.models.bundle import extraction_of as expected_frames
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.explanation import Explanation, attributed_video, class_id_of
from esv_ray.show.video import AttributedVideo
from esv_ray.spec_extract import ExtractSpec, extract_keys

PREDICTED = "predicted"
"""Name of the predicted class of each clip, in place of an id."""


@dataclass(frozen=True, eq=False)
class ExplainedClip:
    """A clip with its ESVs.

    Attributes:
        path: location of its file.
        video: its ESVs, to be drawn.
        pictures: a JPEG of each element, or none.
        remarks: notes of the decoder about the file.
    """

    path: str
    video: AttributedVideo
    pictures: tuple[bytes, ...]
    remarks: tuple[str, ...]


def explain_clips(request: ClipRequest) -> list[ExplainedClip]:
    """Explain clips, without Ray and without tables.

    The values are those of `esv extract` and `esv attribute` for videos of the same ids, up to rounding.

    Args:
        request: what is asked for.

    Raises:
        SpecError: an option is invalid, a package is not installed, or there is no such class.
        DataError: a clip does not exist or cannot be decoded.
        ModelError: the model or the backbone cannot be loaded, or they do not match.
    """
    estimator = estimator_of(request)
    spec = extraction_of(request)
    open_decoder(spec.decoder, isolated=False).close()
    if request.pictures:
        check_installed()
    clips = clips_of(request)
    model = load_model(request.model, code=request.code)
    chosen = [None if text == PREDICTED else _class_id(model, text) for text in request.classes]
    backbone = open_backbone(spec)
    _check_fit(request, model, backbone)
    extracted = _extract(spec, backbone, clips)
    explanations = explain(
        model,
        [each.features for each in extracted],
        video_ids=[clip.video_id for clip in clips],
        estimator=estimator.kind,
        m=estimator.m,
        iterations=estimator.iterations,
        seed=estimator.seed,
        tolerance=estimator.tolerance,
        max_iterations=estimator.max_iterations,
        output=estimator.output,
    )
    return [_explained(chosen, *parts) for parts in zip(clips, extracted, explanations, strict=True)]


def _check_fit(request: ClipRequest, model: VideoModel, backbone: Backbone) -> None:
    """Check that a model takes the features of a backbone.

    Raises:
        ModelError: says both sizes, or what differs in the preparation of frames.
    """
    info = backbone.info
    if info.dim != model.feature_dim:
        raise ModelError(
            f"{request.model}: expected features of {model.feature_dim} numbers, got {info.dim} from the backbone "
            f"{info.name}; give the backbone that made the model's features (--backbone)"
        )
    expected, found = expected_frames(request.model) or {}, info.asdict()
    differ = differing_keys(expected, found)
    if differ:
        wanted, got = (", ".join(f"{key} {values[key]!r:.80}" for key in differ) for values in (expected, found))
        raise ModelError(
            f"{request.model}: expected features of frames with {wanted}, got {got} from the backbone {info.name}; use "
            "one that prepares frames as the model expects"
        )


def _extract(spec: ExtractSpec, backbone: Backbone, clips: Sequence[Clip]) -> list[Extracted]:
    """Make the features of clips, in their order.

    Raises:
        DataError: one cannot be decoded.
    """
    target = Target(spec, _plan(spec, backbone, clips), backbone)
    place = Workplace(spec, (target,), DecodingThreads(spec.decoder, spec.decoders))
    try:
        (outcomes,) = extract_rows(place, clips, poisoned={}, only=[range(len(clips))]).outcomes
    finally:
        place.stop()
    ordered = sorted(outcomes, key=lambda outcome: outcome.row)
    for outcome in ordered:
        if isinstance(outcome, Failed):
            path = clips[outcome.row].path
            raise DataError(outcome.reason if path in outcome.reason else f"{path}: {outcome.reason}")
    return [outcome for outcome in ordered if isinstance(outcome, Extracted)]


def _plan(spec: ExtractSpec, backbone: Backbone, clips: Sequence[Clip]) -> ExtractionPlan:
    """Return the plan of an extraction that is not stored."""
    written = Written(
        spec=spec.model_dump(mode="json"),
        keys=extract_keys(spec),
        versions={},
        backbone=backbone.info.asdict(),
        videos=len(clips),
        clips=clips_checksum(clips),
        unit=videos_of_unit(len(clips), spec.compute.unit),
        labelled=False,
    )
    return ExtractionPlan(written, ())


def _explained(
    chosen: Sequence[int | None], clip: Clip, extracted: Extracted, explanation: Explanation
) -> ExplainedClip:
    """Return a clip; a class of None is the predicted one."""
    classes = [explanation.predicted if class_id is None else class_id for class_id in chosen or (None,)]
    return ExplainedClip(
        clip.path,
        attributed_video(explanation, classes, extracted.index),
        extracted.thumbnails,
        tuple(extracted.summary.reasons()),
    )


def _class_id(model: VideoModel, text: str) -> int:
    """Return the class that a text means: a name, or else an id."""
    is_number = text.isascii() and text.isdigit() and len(text) < 10 and text not in (model.classes or ())
    return class_id_of(int(text) if is_number else text, model.classes, model.n_classes)
