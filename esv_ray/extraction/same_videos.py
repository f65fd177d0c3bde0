"""An extraction continues with the videos of its plan only."""

from __future__ import annotations

from collections.abc import Mapping

from esv_ray.errors import JobError, count_of
from esv_ray.extraction.run_file import ExtractionPlan
from esv_ray.extraction.videos.clip import Clip, clips_checksum
from esv_ray.extraction.videos.finding import FoundVideos
from esv_ray.spec_extract import ExtractSpec

_NAMED = 3


def check_same_videos(spec: ExtractSpec, plan: ExtractionPlan, found: FoundVideos) -> None:
    """Refuse to continue with other videos than those of the plan.

    Raises:
        JobError: names the first that differ.
    """
    if clips_checksum(found.clips) == plan.written.clips:
        return
    planned = {clip.video_id: clip for unit in plan.units for clip in unit.clips}
    now = {clip.video_id: clip for clip in found.clips}
    differences = [
        *_named("added", [video_id for video_id in now if video_id not in planned]),
        *_named("removed", [video_id for video_id in planned if video_id not in now]),
        *_named("changed in path, label, times or other columns", _changed(planned, now)),
    ]
    raise JobError(
        f"{spec.output}: the videos of {spec.videos} changed since this extraction was planned: "
        f"{'; '.join(differences)}; put them back, or use another --out"
    )


def _changed(planned: Mapping[str, Clip], now: Mapping[str, Clip]) -> list[str]:
    return [video_id for video_id, clip in planned.items() if video_id in now and now[video_id] != clip]


def _named(what: str, ids: list[str]) -> list[str]:
    if not ids:
        return []
    more = ", ..." if len(ids) > _NAMED else ""
    return [f"{count_of(len(ids), 'video')} {what} ({', '.join(f'{each!r:.80}' for each in ids[:_NAMED])}{more})"]
