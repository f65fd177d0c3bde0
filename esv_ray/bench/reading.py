"""CPU time of reading a feature table, with all checks, against pyarrow's own for the same files.

``python -m esv_ray.bench.reading`` makes a table like the features of Something-Something v2 (videos of 16 to 79
frames, float16, zstd), reads it in turns with pyarrow alone and as an actor does, in one process on one thread, and
prints the ratio of CPU times. A second table of files of one video gives the CPU time a file, of planning and reading.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.input.features import Contract
from esv_ray.input.files import list_files
from esv_ray.input.frames import sample_frames
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units

_SHORTEST, _LONGEST = 16, 79  # frames of a video
_ROWS_OF_FILE, _ROWS_OF_GROUP = 4096, 1024


class Measured(NamedTuple):
    """CPU seconds.

    Attributes:
        pyarrow: of reading all row groups with pyarrow alone.
        ours: of reading all units, and the frames of n elements of each video.
    """

    pyarrow: float
    ours: float

    @property
    def ratio(self) -> float:
        """Ours in terms of pyarrow's."""
        return self.ours / self.pyarrow


class OfFiles(NamedTuple):
    """CPU seconds a file of one video: of planning it, and of reading it in a unit of several files."""

    planning: float
    reading: float


def write_table(
    folder: Path, videos: int, feature_dim: int, *, rows_of_file: int = _ROWS_OF_FILE, seed: int = 0
) -> None:
    """Write a feature table of random features."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, videos, rows_of_file)):
        rows = min(rows_of_file, videos - start)
        counts = rng.integers(_SHORTEST, _LONGEST + 1, rows)
        values = rng.standard_normal(int(counts.sum()) * feature_dim, np.float32).astype(np.float16)
        frames = pa.FixedSizeListArray.from_arrays(pa.array(values), feature_dim)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        columns = {
            "video_id": [f"video-{index:06d}" for index in range(start, start + rows)],
            "features": pa.ListArray.from_arrays(offsets, frames),
            "label": rng.integers(0, 174, rows),
        }
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=_ROWS_OF_GROUP)


def measure(folder: Path, feature_dim: int, *, elements: int = 8, repeats: int = 3) -> list[Measured]:
    """Read a table in turns with pyarrow alone and as an actor does."""
    files = list_files(str(folder))
    units = plan_units(read_footers(files), "auto")

    def alone() -> None:
        for file in files:
            parquet = pq.ParquetFile(file.url, pre_buffer=False)
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group, use_threads=False)

    def ours() -> None:
        reader = UnitReader(Contract(feature_dim, 174))
        for unit in units:
            rows = read_rows(unit, reader)
            valid = rows.valid
            rows.features(valid, sample_frames(rows.n_frames[valid].astype(np.int64), elements))

    return [Measured(_cpu_s(alone), _cpu_s(ours)) for _ in range(repeats)]


def measure_files(folder: Path, feature_dim: int) -> OfFiles:
    """Plan and read a table of files of one video."""
    files = list_files(str(folder))
    begun = time.process_time()
    units = plan_units(read_footers(list_files(str(folder))), "auto", across_files=True)
    planning = time.process_time() - begun
    reader = UnitReader(Contract(feature_dim, 174))
    reading = _cpu_s(lambda: [read_rows(unit, reader) for unit in units])
    return OfFiles(planning / len(files), reading / len(files))


def _cpu_s(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Print the ratio of CPU times, and the CPU time a small file."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.reading", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=int, default=8192)
    parser.add_argument("--files", type=int, default=2000, help="of one video each, for the second table")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name) / "large", Path(name) / "small"
        write_table(large, options.videos, options.dim)
        runs = measure(large, options.dim, repeats=options.repeats)
        alone, ours = median(run.pyarrow for run in runs), median(run.ours for run in runs)
        print(
            f"{options.videos} videos: pyarrow {alone:.2f} s of CPU, read and checked {ours:.2f} s: "
            f"{median(run.ratio for run in runs):.2f} times ({min(run.ratio for run in runs):.2f} to "
            f"{max(run.ratio for run in runs):.2f})"
        )
        write_table(small, options.files, options.dim, rows_of_file=1)
        files = measure_files(small, options.dim)
        print(
            f"files of one video: planned in {1e6 * files.planning:.0f} us of CPU each, read in "
            f"{1e6 * files.reading:.0f} us"
        )


if __name__ == "__main__":
    main()
