"""All videos of a feature table in memory, for convergence and priors; what a reader of videos knows of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from esv_ray.errors import DataError
from esv_ray.input.columns import is_flat
from esv_ray.input.features import Contract, Video, videos_of
from esv_ray.input.files import list_files
from esv_ray.input.images import check_vectors
from esv_ray.input.labels import IN_SPEC
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import check_label_names, feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.machine import host_memory
from esv_ray.spec_columns import OWN_NAMES, ColumnNames

_ROWS = 1024  # rows decoded at a time


@dataclass(frozen=True)
class VideoRequest:
    """What a reader of videos knows of a table.

    Attributes:
        columns: names of its columns.
        feature_dim: D; None: that of the table's type or of its first rows.
        n_classes: C; None: any label >= 0.
        classes: C names, which labels may have in place of ids.
        unlabelled: labels that mark videos without one.
        dim_advice: how a user gives D, for a table of flat lists.
        names_advice: how a user gives the names of classes, for a table whose labels are names.
        mark_advice: how a user says which label marks videos without one.
    """

    columns: ColumnNames = OWN_NAMES
    feature_dim: int | None = None
    n_classes: int | None = None
    classes: Sequence[str] | None = None
    unlabelled: Collection[int] = ()
    dim_advice: str = "give D"
    names_advice: str = "give the names of the classes"
    mark_advice: str = IN_SPEC


_ANY = VideoRequest()


def read_videos(url: str, request: VideoRequest = _ANY, budget: int | None = None) -> tuple[list[Video], Counter[str]]:
    """Read all valid rows of a feature table, and count the others by reason.

    The first row of an id is valid, also if several files contain the id.

    Args:
        url: the table.
        request: what is known of it.
        budget: bytes that the videos, and the decoding of a row group, may take; None: the memory of this machine.

    Raises:
        DataError: the table is unreadable, not a feature table, of another D, or too large; or labels are names of
            classes that are not known.
    """
    budget = host_memory() if budget is None else budget
    footers = read_footers(list_files(url, request.columns))
    check_vectors(footers, url, "this command")
    dim = feature_dim_of_table(url, footers, request, budget)
    if request.classes is None:
        check_label_names(footers, budget, url, request.names_advice)
    videos: dict[str, Video] = {}
    faults: Counter[str] = Counter()
    n_bytes = 0
    contract = Contract(
        dim,
        request.n_classes or INT32_MAX,
        unlabelled=request.unlabelled,
        classes=request.classes,
        mark_advice=request.mark_advice,
    )
    reader = UnitReader(contract, budget)
    for unit in plan_units(footers, _ROWS):
        rows = read_rows(unit, reader)
        faults.update(rows.faults.values())
        for video in videos_of(rows):
            if video.video_id in videos:
                faults["video_id is repeated: an earlier file has it"] += 1
            else:
                videos[video.video_id] = video
        n_bytes += int(rows.n_frames[rows.valid].sum(dtype=np.int64)) * dim * 4
        if n_bytes > budget:
            raise DataError(
                f"{url}: expected features of at most {budget} bytes, the memory available; use fewer videos"
            )
    if not videos and not faults:
        raise DataError(f"{url}: expected videos, got a table without rows")
    return list(videos.values()), faults


def feature_dim_of_table(url: str, footers: Sequence[Footer], request: VideoRequest, budget: int) -> int:
    """Return D as it is requested, or as the table says.

    Args:
        url: the table.
        footers: of its files.
        request: what is known of it.
        budget: bytes that decoding a row group may take.

    Raises:
        DataError: nothing says it, or the table says another.
    """
    dim, requested = feature_dim_of(footers, budget), request.feature_dim
    if dim is not None and requested is not None and dim != requested:
        raise DataError(f"{url}: features must be (T, {requested}), got (T, {dim})")
    if dim is not None or requested is not None:
        return dim or requested or 0
    flat = [footer for footer in footers if is_flat(footer.schema.field("features").type)]
    if flat:
        raise DataError(
            f"{url}: features are flat lists of T * D numbers, which do not say D; {request.dim_advice}, or store one "
            "list of D numbers for each frame"
        )
    raise DataError(f"{url}: expected features (T, D), but no row has frames that all have the same size D")
