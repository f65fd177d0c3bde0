"""Which videos of an output to look at: the first that are misclassified, classified correctly, or without a label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from esv_ray.output.layout import VIDEOS
from esv_ray.output.manifest import existing_manifest
from esv_ray.show.read import file_names, read_columns
from esv_ray.show.text import ClassText, distinct, printable

_COLUMNS = ("video_id", "label", "predicted", "status")
_MOST_NAME = 40


@dataclass(frozen=True)
class ListedVideo:
    """A video with ESVs, its label if it has one, and its predicted class."""

    video_id: str
    label: int | None
    predicted: int


@dataclass(frozen=True)
class Listing:
    """The first videos of each outcome, in the order of the tables, at most `most`, and the names of the classes."""

    most: int
    wrong: list[ListedVideo] = field(default_factory=list)
    right: list[ListedVideo] = field(default_factory=list)
    unlabelled: list[ListedVideo] = field(default_factory=list)
    classes: tuple[str, ...] | None = None


def list_videos(output: str, most: int) -> Listing:
    """Return the first videos of an output by outcome; stops reading when it has enough of them.

    Args:
        output: of a job, finished or not.
        most: of each outcome.

    Raises:
        DataError: there is no output.
    """
    names = existing_manifest(output).model["classes"]
    listing = Listing(most, classes=tuple(names) if names else None)
    seen: set[str] = set()  # an output of several lengths has several rows of a video
    for file in file_names(output):
        for row in read_columns(output, VIDEOS, file, _COLUMNS).to_pylist():
            if row["status"] != "ok" or row["video_id"] in seen:
                continue
            video = ListedVideo(row["video_id"], row["label"], row["predicted"])
            outcomes = listing.right if video.label == video.predicted else listing.wrong
            outcomes = listing.unlabelled if video.label is None else outcomes
            if len(outcomes) < most:
                outcomes.append(video)
                seen.add(video.video_id)
        if min(len(listing.wrong), len(listing.right)) >= most or len(listing.unlabelled) >= most:
            break
    return listing


def listing_lines(listing: Listing) -> Iterator[str]:
    """Return the lines that a listing is on a terminal."""

    classes = [ClassText(name or f"class {class_id}", class_id) for class_id, name in enumerate(listing.classes or ())]
    names = distinct(classes, _MOST_NAME)

    def named(class_id: int) -> str:
        return names[class_id] if names else str(class_id)

    for title, videos in (
        ("misclassified", listing.wrong),
        ("classified correctly", listing.right),
        ("without a label", listing.unlabelled),
    ):
        if not videos and title == "misclassified" and listing.right:
            yield "misclassified: none"
        if videos:
            first = f" (the first {listing.most})" if len(videos) == listing.most else ""
            yield f"{title}{first}:"
        for video in videos:
            label = "" if video.label in (None, video.predicted) else f"label {named(video.label or 0)}, "
            yield f"  {printable(video.video_id)}  {label}predicted {named(video.predicted)}"
