"""Select what an import writes: every video once, or its segments, with their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from esv_ray.errors import DataError, SpecError
from esv_ray.input.faults import Counts, RecordError
from esv_ray.input.plain import LONGEST_ID
from esv_ray.input.sources.labels import ClassIds, LabelTable, class_ids, read_labels, stem
from esv_ray.input.sources.records import Entry, Source
from esv_ray.input.sources.request import ImportRequest
from esv_ray.input.sources.segments import Segment, SegmentTable, read_segments

NO_LABEL = RecordError("a video without a label")


class Wanted(NamedTuple):
    """A row of the table to be written.

    Attributes:
        sequence_id: its id.
        label: class id, or None.
        segment: of the video, or None: the whole video.
    """

    sequence_id: str
    label: int | None
    segment: Segment | None


@dataclass(frozen=True)
class Tables:
    """The CSVs of a request, read.

    Attributes:
        labels, segments: None where they are not given.
    """

    labels: LabelTable | None
    segments: SegmentTable | None


def labels_of(request: ImportRequest) -> LabelTable | None:
    """Read the labels of a request.

    Raises:
        DataError: the CSV is malformed.
    """
    split = None if request.format == "play-fair" else request.split
    return None if request.labels is None else read_labels(request.labels, split)


def segments_of(request: ImportRequest) -> SegmentTable | None:
    """Read the segments of a request.

    Raises:
        DataError: the CSV is malformed.
    """
    split = None if request.format == "play-fair" or request.labels is not None else request.split
    return None if request.segments is None else read_segments(request.segments, split, request.fps)


def tables_of(request: ImportRequest, labels: LabelTable | None, segments: SegmentTable | None) -> Tables:
    """Return the CSVs of a request.

    Raises:
        DataError: both give labels.
    """
    if labels is not None and segments is not None and segments.texts is not None:
        raise DataError(
            f"{request.segments}: its column label gives labels, and so does --labels; leave --labels out, or "
            "remove the column"
        )
    return Tables(labels, segments)


class Selection:
    """Decides for each video of a source which rows are written, without reading its features."""

    def __init__(self, source: Source, tables: Tables, classes: str | None, *, keep_unlabelled: bool) -> None:
        """Decide the class ids of the labels.

        Args:
            source: the source.
            tables: labels and segments.
            classes: location of a CSV with the names of the classes, or None.
            keep_unlabelled: whether videos without a label are written.

        Raises:
            ModelError: the CSV of the classes is malformed.
            SpecError: it is given, and there are no labels.
        """
        self._source, self._tables, self._keeps = source, tables, keep_unlabelled
        self._from_source = self._some_labelled = False
        self.ids: ClassIds | None = None
        self.notes: list[str] = []
        if tables.labels is not None:
            self.ids, self.notes = class_ids(tables.labels.texts, classes)
        elif tables.segments is not None and tables.segments.texts is not None:
            self.ids, self.notes = class_ids(tables.segments.texts, classes)
        elif source.has_labels:
            self._from_source = True
            labels = self._noted(source.labels())  # of tar files, a pass over the shards
            if classes is not None:
                next(labels, None)
            self.ids, self.notes = class_ids(labels if classes is None else (), classes)
        elif classes is not None:
            raise SpecError("--classes names the classes of labels, and there are none; give --labels")

    def rows(self, faults: Counts, unselected: Counts) -> Iterator[tuple[Entry, Sequence[Wanted]]]:
        """Yield each video of the source with its rows to be written, which may be none.

        Args:
            faults: receives what is left out because of a fault; labels and segments without a video at the end.
            unselected: receives videos that are not asked for.
        """
        repeated: set[str] = set()
        if self._source.listed:
            repeated = {
                name for name, number in Counter(e.video_id for e in self._source.entries()).items() if number > 1
            }
        videos: set[str] = set()
        keys: set[str] = set()
        sequences: set[str] = set()
        for entry in self._source.entries():
            rows: list[Wanted] = []
            if self._tables.labels is not None:
                keys.add(self._tables.labels.key_of(entry))
            try:
                _check_id(entry.video_id)
                if entry.video_id in repeated or entry.video_id in videos:
                    raise RecordError("several files of one id", entry.path)
                videos.add(entry.video_id)
                rows = self._rows_of(entry, faults, unselected)
            except RecordError as error:
                faults.add(error, entry.video_id)
            kept = []
            for row in rows:
                if row.sequence_id in sequences:
                    faults.add(RecordError("several segments of one id"), row.sequence_id)
                else:
                    sequences.add(row.sequence_id)
                    kept.append(row)
            yield entry, kept
        self._count_orphans(videos | repeated, keys, faults)

    def label_of(self, row: Wanted, label: int | str | None) -> int | None:
        """Return the label of a row, given that of the video in the source.

        Raises:
            RecordError: it is no class; or the video has no label, while others have.
        """
        if not self._from_source or self.ids is None:
            return row.label
        if label is None and self._some_labelled and not self._keeps:
            raise NO_LABEL
        return None if label is None else self.ids.id_of(label)

    def _noted(self, labels: Iterable[int | str]) -> Iterator[int | str]:
        """Yield the labels of the source, and record that there are some."""
        for label in labels:
            self._some_labelled = True
            yield label

    def _rows_of(self, entry: Entry, faults: Counts, unselected: Counts) -> list[Wanted]:
        label = None
        labels, segments = self._tables.labels, self._tables.segments
        if segments is not None and entry.video_id not in segments.by_video:
            other = entry.video_id in segments.others
            unselected.add(RecordError("of another split" if other else "without a segment"), entry.video_id)
            return []
        if labels is not None:
            if labels.key_of(entry) in labels.others:
                unselected.add(RecordError("of another split"), entry.video_id)
                return []
            label = self._id_of(labels.label_of(entry))
        if segments is None:
            return [Wanted(entry.video_id, label, None)]
        rows = []
        for segment in segments.by_video[entry.video_id]:
            try:
                _check_id(segment.sequence_id)
                if segment.sequence_id in segments.ambiguous:
                    raise RecordError("several segments of one id with other times or labels")
                own = label if segments.texts is None else self._id_of(segment.label or None)
                rows.append(Wanted(segment.sequence_id, own, segment))
            except RecordError as error:
                faults.add(error, segment.sequence_id)
        return rows

    def _id_of(self, text: str | None) -> int | None:
        if text is None:
            if self._keeps:
                return None
            raise NO_LABEL
        assert self.ids is not None
        return self.ids.id_of(text)

    def _count_orphans(self, videos: set[str], keys: set[str], faults: Counts) -> None:
        labels, segments = self._tables.labels, self._tables.segments
        if labels is not None:
            for key in labels.labels:
                if key not in keys:
                    is_path = labels.stems is None and stem(key) in videos
                    hint = " (a name of a file: call the column path)" if is_path else ""
                    faults.add(RecordError(f"a label without a video{hint}"), key)
        if segments is not None:
            for video, rows in segments.by_video.items():
                for row in rows if video not in videos else ():
                    faults.add(RecordError("a segment without a video"), row.sequence_id)


def _check_id(video_id: str) -> None:
    try:
        n_bytes = len(video_id.encode())
    except UnicodeEncodeError:
        raise RecordError("an id that is not UTF-8") from None
    if not 0 < n_bytes <= LONGEST_ID:
        raise RecordError(f"an id of 1 to {LONGEST_ID} bytes is needed", f"{n_bytes} bytes")
