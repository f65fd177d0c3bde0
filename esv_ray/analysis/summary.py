"""A first look at an output: how good the model is, and how its class scores are carried by elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.output.manifest import existing_manifest


@dataclass(frozen=True)
class ClassSummary:
    """Means over the videos of one labelled class, of the ESVs of that class.

    The score of a class is its prior plus what supporting elements (ESV > 0) add and distracting ones (<= 0) take.

    Attributes:
        name: class name, or its id.
        videos: (video, length) pairs.
        accuracy: share predicted right.
        prior, score: probability of the empty and of the full sequence.
        supporting, distracting: sum of the ESVs of supporting and of distracting elements.
        supporting_share: share of elements that support.
    """

    name: str
    videos: int
    accuracy: float
    prior: float
    score: float
    supporting: float
    distracting: float
    supporting_share: float


@dataclass(frozen=True)
class Summary:
    """An output at a glance.

    Attributes:
        videos: (video, length) pairs attributed.
        labelled: of them with a label.
        accuracy: share of the labelled ones predicted right; NaN without any.
        exact: of them computed exactly.
        worst_exact_gap: largest efficiency gap of exact rows.
        median_sampled_gap: median efficiency gap of sampled rows; NaN without any.
        median_stderr: median standard error of sampled ESVs; NaN without any.
        classes: of each labelled class, where its ESVs were kept.
    """

    videos: int
    labelled: int
    accuracy: float
    exact: int
    worst_exact_gap: float
    median_sampled_gap: float
    median_stderr: float
    classes: tuple[ClassSummary, ...]


def summarize(output: str) -> Summary:
    """Summarise an output held in memory; analyses of large ones stream instead.

    Raises:
        DataError: there is no output, nothing of it is committed yet, or a table cannot be read.
    """
    manifest = existing_manifest(output)
    videos = _read(output, "videos")
    videos = videos.filter(pc.equal(videos.column("status"), "ok"))
    rows = _read(output, "attributions")
    label, predicted = (_numbers(videos, name) for name in ("label", "predicted"))
    known = label >= 0
    exact = videos.column("exact").to_numpy().astype(bool)
    gaps = videos.column("efficiency_gap").to_numpy()
    stderr = rows.column("stderr").drop_null().to_numpy()
    return Summary(
        videos=videos.num_rows,
        labelled=int(known.sum()),
        accuracy=_mean(label[known] == predicted[known]),
        exact=int(exact.sum()),
        worst_exact_gap=float(gaps[exact].max(initial=0.0)),
        median_sampled_gap=float(np.median(gaps[~exact])) if (~exact).any() else float("nan"),
        median_stderr=float(np.median(stderr)) if len(stderr) else float("nan"),
        classes=_by_class(videos, rows, manifest.model["classes"], manifest.model["prior"]),
    )


def _by_class(
    videos: pa.Table, rows: pa.Table, names: list[str] | None, prior: list[float]
) -> tuple[ClassSummary, ...]:
    esv = rows.column("esv")
    support = pc.greater(esv, 0)
    zero = pa.scalar(0.0, pa.float32())
    parts = rows.select(["video_id", "n_elements", "class"]).append_column("esv_up", pc.if_else(support, esv, zero))
    parts = parts.append_column("esv_down", pc.if_else(support, zero, esv))
    parts = parts.append_column("supports", pc.cast(support, pa.float32()))
    # Threads would sum and join in another order each time, and the same output must give the same summary.
    sums = parts.group_by(["video_id", "n_elements", "class"], use_threads=False).aggregate(
        [("esv_up", "sum"), ("esv_down", "sum"), ("supports", "mean")]
    )
    width = len(prior)
    lists = videos.column("scores")
    if not pc.all(pc.equal(pc.fill_null(pc.list_value_length(lists), -1), width)).as_py() and len(lists):
        raise DataError(f"videos: expected {width} scores for every video that is ok; see esv verify")
    scores = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    # Lists do not go through a join; a row number does.
    videos = videos.append_column("row", pa.array(np.arange(videos.num_rows)))
    own = (
        videos.select(["video_id", "n_elements", "label", "predicted", "row"])
        .join(
            sums,
            keys=["video_id", "n_elements", "label"],
            right_keys=["video_id", "n_elements", "class"],
            join_type="inner",
        )
        .sort_by("row")
    )
    label, predicted = _numbers(own, "label"), _numbers(own, "predicted")
    scores = scores[own.column("row").to_numpy()]
    up, down, share = (own.column(name).to_numpy() for name in ("esv_up_sum", "esv_down_sum", "supports_mean"))
    out = []
    for index in np.unique(label):
        mine = label == index
        out.append(
            ClassSummary(
                name=names[index] if names else str(index),
                videos=int(mine.sum()),
                accuracy=_mean(predicted[mine] == index),
                prior=prior[index],
                score=_mean(scores[mine, index]),
                supporting=_mean(up[mine]),
                distracting=_mean(down[mine]),
                supporting_share=_mean(share[mine]),
            )
        )
    return tuple(out)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of class ids, null as -1."""
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
        where = storage.join(url, name)
        with storage.locating(where, "read the output"), storage.reader(where, "read the output") as file:
            try:
                tables.append(pq.read_table(file))
            except pa.ArrowException as error:
                what = short_text(error, 200)
                raise DataError(f"{where}: not readable ({what}); see esv verify {output}") from None
    return pa.concat_tables(tables)
