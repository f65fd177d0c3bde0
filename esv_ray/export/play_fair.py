"""The pickle that the dashboard of the paper's authors reads (github.com/willprice/play-fair).

Layout at commit 2e9c1b6: `src/scripts/collate_esvs.py` writes it, `src/apps/esv_dashboard/visualise_esvs.py` reads it.
The dashboard's slider shows the first k elements of the k-th entry, so entry k must be the one of k elements. Entries
of lengths that the job did not compute are NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.sql import select
from esv_ray.errors import DataError, SpecError, count_of
from esv_ray.export.pickles import PickleWriter
from esv_ray.export.request import Request
from esv_ray.export.source import Source, check_place, open_source, publish, split

MOST_ELEMENTS = 512
"""Longest sequence: the pickle has an entry for each length up to it."""
_VIDEOS = "SELECT video_id, label, n_frames, n_elements, scores FROM videos WHERE status = 'ok'"
_ROWS = "SELECT video_id, n_elements, \"class\", element, frame_index, esv FROM attributions WHERE method = 'esv'"
_NAMED = 8


@dataclass(frozen=True)
class _Chosen:
    """The videos that are written, those that have every length.

    Attributes:
        rows: place of each by its id.
        labels: (N,).
        lengths: (N,) frames of each.
        sizes: numbers of elements, ascending.
    """

    rows: Mapping[str, int]
    labels: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    sizes: Sequence[int]


def write(request: Request) -> list[str]:
    """Write the file.

    Returns:
        Notes, one line each.

    Raises:
        SpecError: the ESVs are of logits.
        DataError: as `registry.export`; or no labeled video has every length, or sequences are too long.
    """
    folder, name = split(request.path)
    source = open_source(request)
    with source.opened.con, TemporaryDirectory(prefix="esv-export-") as place:
        if source.in_logits:
            raise SpecError(
                f"{request.output}: expected ESVs of probabilities, which the dashboard shows, got ESVs of logits; run "
                "the job with estimator.output=probability"
            )
        check_place(request, folder, [name])
        chosen, notes = _choose(source, request.output)
        arrays = _Arrays(Path(place), chosen, source.manifest.model["n_classes"])
        arrays.fill(source)
        made = Path(place) / "made.pkl"
        _write(made, arrays, chosen, source)
        publish(request, {request.path: made})
    computed = set(chosen.sizes)
    if empty := max(computed) - len(computed):
        listed = ", ".join(map(str, chosen.sizes[:_NAMED])) + ", ..." * (len(computed) > _NAMED)
        notes.append(
            f"{count_of(empty, 'length')} without values, since the job computed {listed} elements; for all of them "
            f"run it with frames=[1,2,...,{max(computed)}]"
        )
    if arrays.unknown:
        notes.append("ESVs of classes that the job did not keep are NaN; for all of them run it with classes=all")
    return [*source.opened.unfinished, *notes]


def _choose(source: Source, output: str) -> tuple[_Chosen, list[str]]:
    """Choose the videos, and note those that are left out.

    Raises:
        DataError: there is none, or a sequence is too long.
    """
    found: dict[str, tuple[int, int | None, int]] = {}
    sizes: set[int] = set()
    frames = source.manifest.spec["frames"]
    wanted = None if frames == "all" else set(frames if isinstance(frames, list) else [frames])
    for batch in select(source.opened, _VIDEOS.replace(", scores", "")).batches:
        for row in batch.to_pylist():
            video_id, n = row["video_id"], row["n_elements"]
            counted = wanted is None or n in wanted  # a shorter video has the number of its frames
            sizes |= {n} if counted else set()
            found[video_id] = (found.get(video_id, (0,))[0] + counted, row["label"], row["n_frames"])
    if sizes and max(sizes) > MOST_ELEMENTS:
        raise DataError(
            f"{output}: expected at most {MOST_ELEMENTS} elements, since the dashboard has an entry for each length, "
            f"got {max(sizes)}; export with --to npz"
        )
    labelled = {video_id: value for video_id, value in found.items() if value[1] is not None}
    whole = {video_id: value for video_id, value in labelled.items() if value[0] == len(sizes)}
    if not whole:
        raise DataError(
            f"{output}: expected labeled videos with ESVs at every length, found none of {len(found)} "
            f"({len(labelled)} with a label, {count_of(len(sizes), 'length')}); the dashboard needs a label of each "
            "video, and the same numbers of elements (frames=8, or frames=[1,2,3,4])"
        )
    notes = [f"{count_of(len(found) - len(labelled), 'video')} without a label left out"] * (len(labelled) < len(found))
    missing = len(labelled) - len(whole)
    notes += [f"{count_of(missing, 'video')} left out, because ESVs at some length are missing"] * bool(missing)
    numbers = np.array([value[1:] for value in whole.values()], np.int64)
    rows = {video_id: place for place, video_id in enumerate(whole)}
    return _Chosen(rows, numbers[:, 0], numbers[:, 1], sorted(sizes)), notes


class _Arrays:
    """The arrays by number of elements, in files.

    Attributes:
        scores: (L, N, C) for lengths 1 to L.
        frames: by number of elements n: (N, n) frame numbers.
        esvs: by number of elements n: (N, n, C).
        unknown: whether ESVs of a class are missing.
    """

    def __init__(self, folder: Path, chosen: _Chosen, n_classes: int) -> None:
        self._chosen = chosen
        count, longest = len(chosen.rows), max(chosen.sizes)

        def new(name: str, shape: tuple[int, ...], kind: str, value: float) -> npt.NDArray[Any]:
            array = np.memmap(folder / name, kind, "w+", shape=shape)
            for part in array:
                part[...] = value
            return np.asarray(array)

        self.scores = new("scores", (longest, count, n_classes), "<f4", np.nan)
        self.frames = {n: new(f"frames-{n}", (count, n), "<i8", -1) for n in chosen.sizes}
        self.esvs = {n: new(f"esvs-{n}", (count, n, n_classes), "<f4", np.nan) for n in chosen.sizes}
        self.unknown = False

    def fill(self, source: Source) -> None:
        """Copy the values of the tables, as they stream."""
        expected = written = 0
        for batch in select(source.opened, _VIDEOS).batches:
            rows, at = self._places(batch)
            lengths = batch.column("n_elements").to_numpy(False)[at]
            scores = batch.column("scores").flatten().to_numpy(False).reshape(batch.num_rows, -1)[at]
            self.scores[lengths - 1, rows] = scores
            expected += int(lengths.sum()) * self.scores.shape[2]
        for batch in select(source.opened, _ROWS).batches:
            rows, at = self._places(batch)
            lengths, classes, elements, frames, esvs = (
                batch.column(name).to_numpy(False)[at]
                for name in ("n_elements", "class", "element", "frame_index", "esv")
            )
            for n in np.unique(lengths).tolist():
                of = lengths == n
                self.frames[n][rows[of], elements[of]] = frames[of]
                self.esvs[n][rows[of], elements[of], classes[of]] = esvs[of]
            written += len(rows)
        self.unknown = written < expected

    def _places(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the places of the chosen videos of a batch, and which rows are theirs, at lengths of `sizes`."""
        codes = batch.column("video_id").dictionary_encode()
        known = np.array([self._chosen.rows.get(video_id, -1) for video_id in codes.dictionary.to_pylist()], np.int64)
        places = known[codes.indices.to_numpy(False)] if len(codes) else np.zeros(0, np.int64)
        chosen = (places >= 0) & np.isin(batch.column("n_elements").to_numpy(False), self._chosen.sizes)
        return places[chosen], chosen


