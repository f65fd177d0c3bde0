"""A folder that FiftyOne imports (`fiftyone.types.FiftyOneDataset`): a sample per video, ESVs as fields of frames."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from esv_ray import storage
from esv_ray.errors import DataError, count_of
from esv_ray.export.fiftyone_documents import Document, dataset_document, object_id
from esv_ray.export.fiftyone_documents import field as field_of
from esv_ray.export.request import Request
from esv_ray.export.sequences import AttributedSequence, sequences_of
from esv_ray.export.source import Source, check_place, open_source, publish
from esv_ray.export.videos import clips_of
from esv_ray.extraction.videos.clip import Clip

SAMPLES, FRAMES, DATASET = "samples.json", "frames.json", "metadata.json"
MOST_SUPPORTING = 3
"""Elements of a class that are marked as temporal detections."""
_MOST_SLUG = 40
_COLUMNS = ("label", "predicted", "scores", "exact")


@dataclass
class _Written:
    """Progress of an export.

    Attributes:
        videos: their ids.
        classes: ids of classes with a field.
        lost: videos without a file.
        repeated: further videos of an id.
    """

    videos: set[str] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)
    lost: int = 0
    repeated: int = 0


def write(request: Request) -> list[str]:
    """Write the folder; metadata.json comes last.

    Returns:
        Notes, one line each.

    Raises:
        SpecError: nothing says where the videos are.
        DataError: as `registry.export`; or none of the videos has ESVs and a file.
    """
    source = open_source(request)
    with source.opened.con, TemporaryDirectory(prefix="esv-export-") as place:
        check_place(request, request.path, [SAMPLES, FRAMES, DATASET])
        clips = clips_of(request, source)
        names = _names(source)
        written = _Written()
        with _listing(Path(place), SAMPLES) as samples, _listing(Path(place), FRAMES) as frames:
            for sequence in _chosen(source, request.elements):
                clip = clips.get(sequence.video["video_id"])
                written.lost += clip is None
                written.repeated += sequence.video["video_id"] in written.videos
                if clip is None or sequence.video["video_id"] in written.videos:
                    continue
                _add(samples, frames, sequence, clip, source, names)
                written.videos.add(sequence.video["video_id"])
                written.classes |= set(sequence.esvs)
        if not written.videos:
            raise _nothing(request, written, clips)
        document = dataset_document(
            source.manifest.job,
            [_frame_field(class_id, names, source) for class_id in sorted(written.classes)],
            names,
            {"output": request.output, "unit": "logit" if source.in_logits else "probability"},
        )
        (Path(place) / DATASET).write_text(json.dumps(document, indent=1) + "\n")
        files = {storage.join(request.path, name): Path(place) / name for name in (SAMPLES, FRAMES, DATASET)}
        publish(request, files)
    lost = [f"{count_of(written.lost, 'video')} left out, because no file was found"] * bool(written.lost)
    repeated = [f"{count_of(written.repeated, 'video')} left out, because their id occurs earlier"] * bool(
        written.repeated
    )
    return [*source.opened.unfinished, *lost, *repeated, *_elsewhere(clips)]


def field_name(class_id: int, name: str | None) -> str:
    """Return the field of a class: its id makes it unique, and the letters and digits of its name make it readable."""
    plain = unicodedata.normalize("NFKD", name or "").encode("ascii", "ignore").decode().lower()
    slug = re.sub("[^a-z0-9]+", "_", plain)[:_MOST_SLUG].strip("_")
    return f"esv_{class_id}_{slug}" if slug else f"esv_{class_id}"


def supports(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Return the stretch of a video that each element stands for, as first and last frame, counted from 1.

    A stretch reaches halfway to the neighboring elements; the first begins, and the last ends, at its own frame. If
    elements are not in time order, each stands only for its own frame.
    """
    numbers = [frame + 1 for frame in frames]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        return [(number, number) for number in numbers]
    halves = [(earlier + later) // 2 for earlier, later in pairwise(numbers)]
    return list(zip([numbers[0], *(half + 1 for half in halves)], [*halves, numbers[-1]], strict=True))


def _chosen(source: Source, elements: int | None) -> Iterator[AttributedSequence]:
    """Yield one sequence of each video: that of a number of elements, or the longest.

    The lengths of a video follow each other in the tables, so a video is known when the next one begins.
    """
    longest: AttributedSequence | None = None
    for sequence in sequences_of(source, _COLUMNS):
        if elements is not None:
            if sequence.video["n_elements"] == elements:
                yield sequence
            continue
        if longest is not None and longest.video["video_id"] != sequence.video["video_id"]:
            yield longest
            longest = None
        if longest is None or sequence.video["n_elements"] > longest.video["n_elements"]:
            longest = sequence
    if longest is not None:
        yield longest


def _names(source: Source) -> list[str]:
    """Return the names of classes by id, each once: one that occurs twice has its id."""
    names = source.names or [f"class {class_id}" for class_id in range(source.manifest.model["n_classes"])]
    times = Counter(names)
    return [f"{name} ({class_id})" if times[name] > 1 else name for class_id, name in enumerate(names)]


def _frame_field(class_id: int, names: Sequence[str], source: Source) -> Document:
    name = field_name(class_id, source.names[class_id] if source.names else None)
    return field_of(name, "FloatField", description=f"ESV of the frame for {names[class_id]}")


def _add(
    samples: _Lines, frames: _Lines, sequence: AttributedSequence, clip: Clip, source: Source, names: Sequence[str]
) -> None:
    """Add a video."""
    video, key = sequence.video, (source.manifest.job, sequence.video["video_id"])
    sample = object_id(*key)
    label, predicted = video["label"], video["predicted"]
    samples.add(
        {
            "_id": sample,
            "filepath": clip.path,
            "tags": [],
            "metadata": None,
            "_media_type": "video",
            "_rand": 0.999 + int(sample["$oid"][8:16], 16) / 2**32 / 1000,
            "video_id": video["video_id"],
            "ground_truth": None if label is None else _classification(names[label], None, *key, "label"),
            "predicted": _classification(names[predicted], _number(video["scores"][predicted]), *key, "predicted"),
            "score": _number(video["scores"][predicted]),
            "n_elements": video["n_elements"],
            "exact": video["exact"],
            "supporting": {"_cls": "TemporalDetections", "detections": _detections(sequence, key, names)},
        }
    )
    for number, values in _by_frame(sequence, source).items():
        frames.add({"_id": object_id(*key, number), "_sample_id": sample, "frame_number": number, **values})


def _by_frame(sequence: AttributedSequence, source: Source) -> dict[int, dict[str, Any]]:
    """Return the fields of frames by number, from 1; a frame that is several elements has the sum of their ESVs."""
    found: dict[int, dict[str, Any]] = {}
    for element, frame in enumerate(sequence.frames.tolist()):
        values = found.setdefault(frame + 1, {"element": element})
        for class_id, esvs in sequence.esvs.items():
            name = field_name(class_id, source.names[class_id] if source.names else None)
            values[name] = values.get(name, 0.0) + _number(esvs[element])
    return found


def _classification(name: str, confidence: float | None, *key: object) -> Document:
    return {
        "_id": object_id(*key),
        "_cls": "Classification",
        "tags": [],
        "label": name,
        "confidence": confidence,
        "logits": None,
    }


def _detections(sequence: AttributedSequence, key: tuple[str, str], names: Sequence[str]) -> list[Document]:
    """Return the most supporting elements of the predicted class, and of the label if it is another."""
    stretches = supports(sequence.frames.tolist())
    found: list[Document] = []
    for class_id in dict.fromkeys((sequence.video["predicted"], sequence.video["label"])):
        esvs = sequence.esvs.get(class_id)
        if esvs is None:
            continue
        best = [element for element in np.argsort(-esvs, kind="stable").tolist() if esvs[element] > 0]
        found += [
            {
                "_id": object_id(*key, class_id, element, "supporting"),
                "_cls": "TemporalDetection",
                "tags": [],
                "label": names[class_id],
                "support": list(stretches[element]),
                "confidence": None,
                "esv": _number(esvs[element]),
                "element": element,
            }
            for element in best[:MOST_SUPPORTING]
        ]
    return found


def _number(value: np.floating[Any] | float) -> float:
    """Return a float32 as the float with its shortest text."""
    return float(str(np.float32(value)))


class _Lines:
    """A JSON file with one list, whose items are written as they come."""

    def __init__(self, file: IO[str], name: str) -> None:
        self._file, self._between = file, ""
        file.write(f'{{"{name}": [\n')

    def add(self, document: Document) -> None:
        """Add an item."""
        self._file.write(self._between + json.dumps(document, allow_nan=False))
        self._between = ",\n"

    def end(self) -> None:
        """End the list."""
        self._file.write("\n]}\n")


@contextmanager
def _listing(folder: Path, name: str) -> Iterator[_Lines]:
    with (folder / name).open("w", encoding="ascii") as file:
        lines = _Lines(file, name.removesuffix(".json"))
        yield lines
        lines.end()


def _nothing(request: Request, written: _Written, clips: Mapping[str, Clip]) -> DataError:
    if not written.lost:
        of = "" if request.elements is None else f" at {request.elements} elements"
        return DataError(f"{request.output}: expected videos with ESVs{of}, found none")
    return DataError(
        f"{request.output}: expected files of its videos, found none of {written.lost}; one file has the id "
        f"{next(iter(clips))!r:.100}; check --videos, whose ids must be those of the feature table"
    )


def _elsewhere(clips: Mapping[str, Clip]) -> list[str]:
    """Return a note if files are not on this machine."""
    far = sum("://" in clip.path for clip in clips.values())
    return [f"{count_of(far, 'video')} not on this machine: FiftyOne needs access to their locations"] * bool(far)
