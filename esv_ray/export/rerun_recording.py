"""One video and its ESVs on one timeline, as a recording of Rerun (.rrd)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.decoding import Every, open_decoder
from esv_ray.errors import DataError, SpecError, short_text
from esv_ray.export.request import Request
from esv_ray.export.source import Source, check_place, open_source, publish, split
from esv_ray.export.videos import clips_of, extracted_clips
from esv_ray.extraction.thumbnails import check_installed, thumbnails
from esv_ray.extraction.videos.clip import Clip
from esv_ray.show.read import read_video
from esv_ray.show.text import printable
from esv_ray.show.video import AttributedVideo

if TYPE_CHECKING:
    import rerun

FRAME, TIME = "frame", "time"
"""The timelines: the number of the frame in its file, and its seconds, if the file is there."""
VIDEO, VALUES, ABOUT = "video", "esv", "about"
_MP4 = (".mp4", ".m4v", ".mov")
_MOST_BYTES = 2**31
"""Most bytes of a video file that is put into the recording."""
_MOST_NAME = 60


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The pictures of a video.

    Attributes:
        data: content of an MP4 file, or None.
        times: of an MP4 file, (T,) nanoseconds of its frames; else (n,) of the elements'.
        images: JPEGs of the elements' frames, if Rerun cannot play the file.
    """

    data: bytes | None
    times: npt.NDArray[np.int64]
    images: list[bytes]


def write(request: Request) -> list[str]:
    """Write the file.

    Returns:
        Notes, one line each.

    Raises:
        SpecError: no video is named, or a package is not installed.
        DataError: as `registry.export`; or there is no such video, or its file cannot be decoded.
    """
    _check_installed()
    if request.video_id is None:
        raise SpecError("VIDEO_ID: expected the id of a video, got none; esv show OUTPUT lists some")
    folder, name = split(request.path)
    source = open_source(request)
    with source.opened.con, TemporaryDirectory(prefix="esv-export-") as place:
        check_place(request, folder, [name])
        video = read_video(request.output, request.video_id, n_elements=request.elements)
        clip = _clip_of(request, source)
        pictures = None if clip is None else _pictures(clip, video)
        made = Path(place) / "made.rrd"
        _record(made, source.manifest.job, video, pictures)
        publish(request, {request.path: made})
    if clip is not None:
        return list(source.opened.unfinished)
    return [
        *source.opened.unfinished,
        "the recording has no pictures, because the file of the video is not known; give its folder as --videos",
    ]


def _check_installed() -> None:
    try:
        import rerun  # noqa: F401
    except ImportError:
        raise SpecError("recordings need rerun-sdk, which is not installed: pip install 'esv-ray[rerun]'") from None


def _clip_of(request: Request, source: Source) -> Clip | None:
    """Return the file of the video; None if nothing says where it is.

    Raises:
        DataError: it is not among the videos that are given.
    """
    clips = extracted_clips(source) if request.videos is None else clips_of(request, source)
    if clips is None:
        return None
    clip = clips.get(request.video_id or "")
    if clip is None and request.videos is not None:
        raise DataError(
            f"{request.videos}: expected the video {request.video_id!r:.100}, found none of this id among "
            f"{len(clips)}: one is {next(iter(clips))!r:.100}"
        )
    return clip


def _pictures(clip: Clip, video: AttributedVideo) -> _Pictures:
    """Read the file of a video.

    Raises:
        DataError: it cannot be read, or has fewer frames than the output says.
        SpecError: a package is not installed.
    """
    if clip.path.lower().endswith(_MP4):
        played = _played(clip)
        if played is not None:
            if len(played.times) <= int(video.frame_index.max()):
                raise _too_short(clip, len(played.times), video)
            return played
    check_installed()
    wanted = {int(frame) for frame in video.frame_index}
    found: dict[int, tuple[float, bytes]] = {}
    with open_decoder().open(clip.path) as opened:
        seen = 0
        for frame in opened.frames(Every()):
            seen = frame.index + 1
            if frame.index in wanted:
                (picture,) = thumbnails(frame.image[None])
                found[frame.index] = (frame.time, picture)
            if len(found) == len(wanted):
                break
    if len(found) < len(wanted):
        raise _too_short(clip, seen, video)
    parts = [found[int(frame)] for frame in video.frame_index]
    times = np.array([round(seconds * 1e9) for seconds, _ in parts], np.int64)
    return _Pictures(None, times, [picture for _, picture in parts])


