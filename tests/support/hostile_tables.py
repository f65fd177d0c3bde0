"""Feature tables that want to do harm, and a program that reads them under a memory limit, one after the other.

``python -m tests.support.hostile_tables FIRST COUNT FOLDER`` reads the tables of COUNT seeds. It runs apart from the
tests, because what it looks for would end them: a crash, a hang, memory without bound. Each seed is told before it is
tried.
"""

from __future__ import annotations

import io
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import EsvError
from esv_ray.input.features import Contract
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.input.videos import read_videos
from tests.support.parquet_surgery import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    Page,
    Struct,
    Taken,
    long_row,
    put_together,
    struct_bytes,
    take_apart,
    with_footer,
)

BUDGET = 50_000_000
ADDRESS_SPACE = 3 * 2**30  # Arrow's and numpy's code and threads take 1 GiB of it before anything is read
SECONDS = 30  # for one table
ABSURD = (
    -(2**63),
    -(2**31),
    -1,
    0,
    1,
    2,
    3,
    7,
    100,
    2**15,
    2**20,
    2**31 - 1,
    2**31,
    2**32 + 1,
    2**40,
    2**62,
    2**63 - 1,
)
CODECS = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")
VALUES = (pa.float16(), pa.float32(), pa.float64())


def sound_table(rng: random.Random) -> pa.Table:
    """A small feature table of one of the types that the contract allows, with nulls where they may be."""
    value, fixed, rows = rng.choice(VALUES), rng.random() < 0.5, rng.randint(0, 12)
    frame = pa.list_(value, 3) if fixed else rng.choice((pa.list_, pa.large_list))(value)
    number = np.dtype(value.to_pandas_dtype()).type

    def of(make: Callable[[], object], gap: float = 0.1) -> object:
        return None if rng.random() < gap else make()

    def one() -> object:
        return number(rng.choice((0, 1, -1.5, 3)))

    videos = [
        of(lambda: [of(lambda: [one() for _ in range(3)], 0.02) for _ in range(rng.randint(0, 4))]) for _ in range(rows)
    ]
    columns = {
        "video_id": pa.array([of(lambda: f"v{rng.randint(0, 20)}", 0.05) for _ in range(rows)], pa.string()),
        "features": pa.array(videos, pa.list_(frame)),
        "label": pa.array([of(lambda: rng.randint(0, 3)) for _ in range(rows)], rng.choice((pa.int8(), pa.int64()))),
        "frame_index": pa.array(
            [of(lambda: list(range(rng.randint(0, 4)))) for _ in range(rows)], pa.list_(pa.int32())
        ),
        "other": pa.array([of(lambda: {"a": [1, 2]}) for _ in range(rows)], pa.struct([("a", pa.list_(pa.int8()))])),
    }
    left_out = {name for name in ("label", "frame_index", "other") if rng.random() < 0.3}
    if rng.random() < 0.2:
        columns["video_id"] = columns["video_id"].dictionary_encode()
    return pa.table({name: column for name, column in columns.items() if name not in left_out})


def sound_file(rng: random.Random, table: pa.Table | None = None) -> bytes:
    """A table written in one of pyarrow's many ways."""
    encodings: dict[str, Any] = {"use_dictionary": rng.random() < 0.6}
    if not encodings["use_dictionary"] and rng.random() < 0.7:
        of_ids = ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
        encodings["column_encoding"] = {
            "video_id": rng.choice(of_ids),
            "label": rng.choice(("PLAIN", "DELTA_BINARY_PACKED")),
        }
        if rng.random() < 0.5:
            encodings["column_encoding"]["features.list.element.list.element"] = "BYTE_STREAM_SPLIT"
    sink = io.BytesIO()
    table = sound_table(rng) if table is None else table
    options: dict[str, Any] = {
        "compression": rng.choice(CODECS),
        "data_page_version": rng.choice(("1.0", "2.0")),
        "data_page_size": rng.choice((1, 64, 2**20)),
        "row_group_size": rng.randint(1, 12),
        "store_schema": rng.random() < 0.6,
        "write_page_index": rng.random() < 0.3,
        "write_page_checksum": rng.random() < 0.2,
        "write_statistics": rng.random() < 0.7,
    }
    try:
        pq.write_table(table, sink, **options, **encodings)
    except Exception:  # an encoding that a type lacks
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
    return sink.getvalue()


