"""Time and memory of `esv analyze` over synthetic outputs of growing size.

``python -m esv_ray.bench.analysis`` analyzes 24,777 videos of 16 elements, with the ESVs of the label and of the
predicted class (Something-Something V2's validation set), then 4 and 16 times as many. Each size runs in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from esv_ray.analysis.analysed import open_output
from esv_ray.analysis.files import write_tables
from esv_ray.analysis.tables import chosen, tables_of_facets
from esv_ray.bench.outputs import Shape, write_output


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.analysis", description="Measure esv analyze.")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="sizes (default: 1 4 16)")
    parser.add_argument("--videos", type=int, default=Shape.videos, help="videos of size 1 (default: 24777)")
    parser.add_argument("--tables", nargs="*", default=[], help="further tables that the outputs have")
    parser.add_argument("--folder", type=Path, help="for the outputs, which are kept (default: a temporary one)")
    parser.add_argument("--analyze", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.analyze:
        print(json.dumps(_measured(options.analyze)))
        return
    with tempfile.TemporaryDirectory(prefix="esv-bench-") as temporary:
        for times in options.times:
            output = (options.folder or Path(temporary)) / f"{times}x"
            if not (output / "run.json").exists():
                write_output(str(output), Shape(videos=times * options.videos, tables=options.tables))
            command = [sys.executable, "-m", "esv_ray.bench.analysis", "--analyze", str(output)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 (this program)
            found = json.loads(done.stdout)
            print(
                f"{times:3}x: {found['rows']:10} attributions, {found['seconds']:6.1f} s, "
                f"{found['processor']:6.1f} s of a core ({1e6 * found['processor'] / found['rows']:.1f} us per row), "
                f"{found['megabytes']:.0f} MB",
                flush=True,
            )


def _measured(output: str) -> dict[str, float]:
    """Analyze an output in this process, and write the tables; return times, peak memory and rows."""
    started = time.perf_counter()
    analysed = open_output(output)
    with tempfile.TemporaryDirectory() as folder, tables_of_facets(analysed, chosen(analysed)) as made:
        write_tables(made, folder)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "megabytes": used.ru_maxrss / 1024,
        "rows": _rows(output),
    }


def _rows(output: str) -> int:
    import pyarrow.dataset

    return int(pyarrow.dataset.dataset(f"{output}/attributions").count_rows())


if __name__ == "__main__":
    main()
