"""A summary of an output: the model's accuracy, and how elements contribute to its class scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, one_line
from esv_ray.output.manifest import existing_manifest


@dataclass(frozen=True)
class ClassSummary:
    """Means over the sequences of one labelled class.

    By efficiency, score = prior + supporting + distracting.

    Attributes:
        name: class name, or its id.
        sequences: number of attributed sequences, which is one per video and length.
        accuracy: share of them whose predicted class is the label.
        prior, score: probability of the class for the empty and for the full sequence.
        supporting: sum of the ESVs of supporting elements (ESV > 0).
        distracting: sum of the ESVs of distracting elements (ESV <= 0).
        supporting_share: share of supporting elements.
    """

    name: str
    sequences: int
    accuracy: float
    prior: float
    score: float
    supporting: float
    distracting: float
    supporting_share: float


@dataclass(frozen=True)
class Summary:
    """A summary of an output.

    Attributes:
        videos: number of videos that are attributed.
        sequences: number of attributed sequences, which is one per video and length.
        labelled: number of sequences with a label.
        accuracy: share of the labelled sequences whose predicted class is the label; NaN without labels.
        exact: number of sequences computed exactly.
        worst_exact_gap: largest efficiency gap of exact rows.
        median_sampled_gap: median efficiency gap of sampled rows; NaN without any.
        median_stderr: median standard error of sampled ESVs; NaN without any.
        classes: one per labelled class whose ESVs were kept.
    """

    videos: int
    sequences: int
    labelled: int
    accuracy: float
    exact: int
    worst_exact_gap: float
    median_sampled_gap: float
    median_stderr: float
    classes: tuple[ClassSummary, ...]


def summarize(output: str) -> Summary:
    """Summarize an output; reads its tables into memory.

    Raises:
        DataError: there is no output, no unit is committed yet, or a table cannot be read.
    """
    manifest = existing_manifest(output)
    videos = _read(output, "videos")
    videos = videos.filter(pc.equal(videos.column("status"), "ok"))
    rows = _read(output, "attributions")
    label, predicted = (_numbers(videos, name) for name in ("label", "predicted"))
    labelled = label >= 0
    exact = videos.column("exact").to_numpy().astype(bool)
    gaps = videos.column("efficiency_gap").to_numpy()
    stderr = rows.column("stderr").drop_null().to_numpy()
    return Summary(
        videos=pc.count_distinct(videos.column("video_id")).as_py(),
        sequences=videos.num_rows,
        labelled=int(labelled.sum()),
        accuracy=_mean(label[labelled] == predicted[labelled]),
        exact=int(exact.sum()),
        worst_exact_gap=float(gaps[exact].max(initial=0.0)),
        median_sampled_gap=float(np.median(gaps[~exact])) if (~exact).any() else float("nan"),
        median_stderr=float(np.median(stderr)) if len(stderr) else float("nan"),
        classes=_by_class(videos, rows, manifest.model["classes"], manifest.model["prior"]),
    )


def _by_class(
    videos: pa.Table, rows: pa.Table, names: list[str] | None, prior: list[float]
) -> tuple[ClassSummary, ...]:
    scores = _scores(videos, len(prior))
    # pyarrow cannot join tables with list columns, so the scores are looked up by row number.
    videos = videos.append_column("row", pa.array(np.arange(videos.num_rows)))
    joined = (
        videos.select(["video_id", "n_elements", "label", "predicted", "row"])
        .join(
            _sums(rows),
            keys=["video_id", "n_elements", "label"],
            right_keys=["video_id", "n_elements", "class"],
            join_type="inner",
        )
        .sort_by("row")
    )
    label, predicted = _numbers(joined, "label"), _numbers(joined, "predicted")
    scores = scores[joined.column("row").to_numpy()]
    supporting, distracting, share = (
        joined.column(name).to_numpy() for name in ("supporting_sum", "distracting_sum", "supports_mean")
    )
    summaries = []
    for index in np.unique(label):
        of_class = label == index
        summaries.append(
            ClassSummary(
                name=names[index] if names else str(index),
                sequences=int(of_class.sum()),
                accuracy=_mean(predicted[of_class] == index),
                prior=prior[index],
                score=_mean(scores[of_class, index]),
                supporting=_mean(supporting[of_class]),
                distracting=_mean(distracting[of_class]),
                supporting_share=_mean(share[of_class]),
            )
        )
    return tuple(summaries)


def _sums(rows: pa.Table) -> pa.Table:
    """Return, per video, length and class, the sums of supporting and of distracting ESVs, and the supporting share."""
    esv = rows.column("esv")
    supports = pc.greater(esv, 0)
    zero = pa.scalar(0.0, pa.float32())
    keys = ["video_id", "n_elements", "class"]
    parts = rows.select(keys).append_column("supporting", pc.if_else(supports, esv, zero))
    parts = parts.append_column("distracting", pc.if_else(supports, zero, esv))
    parts = parts.append_column("supports", pc.cast(supports, pa.float32()))
    # No threads: they sum and join in varying order, but the same output must give the same summary.
    return parts.group_by(keys, use_threads=False).aggregate(
        [("supporting", "sum"), ("distracting", "sum"), ("supports", "mean")]
    )


def _scores(videos: pa.Table, n_classes: int) -> npt.NDArray[np.floating]:
    """Return the (videos, C) scores.

    Raises:
        DataError: a video has another number of scores.
    """
    lists = videos.column("scores")
    widths = pc.fill_null(pc.list_value_length(lists), -1)
    if not pc.all(pc.equal(widths, n_classes)).as_py() and len(lists):
        raise DataError(f"videos: expected {n_classes} scores for every video that is ok; see esv verify")
    flat: npt.NDArray[np.floating] = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, n_classes)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of class ids, with -1 for null."""
    return np.asarray(pc.fill_null(table.column(name), -1).to_numpy())


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _read(output: str, folder: str) -> pa.Table:
    url = storage.join(output, folder)
    names = [name for name in storage.list_names(url, "list the output") if name.endswith(".parquet")]
    if not names:
        raise DataError(f"{url}: expected committed units, found none; run the job first")
    tables = []
    for name in names:
        file_url = storage.join(url, name)
        with storage.locating(file_url, "read the output"), storage.reader(file_url, "read the output") as file:
            try:
                tables.append(pq.read_table(file))
            except pa.ArrowException as error:
                raise DataError(f"{file_url}: not readable ({one_line(error)}); see esv verify {output}") from None
    return pa.concat_tables(tables)
