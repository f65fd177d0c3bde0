"""Write rendered videos: MP4 files, and lists of them for `esv extract`."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from esv_ray import storage
from esv_ray.bench.shapes.drawing import Frames, draw
from esv_ray.bench.shapes.scenes import CLASSES, RATE, SIDE, Scene, scene_of
from esv_ray.errors import SpecError
from esv_ray.input.class_names import classes_csv, csv_bytes
from esv_ray.machine import cores
from esv_ray.parallel import in_parallel

Split = Literal["train", "test"]
SEEDS: dict[Split, int] = {"train": 1, "test": 2}
PER_CLASS: dict[Split, int] = {"train": 160, "test": 24}
"""Videos of a class, by default."""
CLASSES_NAME = "classes.csv"
_DOING = "write the videos"
_AT_ONCE = 32  # videos between two reports
_QUANTIZER = "20"


@dataclass(frozen=True)
class RenderProgress:
    """Number of videos written, and in all."""

    done: int
    total: int


def check_installed() -> None:
    """Check that videos can be written.

    Raises:
        SpecError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise SpecError("rendering videos needs av (PyAV): pip install 'esv-ray[video]'") from None


def scene_number(split: Split, number: int) -> Scene:
    """Return the scene of a video: of class number % 8, and the same at every call."""
    label = number % len(CLASSES)
    return scene_of(label, np.random.default_rng([SEEDS[split], number]))


def encode(frames: Frames) -> bytes:
    """Return (T, H, W, 3) frames as an MP4 file.

    Every frame is encoded by itself (`g`) and in the same way (`qp`). A decoded frame therefore does not depend on the
    frames around it, and does not show whether the video runs forward or backward.
    """
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"qp": _QUANTIZER, "g": "1"})
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on all machines with this FFmpeg
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return sink.getvalue()


def write_videos(
    folder: str,
    per_class: dict[Split, int] | None = None,
    report: Callable[[RenderProgress], None] = lambda progress: None,
) -> int:
    """Write FOLDER/SPLIT/*.mp4, a list FOLDER/SPLIT.csv of each split, and classes.csv; return the number of videos.

    Existing files are kept, so an interrupted run resumes. The lists come last.

    Args:
        folder: location.
        per_class: videos of a class in each split; None: `PER_CLASS`.
        report: called with the progress.

    Raises:
        SpecError: PyAV is not installed.
        DataError: a file cannot be written.
    """
    check_installed()
    per_class = PER_CLASS if per_class is None else per_class
    wanted = [(split, number) for split, count in per_class.items() for number in range(count * len(CLASSES))]
    there = {
        f"{split}/{name}" for split in per_class for name in storage.list_names(storage.join(folder, split), _DOING)
    }

    def write(video: tuple[Split, int]) -> None:
        path = _path(*video)
        if path not in there:
            data = encode(draw(scene_number(*video)))
            storage.replace(storage.join(folder, path), data, _DOING)

    for first in range(0, len(wanted), _AT_ONCE):
        report(RenderProgress(first, len(wanted)))
        in_parallel(write, wanted[first : first + _AT_ONCE], threads=cores())
    report(RenderProgress(len(wanted), len(wanted)))
    storage.replace(storage.join(folder, CLASSES_NAME), classes_csv(CLASSES), _DOING)
    for split, count in per_class.items():
        storage.replace(storage.join(folder, f"{split}.csv"), _list(split, count * len(CLASSES)), _DOING)
    return len(wanted)


def _id(split: Split, number: int) -> str:
    return f"{split}-{number:04d}"


def _path(split: Split, number: int) -> str:
    return f"{split}/{_id(split, number)}.mp4"


def _list(split: Split, count: int) -> bytes:
    """Return a list of videos for `esv extract`, with their first and last deciding frame."""
    rows = []
    for number in range(count):
        scene = scene_number(split, number)
        rows.append([_id(split, number), _path(split, number), CLASSES[scene.label], *map(str, scene.key)])
    return csv_bytes(["video_id", "path", "label", "key_start", "key_end"], rows)