# Mutations: each takes a file and gives another. ----------------------------------------------------------------------


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bytes others; half of the time in the footer."""
    out, tail = bytearray(data), int.from_bytes(data[-8:-4], "little") + 8
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(out) - tail, len(out)) if rng.random() < 0.5 else rng.randrange(len(out))
        out[place] = rng.choice((0, 1, 127, 128, 255, out[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Bytes missing at the end, or in the middle before a footer that is whole."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    tail = int.from_bytes(data[-8:-4], "little") + 8
    start = rng.randrange(4, max(5, len(data) - tail))
    return data[:start] + data[rng.randrange(start, len(data) - tail + 1) :]


def spliced(data: bytes, rng: random.Random) -> bytes:
    """The pages of one file under the footer of another."""
    other = sound_file(rng)
    size = int.from_bytes(other[-8:-4], "little")
    return data[: -8 - int.from_bytes(data[-8:-4], "little")] + with_footer(other[-8 - size : -8])


def lying_length(data: bytes, rng: random.Random) -> bytes:
    """A footer whose length is another."""
    return (
        data[:-8]
        + rng.choice((0, 1, 2**31 - 1, 2**32 - 1, len(data), rng.randrange(len(data)))).to_bytes(4, "little")
        + b"PAR1"
    )


def lying_footer(data: bytes, rng: random.Random) -> bytes:
    """Numbers, texts and lists of the footer changed, its length right."""
    taken = take_apart(data)
    for _ in range(rng.randint(1, 3)):
        _lie(taken.footer, rng)
    return data[: -8 - int.from_bytes(data[-8:-4], "little")] + with_footer(struct_bytes(taken.footer))


def lying_chunk(data: bytes, rng: random.Random) -> bytes:
    """Numbers of a chunk's meta data changed."""
    taken = take_apart(data)
    chunk = _any_chunk(taken, rng)
    if chunk is not None:
        _lie(chunk.meta, rng)
    return data[: -8 - int.from_bytes(data[-8:-4], "little")] + with_footer(struct_bytes(taken.footer))


def lying_pages(data: bytes, rng: random.Random) -> bytes:
    """Pages whose headers lie, or that are doubled, lost, exchanged or garbled; offsets follow."""
    taken = take_apart(data)
    for _ in range(rng.randint(1, 3)):
        chunk = _any_chunk(taken, rng)
        if chunk is None or not chunk.pages:
            continue
        page = rng.choice(chunk.pages)
        what = rng.randrange(6)
        if what == 0:
            _lie(page.header, rng)
        elif what == 1:
            chunk.pages.insert(rng.randrange(len(chunk.pages) + 1), Page(dict(page.header), page.body))
        elif what == 2:
            chunk.pages.remove(page)
        elif what == 3 and page.body:
            page.body = flipped_body(page.body, rng)
        elif what == 4:
            other = _any_chunk(taken, rng)
            chunk.pages, other.pages = other.pages, chunk.pages
        else:
            page.sizes[1] = (I32, rng.choice(ABSURD) % 2**31)
    return put_together(taken, fix_sizes=rng.random() < 0.5)


