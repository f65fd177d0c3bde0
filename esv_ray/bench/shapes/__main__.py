"""Render videos of moving shapes, whose class depends on the order of frames, and lists of them for `esv extract`.

python -m esv_ray.bench.shapes videos/
esv extract videos/train.csv --classes videos/classes.csv --backbone pooled --frames 12 --output train/
"""

from __future__ import annotations

import argparse
import sys

from esv_ray import storage
from esv_ray.bench.shapes.files import PER_CLASS, RenderProgress, write_videos
from esv_ray.errors import EsvError

_WRONG_REQUEST = 2


def main() -> None:
    """Write the videos into the folder that is given."""
    parser = argparse.ArgumentParser(
        prog="python -m esv_ray.bench.shapes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", metavar="DIR", help="where to write the videos")
    for split, count in PER_CLASS.items():
        parser.add_argument(
            f"--{split}", type=int, default=count, metavar="N", help=f"videos of a class in {split}/ (default: {count})"
        )
    options = parser.parse_args()
    if min(options.train, options.test) < 1:
        parser.error("expected numbers of 1 or more")

    def report(progress: RenderProgress) -> None:
        print(f"\r{progress.done}/{progress.total} videos", end="", file=sys.stderr, flush=True)

    try:
        count = write_videos(storage.absolute(options.folder), {"train": options.train, "test": options.test}, report)
    except EsvError as error:
        print(f"esv: {error}", file=sys.stderr)
        sys.exit(_WRONG_REQUEST)
    print(f"\r{count} videos: {options.folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
