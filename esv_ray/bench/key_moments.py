"""Add key moments to a feature table: the columns key_start and key_end, by which `esv analyze` judges attributions.

python -m esv_ray.bench.key_moments features/ moments.csv marked.parquet

moments.csv has the columns video_id, key_start and key_end: numbers of the first and the last frame of the moment, as
`frame_index` of the table counts them. Videos without a row have no moment.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.analysis.moments import END, START
from esv_ray.errors import DataError, EsvError, count_of, short_text
from esv_ray.input.faults import Lines, RecordError
from esv_ray.input.files import list_files
from esv_ray.input.sources.csv_rows import CsvRows, read_csv

_COLUMNS = ("video_id", START, END)
_DOING = "read the key moments"
_WRONG_REQUEST = 2


def add_key_moments(table: str, moments: str, out: str) -> int:
    """Write a copy of a feature table that has key moments, in one Parquet file; return how many videos have one.

    Args:
        table: location of the feature table, of at most some gigabytes: it is read into memory.
        moments: location of the CSV.
        out: location of the file; it is replaced.

    Raises:
        DataError: a file cannot be read or written, a row of the CSV is no moment, or no video has one.
    """
    places = _moments(read_csv(moments, {name: name for name in _COLUMNS}, _DOING))
    parts = [_read(file.url) for file in list_files(table)]
    rows = pa.concat_tables(parts)
    found = [places.get(video_id) for video_id in rows.column("video_id").to_pylist()]
    marked = sum(place is not None for place in found)
    if not marked:
        raise DataError(f"{moments}: expected key moments of the videos in {table}, found none of theirs")
    for number, name in enumerate((START, END)):
        column = pa.array([None if place is None else place[number] for place in found], pa.int64())
        rows = rows.append_column(name, column)
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", row_group_size=1024)
    storage.replace(out, sink.getvalue(), "write the feature table")
    return marked


def _read(url: str) -> pa.Table:
    with storage.locating(url, "read the feature table"), storage.reader(url, "read the feature table") as file:
        try:
            table = pq.ParquetFile(file).read()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{url}: expected a feature table in Parquet, got: {short_text(error, 200)}") from None
    taken = [name for name in (START, END) if name in table.column_names]
    if "video_id" not in table.column_names or taken:
        got = f"a column {taken[0]}" if taken else "no column video_id"
        raise DataError(f"{url}: expected a feature table without key moments, got {got}")
    return table


def _moments(rows: CsvRows) -> dict[str, tuple[int, int]]:
    """Return the first and the last frame of each video's moment."""
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise DataError(f"{rows.url}: expected the columns {', '.join(_COLUMNS)}, got {rows.header!r:.120}")
    places: dict[str, tuple[int, int]] = {}
    faults = Lines()
    for line, row in rows.rows:
        texts = row[START], row[END]
        with faults.at(line):
            if not all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts):
                raise RecordError("expected numbers of frames from 0", f"got {texts[0]!r:.40} and {texts[1]!r:.40}")
            first, last = (int(text) for text in texts)
            if last < first:
                raise RecordError("expected a last frame that is not before the first", f"got {first} and {last}")
            if places.setdefault(row["video_id"], (first, last)) != (first, last):
                raise RecordError("expected one key moment of a video", f"got a second one of {row['video_id']!r:.100}")
    rows.check(faults)
    return places


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m esv_ray.bench.key_moments", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("table", help="feature table")
    parser.add_argument("moments", metavar="CSV", help="columns video_id, key_start, key_end")
    parser.add_argument("out", metavar="OUT.parquet", help="the table with the two columns; it is replaced")
    options = parser.parse_args()
    places = [storage.absolute(each) for each in (options.table, options.moments, options.out)]
    try:
        marked = add_key_moments(*places)
    except EsvError as error:
        print(f"esv: {error}", file=sys.stderr)
        sys.exit(_WRONG_REQUEST)
    print(f"{Path(options.out)}: {count_of(marked, 'video')} with key moments")


if __name__ == "__main__":
    main()
