"""Time and memory of `esv analyze`, or of `esv report`, over synthetic outputs of growing size.

``python -m esv_ray.bench.analysis`` analyzes 24,777 videos of 16 elements, with the ESVs of the label and of the
predicted class (Something-Something V2's validation set), then 4 and 16 times as many. Each size runs in a process of
its own. With ``--report`` it writes their reports instead, beside them if a folder is given.
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

from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.files import write_tables
from esv_ray.analysis.tables import chosen, tables_of_facets
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.report.build import report


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.bench.analysis", description="Measure esv analyze.")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="sizes (default: 1 4 16)")
    parser.add_argument("--videos", type=int, default=Shape.videos, help="videos of size 1 (default: 24777)")
    parser.add_argument("--tables", nargs="*", default=[], help="further tables that the outputs have")
    parser.add_argument("--folder", type=Path, help="for the outputs, which are kept (default: a temporary one)")
    parser.add_argument("--report", action="store_true", help="measure esv report instead")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measured = _reported(options.measure) if options.report else _analyzed(options.measure)
        print(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory(prefix="esv-bench-") as temporary:
        for times in options.times:
            output = (options.folder or Path(temporary)) / f"{times}x"
            if not (output / "run.json").exists():
                write_output(str(output), Shape(videos=times * options.videos, tables=options.tables))
            command = [sys.executable, "-m", "esv_ray.bench.analysis", "--measure", str(output)]
            command += ["--report"] * options.report
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 (this program)
            found = json.loads(done.stdout)
            size = f", a file of {found['bytes'] / 1e6:.1f} MB" if options.report else ""
            print(
                f"{times:3}x: {found['rows']:10} attributions, {found['seconds']:6.1f} s, "
                f"{found['processor']:6.1f} s of a core ({1e6 * found['processor'] / found['rows']:.1f} us per row), "
                f"{found['megabytes']:.0f} MB{size}",
                flush=True,
            )


def _analyzed(output: str) -> dict[str, float]:
    """Analyze an output in this process, and write the tables; return times, peak memory and rows."""
    started = time.perf_counter()
    analyzed = open_output(output)
    with tempfile.TemporaryDirectory() as folder, tables_of_facets(analyzed, chosen(analyzed)) as made:
        write_tables(made, folder)
    return _used(started, output)


def _reported(output: str) -> dict[str, float]:
    """Write a report beside an output in this process; return times, peak memory, rows, and bytes of the file."""
    started = time.perf_counter()
    file = report(output, f"{output}.html")
    return _used(started, output) | {"bytes": Path(file).stat().st_size}


def _used(started: float, output: str) -> dict[str, float]:
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