def flipped_body(body: bytes, rng: random.Random) -> bytes:
    """The body of a page with other bytes, or another length."""
    out = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        out[rng.randrange(len(out))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(out[: rng.randrange(len(out) + 1)] if rng.random() < 0.2 else out)


def absurdly_long(data: bytes, rng: random.Random) -> bytes:
    """One video of up to thousands of millions of values in a few bytes; the footer may tell, or lie."""
    table = pa.table({"video_id": ["a"], "features": pa.array([[[1.0, 1.0, 1.0]]], pa.list_(pa.list_(pa.float32())))})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    taken = take_apart(long_row(sink.getvalue(), rng.choice((3, 10**6, 10**9, 2**31 - 1)), rng.randint(1, 3)))
    if rng.random() < 0.5:
        taken.chunk("features").meta[5] = (I64, rng.choice((1, 3, 2**40, 2**62)))
    return put_together(taken)


def odd_schema(data: bytes, rng: random.Random) -> bytes:
    """A file whose columns are something else."""
    kinds = (
        *(pa.null(), pa.binary(), pa.bool_(), pa.string(), pa.uint64(), pa.decimal128(5, 2), pa.timestamp("ns")),
        *(pa.list_(pa.float32(), 3), pa.list_(pa.list_(pa.float32(), 3)), pa.list_(pa.uint64())),
        *(pa.list_(pa.list_(pa.string())), pa.list_(pa.list_(pa.list_(pa.float32())))),
        *(pa.list_(pa.struct([("a", pa.float32())])), pa.struct([("a", pa.list_(pa.float32()))])),
        *(pa.map_(pa.string(), pa.float32()), pa.dictionary(pa.int8(), pa.string())),
    )
    table = sound_table(rng)
    name = rng.choice(table.column_names)
    kind = rng.choice(kinds)
    column = pa.nulls(table.num_rows, kind)
    return sound_file(
        rng,
        table.set_column(
            table.column_names.index(name), pa.field(rng.choice((name, "label", "é\n\x1b")), kind), column
        ),
    )


def not_text(data: bytes, rng: random.Random) -> bytes:
    """Names, ids and meta data that are no UTF-8."""
    return data.replace(rng.choice((b"v1", b"video_id", b"features", b"ARROW:schema", b"parquet-cpp")), b"\xff\xfe")


MUTATIONS = (
    flipped, cut, spliced, lying_length, lying_footer, lying_footer, lying_chunk, lying_chunk, lying_pages, lying_pages,
    lying_pages, absurdly_long, odd_schema, not_text,
)  # fmt: skip


def _any_chunk(taken: Taken, rng: random.Random) -> Any:
    chunks = [chunk for group in taken.groups for chunk in group]
    return rng.choice(chunks) if chunks else None


def _lie(fields: Struct, rng: random.Random) -> None:
    """Change one thing somewhere in a struct."""
    if not fields:
        return
    number = rng.choice(sorted(fields))
    kind, value = fields[number]
    if rng.random() < 0.1:
        del fields[number]
    elif kind == STRUCT:
        _lie(value, rng)
    elif kind == LIST and value[1]:
        what, place = rng.random(), rng.randrange(len(value[1]))
        if what < 0.15:
            value[1].append(value[1][place])
        elif what < 0.3:
            value[1].pop(place)
        elif value[0] == STRUCT:
            _lie(value[1][place], rng)
        elif value[0] in (I32, I64):
            value[1][place] = rng.choice(ABSURD)
    elif kind == BINARY:
        fields[number] = (kind, rng.choice((b"", b"\xff", value + b"x", value * 100, b"features", value[:-1])))
    elif kind in (I32, I64):
        fields[number] = (kind, rng.choice((*ABSURD, value + 1, value - 1, rng.randrange(16))))


def hostile_file(seed: int) -> bytes:
    """The table of a seed."""
    rng = random.Random(seed)
    data = sound_file(rng)
    for _ in range(rng.choice((1, 1, 1, 2))):
        try:
            data = rng.choice(MUTATIONS)(data, rng)
        except (IndexError, KeyError, ValueError, StopIteration, RecursionError, OverflowError, TypeError):
            continue  # what was mutated before can no longer be taken apart
    return data


# Reading --------------------------------------------------------------------------------------------------------------


def meet(url: str, budget: int = BUDGET) -> list[str]:
    """All that a job does with a feature table before it computes; the refusals. Only an `EsvError` is one."""
    refusals, reader = [], UnitReader(Contract(3, 4), budget)

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except EsvError as error:
            if "\n" in str(error):
                raise AssertionError(f"more than a line: {error}") from None
            refusals.append(str(error))

    def units() -> None:
        for unit in plan_units(read_footers(list_files(url)), "auto")[:50]:
            attempt(lambda unit=unit: check_rows(unit, reader))  # type: ignore[misc]

    attempt(lambda: feature_dim_of(read_footers(list_files(url)), budget))
    attempt(lambda: has_labels(read_footers(list_files(url))))
    attempt(units)
    attempt(lambda: read_videos(url, budget=budget))
    return refusals


def check_rows(unit: Any, reader: UnitReader) -> None:
    """Read a unit and take all that is good in it."""
    rows = read_rows(unit, reader)
    assert len(rows.ids) == unit.rows == len(rows.n_frames)
    for row in rows.valid.tolist():
        places = np.arange(rows.n_frames[row], dtype=np.int64)[None]
        features = rows.features(np.array([row]), places)
        assert features.shape == (1, rows.n_frames[row], 3)
        assert np.isfinite(features).all()
        assert rows.frame_index(np.array([row]), places).shape == places.shape


def main(first: int, count: int, folder: str) -> None:
    """Read the tables of some seeds, and stop at the first that does harm."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, refused = Path(folder) / "table.parquet", 0
    for seed in range(first, first + count):
        print(f"seed {seed}", flush=True)
        path.write_bytes(hostile_file(seed))
        signal.alarm(SECONDS)  # its default action ends this process
        try:
            refused += bool(meet(str(path)))
        except BaseException:
            traceback.print_exc()
            sys.exit(3)
        signal.alarm(0)
    print(f"done: {refused} of {count} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
