"""Advice for tables of very many small files: each costs an opening and a check, whatever it holds."""

from __future__ import annotations

from collections.abc import Sequence

from esv_ray.errors import count_of
from esv_ray.input.parquet.footers import Footer

MERGE = (
    "python -c \"import pyarrow.dataset as ds; ds.write_dataset(ds.dataset('{features}', partitioning='hive'), "
    "'{merged}', format='parquet', max_rows_per_file=4096, max_rows_per_group=1024)\""
)
"""The command that merges the files of a folder, with what their folders name as columns."""

_MOST_FILES = 5000  # whose planning takes a few seconds
_FEW_VIDEOS = 64  # a file


def merge_advice(footers: Sequence[Footer], url: str, most: int = _MOST_FILES) -> str | None:
    """Return how to merge the files of a table if they are many and small; else None.

    Args:
        footers: of its files.
        url: location of the table.
        most: files that are not too many.
    """
    videos = sum(group.rows for footer in footers for group in footer.groups)
    if len(footers) <= most or videos >= _FEW_VIDEOS * len(footers):
        return None
    mean = round(videos / len(footers))
    command = MERGE.format(features=url, merged=f"{url.rstrip('/')}-merged")
    return (
        f"{len(footers)} files of {count_of(mean, 'video')} on average are planned and read more slowly than few large "
        f"ones; to merge them: {command}"
    )
