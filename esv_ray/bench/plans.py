"""Time and memory of the plans of `adjusted` by length: sizes read out together, and one by one (`regression.joint`).

    python -m esv_ray.bench.plans -n 300 -n 1000 --rows 64

Each plan is built in a process of its own, alternating between the two ways; CPU time, medians. Where T / n is too
large for a joint read-out, one-by-one is what attributions use.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

from esv_ray.core.adjusted.build import build_adjusted
from esv_ray.core.adjusted.needs import reads_jointly
from esv_ray.core.scales import equal_scales

_HEADS = 8


def measure(n: int, rows: int, *, joint: bool | None) -> tuple[float, float, float]:
    """Build a plan, and return its CPU seconds, its megabytes, and the megabytes by which the process grew."""
    before = _peak_mb()
    start = time.process_time()
    plan = build_adjusted(n, rows=rows, seed=0, scales=equal_scales(_HEADS), joint=joint)
    return time.process_time() - start, plan.nbytes() / 1e6, _peak_mb() - before


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _measured(n: int, rows: int, *, joint: bool) -> tuple[float, float, float]:
    """Measure in a new process: memory is that of one plan."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, n, rows, joint=joint).result()


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, action="append", help="elements; may be repeated (default: 300, 1000)")
    parser.add_argument("--rows", type=int, default=64, help="m times iterations (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="plans built in each way (default: 3)")
    parser.add_argument("--joint-only", action="store_true", help="skip the other way, which takes n^3 operations")
    args = parser.parse_args(arguments)
    lengths = args.n or [300, 1000]
    if min(lengths) <= 24 or args.rows < 1 or args.rounds < 1:
        parser.error("expected -n above 24 (shorter plans are never joint), --rows and --rounds of 1 or more")
    print(f"{'n':>7} {'rows':>5} {'way':>6} {'CPU s':>8} {'plan MB':>8} {'peak MB':>8}  used")
    for n in lengths:
        ways = [True] if args.joint_only else [True, False]
        found: dict[bool, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way in ways:
                found[way].append(_measured(n, args.rows, joint=way))
        used = reads_jointly(n, args.rows, equal_scales(_HEADS))
        for way in ways:
            seconds, plan, peak = (median(column) for column in zip(*found[way], strict=True))
            name = "joint" if way else "each"
            print(
                f"{n:7} {args.rows:5} {name:>6} {seconds:8.2f} {plan:8.1f} {peak:8.1f}  {'yes' if way == used else ''}"
            )
        if len(ways) == 2:
            ratio = median(a[0] / b[0] for a, b in zip(found[False], found[True], strict=True))
            print(f"{n:7} {args.rows:5}  ratio {ratio:8.1f}")


if __name__ == "__main__":
    main()
