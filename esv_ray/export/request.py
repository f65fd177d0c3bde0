"""The request for an export: its source, its destination and its options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request for an export.

    Attributes:
        output: location of a job's output, finished or not.
        path: location of the file, or of the folder, that is written.
        overwrite: whether existing files are replaced.
        video_id: the video, for formats of one video.
        elements: number of elements, of an output with several; None: the longest of each video.
        videos: folder, glob, file or list of the videos; None: those that the feature table was extracted from.
        exact_text: whether CSV files hold texts unchanged.
        memory: bytes for reading the tables; None: 1 GB.
    """

    output: str
    path: str
    overwrite: bool = False
    video_id: str | None = None
    elements: int | None = None
    videos: str | None = None
    exact_text: bool = False
    memory: int | None = None