def _played(clip: Clip) -> _Pictures | None:
    """Return a file that Rerun plays, whole; None if it does not."""
    import rerun

    if storage.state(clip.path, "read the video").size > _MOST_BYTES:
        return None
    data = storage.read_bytes(clip.path, "read the video", most=_MOST_BYTES)
    try:
        times = rerun.AssetVideo(contents=data, media_type="video/mp4").read_frame_timestamps_nanos()
    except (ValueError, RuntimeError):  # another codec, or a damaged index: FFmpeg may still decode it
        return None
    return _Pictures(data, np.asarray(times, np.int64), []) if len(times) else None


def _too_short(clip: Clip, frames: int, video: AttributedVideo) -> DataError:
    return DataError(
        f"{clip.path}: expected a frame {int(video.frame_index.max())}, which the output names, got {frames} frames; "
        "check that it is the file that the features are from"
    )


def _record(path: Path, job: str, video: AttributedVideo, pictures: _Pictures | None) -> None:
    """Write the recording.

    Raises:
        DataError: Rerun refuses a value.
    """
    import rerun

    digest = hashlib.sha256(f"{job} {video.video_id} {video.n}".encode("utf-8", "surrogatepass")).hexdigest()
    recording = rerun.RecordingStream("esv_ray", recording_id=digest[:32], send_properties=False)
    try:
        recording.save(path, default_blueprint=_blueprint(pictures is not None))
        frames = video.frame_index.astype(np.int64)
        times = None
        if pictures is not None:
            times = pictures.times if pictures.data is None else pictures.times[frames]
            _record_pictures(recording, pictures, frames)
        titles = video.short_titles(_MOST_NAME)
        for each in video.classes:
            place = f"{VALUES}/class_{each.class_id}"  # names may hold anything
            recording.log(place, rerun.SeriesLines(names=titles[each.class_id]), static=True)
            recording.log(place, rerun.SeriesPoints(names=titles[each.class_id], marker_sizes=5.0), static=True)
            columns = rerun.Scalars.columns(scalars=each.esv.astype(np.float64))
            recording.send_columns(place, indexes=_indexes(frames, times), columns=columns)
        recording.log(ABOUT, rerun.TextDocument(_about(video), media_type="text/plain"), static=True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path.name}: expected values that Rerun takes, got: {short_text(error, 200)}") from None
    finally:
        recording.disconnect()


def _record_pictures(recording: rerun.RecordingStream, pictures: _Pictures, frames: npt.NDArray[np.int64]) -> None:
    import rerun

    if pictures.data is not None:
        asset = rerun.AssetVideo(contents=pictures.data, media_type="video/mp4")
        recording.log(VIDEO, asset, static=True)
        numbers = np.arange(len(pictures.times))
        references = rerun.VideoFrameReference.columns_nanos(pictures.times)
        recording.send_columns(VIDEO, indexes=_indexes(numbers, pictures.times), columns=references)
        return
    for frame, time, image in zip(frames.tolist(), pictures.times.tolist(), pictures.images, strict=True):
        recording.set_time(FRAME, sequence=frame)
        recording.set_time(TIME, duration=np.timedelta64(time, "ns"))
        recording.log(VIDEO, rerun.EncodedImage(contents=image, media_type="image/jpeg"))


def _indexes(frames: npt.NDArray[np.int64], times: npt.NDArray[np.int64] | None) -> list[Any]:
    import rerun

    numbers = rerun.TimeColumn(FRAME, sequence=frames.tolist())
    if times is None:
        return [numbers]
    return [numbers, rerun.TimeColumn(TIME, duration=times.astype("timedelta64[ns]"))]


def _blueprint(has_video: bool) -> Any:
    import rerun.blueprint as layout

    values = layout.TimeSeriesView(origin=VALUES, name="ESVs")
    about = layout.TextDocumentView(origin=ABOUT, name="Video")
    seen = [layout.Spatial2DView(origin=VIDEO, name="Frames")] if has_video else []
    return layout.Blueprint(layout.Horizontal(layout.Vertical(*seen, values), about, column_shares=[3, 1]))


def _about(video: AttributedVideo) -> str:
    titles = video.short_titles(_MOST_NAME)
    lines = [printable(video.video_id), f"{video.n} elements, {video.outcome}", ""]
    for each in video.classes:
        lines += [f"{titles[each.class_id]}{video.roles(each)}", each.equation(video.unit), ""]
    return "\n".join(lines)
