"""Importing features: a source, labels and segments become a feature table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from esv_ray import storage
from esv_ray.errors import DataError, count_of
from esv_ray.input.class_names import MOST_TABLE_BYTES, classes_csv, read_classes
from esv_ray.input.faults import Counts, RecordError, check_all, joined
from esv_ray.input.sources import progress_mark
from esv_ray.input.sources.advice import advice, remedy
from esv_ray.input.sources.arrays import FeatureCheck
from esv_ray.input.sources.frame_rows import open_rows
from esv_ray.input.sources.hdf5 import open_hdf5
from esv_ray.input.sources.lmdb_frames import open_lmdb
from esv_ray.input.sources.numpy_files import open_numpy
from esv_ray.input.sources.outcome import Extent, ImportProgress, ImportResult, earlier_result
from esv_ray.input.sources.play_fair import open_play_fair
from esv_ray.input.sources.records import Entry, Source
from esv_ray.input.sources.request import Format, ImportRequest
from esv_ray.input.sources.segments import rows_of, timing_of, with_numbers
from esv_ray.input.sources.selection import Selection, Tables, Wanted, labels_of, segments_of, tables_of
from esv_ray.input.sources.table_writer import TableWriter, part_name, read_state
from esv_ray.input.sources.tar_shards import open_tar

_OPENERS: Mapping[Format, Callable[[ImportRequest], AbstractContextManager[Source]]] = {
    "numpy": open_numpy,
    "hdf5": open_hdf5,
    "lmdb": open_lmdb,
    "tar": open_tar,
    "rows": open_rows,
    "play-fair": open_play_fair,
}


_MANY = 100  # faults that show that most videos have one


def import_features(
    request: ImportRequest, report: Callable[[ImportProgress], None] = lambda progress: None
) -> ImportResult:
    """Write a feature table; continue an interrupted import of the same request.

    Args:
        request: what to import.
        report: called after each video.

    Raises:
        SpecError: the request is invalid.
        DataError: the source or a CSV is unreadable, more is left out than `max_skipped` allows, or the folder of the
            table holds something else.
        ModelError: the CSV of the classes is malformed.
    """
    request.check()
    with ExitStack() as stack:
        tables, source = _inputs(request, stack)
        identity = request.identity() | _contents(request, tables, source)
        found = progress_mark.look(request.out, identity)
        if found.complete is not None:
            return earlier_result(found.complete)
        selection = Selection(source, tables, request.classes, keep_unlabelled=request.keep_unlabelled)
        return _Import(request, source, selection, identity).run(found.parts, report)


def _inputs(request: ImportRequest, stack: ExitStack) -> tuple[Tables, Source]:
    """Check the folder of the table, and read or open all inputs; return the CSVs, and the source.

    Raises:
        EsvError: some have faults; has those of all of them.
    """
    checks: dict[str, Callable[[], Any]] = {
        "--output": lambda: _check_out(request),
        "SOURCE": lambda: stack.enter_context(_OPENERS[request.format](request)),
        "--labels": lambda: labels_of(request),
        "--segments": lambda: segments_of(request),
        "--classes": lambda: _check_classes(request),
    }
    _, source, labels, segments, _ = check_all(checks)
    return tables_of(request, labels, segments), source


def _check_classes(request: ImportRequest) -> None:
    if request.classes is not None and (request.labels is not None or request.segments is not None):
        read_classes(request.classes)  # labels of the source itself, if any, come after opening it


def _check_out(request: ImportRequest) -> None:
    storage.check_outside(request.source, request.out, [part_name(0)])
    storage.check_writable(request.out, "write the feature table", progress_mark.NAMES)
    progress_mark.check_free(request.out)


def _contents(request: ImportRequest, tables: Tables, source: Source) -> dict[str, str]:
    """Return the location of the source, and checksums of the content of all locations."""
    sums = {"SOURCE": storage.absolute(request.source), "content of SOURCE": source.state}
    if tables.labels is not None:
        sums["content of --labels"] = tables.labels.checksum
    if tables.segments is not None:
        sums["content of --segments"] = tables.segments.checksum
    if request.classes is not None:
        data = storage.read_bytes(request.classes, "read the classes", most=MOST_TABLE_BYTES)
        sums["content of --classes"] = hashlib.sha256(data).hexdigest()
    return sums


class _Import:
    """An import that runs: its opened parts, and how far it has come."""

    def __init__(
        self, request: ImportRequest, source: Source, selection: Selection, identity: Mapping[str, str]
    ) -> None:
        self._request, self._source, self._selection, self._identity = request, source, selection, identity
        self._check = FeatureCheck(request.layout, request.dtype)
        self._extent = Extent()
        self._faults, self._unselected = Counts(), Counts()
        self._total: int | None = None
        self._wanted = 0  # rows that the selection asks for; of a stream: so far

    def run(self, parts: int, report: Callable[[ImportProgress], None]) -> ImportResult:
        """Write the table, from its file `parts` on."""
        request = self._request
        writer = TableWriter(request.out, labelled=self._selection.ids is not None, files=parts)
        resume_at = self._resume(parts)
        if self._source.listed:
            self._survey()
            if self._faults.total > request.max_skipped * (self._wanted + self._faults.total):
                self._check_share(before_reading=True)
        counted = (Counts(), Counts()) if self._source.listed else (self._faults, self._unselected)
        for done, (entry, wanted) in enumerate(self._selection.rows(*counted), start=1):
            if not self._source.listed:
                self._wanted += len(wanted)
            if done > resume_at or (done == resume_at and self._extent.part):
                self._extent.entries = done
                self._add(entry, wanted, writer)
                if writer.is_full:
                    self._commit(writer)
            report(ImportProgress(done, self._total, self._extent.rows))
        self._check_share()
        self._commit(writer)
        result = self._result(writer.files)
        progress_mark.complete(request.out, self._identity, result.stored())
        return result

    def _resume(self, parts: int) -> int:
        """Take over the state after the last file; return the number of entries before it."""
        if not parts:
            return 0
        state, dim, dtype = read_state(storage.join(self._request.out, part_name(parts - 1)))
        self._extent = Extent(
            **{name: int(state[name]) for name in ("entries", "part", "rows", "frames")},
            first=str(state["first"]),
            skipped=Counts(state["skipped"]),
            clipped=Counts(state["clipped"]),
        )
        self._check.resume(dim, dtype, self._extent.first)
        return self._extent.entries

    def _survey(self) -> None:
        """Count what is left out whatever the features are, before anything is read or written."""
        self._total = 0
        for _, wanted in self._selection.rows(self._faults, self._unselected):
            self._total += 1
            self._wanted += len(wanted)

    def _add(self, entry: Entry, wanted: Sequence[Wanted], writer: TableWriter) -> None:
        """Read a video and add its rows to the file."""
        extent = self._extent
        if not wanted:
            return
        try:
            frames = with_numbers(entry.read(), self._request.fps)
            features = self._check.checked(frames, entry.video_id)
        except RecordError as error:
            extent.skipped.add(error, entry.video_id, len(wanted))
            self._check_early(extent.entries)
            return
        extent.first = self._check.first
        timing, numbers = timing_of(self._request), frames.numbers
        if numbers is None and (timing.given or self._request.segments is not None):
            numbers = timing.numbers(len(features))
        begin, extent.part = extent.part, 0
        for place, row in enumerate(wanted[begin:], start=begin):
            if writer.is_full:  # overlapping segments may be many times their video
                extent.part = place
                self._commit(writer)
                extent.part = 0
            try:
                label = self._selection.label_of(row, frames.label)
                start, stop = 0, len(features)
                if row.segment is not None:
                    start, stop, is_clipped = rows_of(row.segment, frames, len(features), timing)
                    if is_clipped:
                        extent.clipped.add(RecordError("cut to the length of the video"), row.sequence_id)
            except RecordError as error:
                extent.skipped.add(error, row.sequence_id)
                continue
            # A copy: rows of a group must not hold whole untrimmed videos in memory.
            part = features[start:stop] if row.segment is None else features[start:stop].copy()
            writer.add(row.sequence_id, part, label, None if numbers is None else numbers[start:stop])
            extent.rows += 1
            extent.frames += stop - start

    def _commit(self, writer: TableWriter) -> None:
        if writer.is_empty:
            return
        if writer.files == 0:
            ids = self._selection.ids
            names = None if ids is None or ids.names is None else classes_csv(ids.names)
            progress_mark.begin(self._request.out, self._identity, names)
        writer.commit(self._extent.stored())

    def _check_share(self, *, before_reading: bool = False) -> None:
        """Refuse to leave out more than the user allows.

        Args:
            before_reading: whether faults of the features are not yet known.

        Raises:
            DataError: too much is left out, or everything.
        """
        request, extent = self._request, self._extent
        skipped = joined(self._faults, extent.skipped)
        total = self._wanted + self._faults.total  # rows whose features are skipped are among those that are wanted
        if skipped.total > request.max_skipped * total:
            number = "at least " if before_reading else ""
            raise DataError(
                f"{request.source}: {number}{skipped.total} of {total} videos, segments or labels cannot be written, "
                f"more than --max-skipped {request.max_skipped:g} allows: {skipped.text()}; "
                f"{advice(skipped, total, request, at_least=before_reading)}{self._kept()}"
            )
        if not extent.rows:
            reasons = joined(skipped, self._unselected).text() or "the source has none"
            raise DataError(
                f"{request.source}: expected videos to write, got none: {reasons}; {remedy(skipped, request)}"
            )

    def _check_early(self, read: int) -> None:
        """Refuse to read a source of which most videos have faults.

        Raises:
            DataError: most of the videos that were read have faults.
        """
        request, skipped = self._request, self._extent.skipped.total
        wanted = self._wanted + self._faults.total
        if skipped >= _MANY and skipped > read / 2 and self._source.listed and skipped > request.max_skipped * wanted:
            raise DataError(
                f"{request.source}: {skipped} of the first {read} videos have faults, more than --max-skipped "
                f"{request.max_skipped:g} allows for {wanted}: {self._extent.skipped.text()}; "
                f"{remedy(self._extent.skipped, request)}{self._kept()}"
            )

    def _kept(self) -> str:
        out = self._request.out
        if not storage.exists(storage.join(out, part_name(0))):
            return ""
        return f" ({out} holds a part of the table, which the same command continues)"

    def _result(self, files: int) -> ImportResult:
        selection, extent = self._selection, self._extent
        notes = [*selection.notes]
        if self._source.unmatched:
            notes.append(f"{count_of(self._source.unmatched, 'name')} without a match of --match: not asked for")
        notes += [
            f"{count_of(number, 'video')} {reason}: not asked for" for reason, number, _ in self._unselected.rows()
        ]
        notes += [f"{count_of(number, 'segment')} {reason}: {names}" for reason, number, names in extent.clipped.rows()]
        classes = 0 if selection.ids is None or selection.ids.names is None else len(selection.ids.names)
        assert self._check.dim is not None
        skipped = joined(self._faults, extent.skipped)
        dtype = str(self._check.dtype)
        return ImportResult(extent.rows, extent.frames, self._check.dim, dtype, files, classes, skipped, tuple(notes))
