"""Find the videos of an extraction: those of a folder or a glob, one file, or those of a list; with ids and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from esv_ray import storage
from esv_ray.errors import DataError, SpecError, count_of
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.videos.lists import SUFFIXES as LIST_SUFFIXES
from esv_ray.extraction.videos.lists import Listed, read_list
from esv_ray.input.faults import Lines
from esv_ray.input.sources.labels import LabelTable, class_ids, read_labels
from esv_ray.input.sources.records import Entry, Frames

SUFFIXES = frozenset(
    (
        "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2ts", "m2v",
        "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "ogg", "ogv", "qt",
        "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m",
    )
)  # fmt: skip
"""Suffixes of the files that are taken from a folder."""
_DOING = "list the videos"
_SHOWN = 3


@dataclass(frozen=True)
class FoundVideos:
    """The videos of an extraction.

    Attributes:
        clips: sorted by id.
        names: of the classes by id, if labels are names; else None.
        labelled: whether any has a label.
        notes: what the user should know, one line each.
        further: Arrow types of the further columns of a list, by name (`columns.FurtherColumns`).
    """

    clips: tuple[Clip, ...]
    names: tuple[str, ...] | None
    labelled: bool
    notes: tuple[str, ...] = ()
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """A video before its label is known: its path below the folder, and where it is from."""

    clip: Clip
    below: str
    place: str
    label: str = ""


def find_videos(videos: str, labels: str | None = None, classes: str | None = None) -> FoundVideos:
    """Find videos, with their ids and labels.

    Args:
        videos: a folder (searched recursively, names that begin with a dot skipped), a glob, a video file, or a CSV or
            Parquet file that lists videos.
        labels: CSV with the columns video_id or path, and label.
        classes: CSV with the columns name and id.

    Raises:
        DataError: there are no videos, or they cannot be listed; two have one id; a label is no class.
        SpecError: the options do not go together.
    """
    further: Mapping[str, str] = {}
    notes: list[str] = []
    if videos.lower().endswith(LIST_SUFFIXES):
        rows, columns = read_list(videos)
        found, further = [*_of_list(rows)], columns.types
        if columns.left_out:
            notes.append(f"{videos}: columns that a feature table cannot keep: {', '.join(columns.left_out):.200}")
    else:
        found = [*_of_files(videos)]
    _check_ids(videos, found)
    found.sort(key=lambda each: each.clip.video_id.encode())
    if labels is not None:
        if any(each.label for each in found):
            raise SpecError(f"labels: the list {videos} has labels of its own; leave --labels or its column label out")
        found, of_labels = _labelled(found, labels)
        notes += of_labels
    texts = [each.label for each in found if each.label]
    if not texts:
        if classes is not None:
            raise SpecError("classes: the videos have no labels; leave --classes out, or give labels")
        return FoundVideos(tuple(each.clip for each in found), None, False, tuple(notes), further)
    ids, more = class_ids(texts, classes)
    clips = []
    faults = Lines("")
    for each in found:
        with faults.at(each.place):
            clips.append(replace(each.clip, label=ids.id_of(each.label)) if each.label else each.clip)
    if text := faults.text():
        raise DataError(text)
    return FoundVideos(tuple(clips), ids.names, True, (*notes, *more), further)


def _of_files(videos: str) -> Iterable[_Found]:
    files = storage.find(videos, _DOING, _is_video, hidden=True)
    if not files:
        names = storage.list_names(videos, _DOING)
        shown = ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
        hint = f" (found there: {shown})" if names else ""
        raise DataError(f"{videos}: expected videos, found none{hint}; check the location")
    root = storage.root_of(videos, files[0].url)
    for file in files:
        below = file.below or (storage.path_below(root, file.url) if root is not None else None)
        below = below or file.url.rpartition("/")[2]
        yield _Found(Clip(stem_of(below), file.url), below, file.url)


def _is_video(below: str) -> bool:
    parts = below.split("/")
    return parts[-1].rpartition(".")[2].lower() in SUFFIXES and not any(part.startswith(".") for part in parts)


def stem_of(path: str) -> str:
    """Return a path without its suffix."""
    folder, slash, name = path.rpartition("/")
    before, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{before if dot and before else name}"


def _of_list(rows: Sequence[Listed]) -> Iterable[_Found]:
    for row in rows:
        name = row.path.rpartition("/")[2]
        clip = Clip(row.video_id or stem_of(name), row.path, None, row.start, row.end, row.further)
        yield _Found(clip, name, row.place, row.label)


def _check_ids(videos: str, found: Sequence[_Found]) -> None:
    """Refuse ids that are not text or occur twice."""
    places: dict[str, str] = {}
    for each in found:
        video_id = each.clip.video_id
        try:
            video_id.encode()
        except UnicodeEncodeError:
            raise DataError(f"{each.place!r:.200}: expected a name in UTF-8, got other bytes; rename it") from None
        if video_id in places:
            _refuse_repeated(videos, video_id, places[video_id], each.place)
        places[video_id] = each.place


def _refuse_repeated(videos: str, video_id: str, first: str, second: str) -> NoReturn:
    raise DataError(
        f"{videos}: expected every video_id once, got {video_id!r:.100} from {first:.200} and {second:.200}; rename "
        "one, or list the videos in a CSV with the columns video_id and path"
    )


def _labelled(found: Sequence[_Found], labels: str) -> tuple[list[_Found], list[str]]:
    """Return videos with the labels of a CSV, and notes."""
    table: LabelTable = read_labels(labels, None)
    out: list[_Found] = []
    missing, used, faults = 0, set(), Lines("")
    for each in found:
        entry = Entry(each.clip.video_id, each.below, _no_frames)
        with faults.at(f"{each.clip.video_id!r:.100}"):
            label = table.label_of(entry)
            used.add(table.key_of(entry))
            missing += not label
            out.append(replace(each, label=label or ""))
    if text := faults.text():
        raise DataError(f"{labels}: {text}")
    if missing == len(found):
        first, other = found[0], next(iter(table.labels), "")
        got = first.clip.video_id if table.stems is None else first.below
        raise DataError(
            f"{labels}: expected labels of the videos, got none of theirs: a video is {got!r:.100}, a label is of "
            f"{other!r:.100}"
        )
    notes = [f"{count_of(missing, 'video')} without a label in {labels}"] * bool(missing)
    strangers = len([key for key in table.labels if key not in used])
    notes += [f"{count_of(strangers, 'label')} of no video in {labels}"] * bool(strangers)
    return out, notes


def _no_frames() -> Frames:
    raise AssertionError("labels need no frames")
