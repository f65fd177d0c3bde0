"""Figure of the facet `contrasts`: the videos that are misled most, element by element (Fig. 7 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from esv_ray.analysis.figures.clearest import frequent_lengths, numbers
from esv_ray.analysis.figures.keys import Key, address_of
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, check_columns, has, read_rows
from esv_ray.analysis.figures.wording import signed
from esv_ray.errors import count_of
from esv_ray.show.chart import element_bars
from esv_ray.show.text import printable, standard_error_note

if TYPE_CHECKING:
    import altair

_KEYS = ["video_id", "n_elements", "element", "frame_index"]
_VALUES = ["label", "predicted", "difference", "stderr"]
_MOST_VIDEOS, _NUMBERED = 6, 24


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the class-contrastive ESVs of the few videos with the most misleading elements.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    check_columns(table, "contrasts", _KEYS, _VALUES)
    lengths, note = frequent_lengths(table, 3)
    panels, findings, sampled = [], [], False
    for n in lengths:
        for video in _most_misled(table, n, _MOST_VIDEOS // len(lengths)):
            worst = min((row for row in video if has(row, "difference")), key=lambda row: float(row["difference"]))
            label, predicted = (look.class_quoted(video[0][name]) for name in ("label", "predicted"))
            name = printable(video[0]["video_id"])
            words = (
                f"label: {label}; predicted: {predicted}; most misleading: element {worst['element']}, frame "
                f"{worst['frame_index']} ({signed(worst['difference'])})"
            )
            findings.append(f"{name}: {words}")
            sampled |= any(has(row, "stderr") for row in video)
            panels.append(headed(_panel(video, n, look), look, f"{name}, {count_of(n, 'element')}", words))
    reading = "Blue, above 0: the element speaks for the label. Orange, below 0: for the predicted class."
    if sampled:
        reading = f"{reading} {standard_error_note('Lines')}."
    return figure(
        panels,
        look,
        title=f"ESV of the label minus ESV of the predicted class ({look.unit}), most misled videos",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def key_of(row: Row) -> Key:
    """Return the video of a row of the table."""
    return Key(n=row["n_elements"], videos=1, video=row["video_id"], element=row["element"])


def _most_misled(table: pa.Table, n: int, most: int) -> list[list[Row]]:
    """Return the rows of the videos whose lowest difference is lowest, sorted by element."""
    kept = table.filter(pa.array((numbers(table, "n_elements") == n) & np.isfinite(numbers(table, "difference"))))
    ids = kept.column("video_id").combine_chunks().dictionary_encode()
    if isinstance(ids, pa.ChunkedArray):  # of no rows
        return []
    lowest = np.full(len(ids.dictionary), np.inf)
    places = ids.indices.to_numpy()
    np.minimum.at(lowest, places, numbers(kept, "difference"))
    chosen = np.argsort(lowest, kind="stable")[:most]
    videos = []
    for place in chosen:
        rows = read_rows(kept.filter(pa.array(places == place)), "contrasts", _KEYS, _VALUES)
        videos.append(sorted(rows, key=lambda row: int(row["element"])))
    return videos


def _told(row: Row, look: Look) -> str:
    """Return what a bar says."""
    place = f"{printable(row['video_id'])}; element: {row['element']}; frame: {row['frame_index']}"
    return place if row["difference"] is None else f"{place}; difference ({look.unit}): {signed(row['difference'], 4)}"


def _panel(video: list[Row], n: int, look: Look) -> Any:
    stderr = [row["stderr"] for row in video]
    width = look.plot_width()
    return element_bars(
        [(row["element"], row["frame_index"]) for row in video],
        [row["difference"] for row in video],
        None if None in stderr else stderr,
        title=f"difference ({look.unit})",
        width=width,
        numbered=width >= _NUMBERED * n,
        theme=look.theme,
        links=[(address_of(key_of(row)), _told(row, look)) for row in video] if look.keyed else (),
    )