def _write(path: Path, arrays: _Arrays, chosen: _Chosen, source: Source) -> None:
    n_classes = arrays.scores.shape[2]
    count, lengths = len(chosen.rows), range(1, max(chosen.sizes) + 1)
    with path.open("wb") as file:
        pickle = PickleWriter(file)
        pickle.text("uids")
        pickle.texts(chosen.rows)
        for name, values in (
            ("labels", chosen.labels),
            ("sequence_lengths", chosen.lengths),
            ("priors", np.array(source.manifest.model["prior"], np.float64)),
            ("scores", arrays.scores),
        ):
            pickle.text(name)
            pickle.array(values)
        pickle.text("sequence_idxs")
        pickle.begin_list()
        for n in lengths:
            if n in arrays.frames:
                pickle.array(arrays.frames[n])
            else:
                pickle.repeated(np.zeros(n, np.int64), count)
        pickle.end_list()
        pickle.text("shapley_values")
        pickle.begin_list()
        for n in lengths:
            if n in arrays.esvs:
                pickle.array(arrays.esvs[n])
            else:
                pickle.repeated(np.full((n, n_classes), np.nan, np.float32), count)
        pickle.end_list()
        pickle.text("attrs")
        pickle.dictionary({"model": f"esv_ray {source.manifest.model['digest'][:8]}"})
        pickle.end()
