"""The files of an output's videos."""

from __future__ import annotations

from collections.abc import Mapping

from esv_ray import storage
from esv_ray.errors import DataError, JobError, SpecError
from esv_ray.export.request import Request
from esv_ray.export.source import Source
from esv_ray.extraction.run_file import plan_of, read_run
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.videos.finding import find_videos


def clips_of(request: Request, source: Source) -> Mapping[str, Clip]:
    """Return the files of videos by id: those of `Request.videos`, else those that the feature table was made from.

    Raises:
        SpecError: neither says where the videos are.
        DataError: they cannot be listed.
    """
    clips = extracted_clips(source) if request.videos is None else _found(request.videos)
    if clips is None:
        raise SpecError(
            f"--videos: expected the folder or the list of the videos, because {source.manifest.spec['features']} is "
            "not a feature table that esv extract wrote, which would name them"
        )
    return clips


def extracted_clips(source: Source) -> Mapping[str, Clip] | None:
    """Return the files from which `esv extract` made an output's feature table; None if it did not make it."""
    features: str = source.manifest.spec["features"]
    try:
        written = read_run(features)
        units = () if written is None else plan_of(features, written).units
    except (JobError, DataError):  # a table from elsewhere, one that is gone, or one whose store is not reached
        return None
    return {clip.video_id: clip for unit in units for clip in unit.clips} or None


def _found(videos: str) -> Mapping[str, Clip]:
    return {clip.video_id: clip for clip in find_videos(storage.absolute(videos)).clips}
