"""The command `esv bench`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray import storage
from esv_ray.cli.options import option_group
from esv_ray.cli.types import Count, LocalPath
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.bench.measure import Ceilings, Measurement
    from esv_ray.bench.setting import Setting
    from esv_ray.estimator import Kind

_WRITE = "write the measurements"


@dataclass(frozen=True)
class SettingOptions:
    """The measured model, and the settings of the measurement."""

    feature_dim: int
    hidden: int
    classes: int
    n_max: int
    device: str
    threads: int
    batch: int | None
    matmul: str
    repeats: int
    host: bool


setting_options = option_group(
    SettingOptions,
    "options",
    click.option("--feature-dim", type=Count(1), default=256, show_default=True, help="Feature dimension D."),
    click.option("--hidden", type=Count(1), default=256, show_default=True, help="Hidden units H of each head."),
    click.option("--classes", type=Count(2), default=174, show_default=True, help="Number of classes C."),
    click.option("--n-max", type=Count(1), default=8, show_default=True, help="Number of heads n_max."),
    click.option(
        "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Torch device."
    ),
    click.option("--threads", type=Count(1), default=1, show_default=True, help="Number of torch threads."),
    click.option("--batch", type=Count(1), help="Maximum number of videos per batch. [default: as in a job]"),
    click.option(
        "--matmul",
        type=click.Choice(["highest", "high", "medium"]),
        default="highest",
        show_default=True,
        help="Precision of matrix products on a GPU: float32, TF32 or bfloat16.",
    ),
    click.option("--repeats", type=Count(1), default=7, show_default=True, help="Number of repeated measurements."),
    click.option("--host/--no-host", default=True, show_default=True, help="Also measure reading and writing."),
)


@click.command(short_help="Measure the speed of computing ESVs.")
@click.option(
    "-n",
    "lengths",
    type=Count(1),
    multiple=True,
    help="Number of elements. Repeatable. [default: 8 12 16 for exact, else 16]",
)
@click.option(
    "--estimator",
    "estimators",
    type=click.Choice(["exact", "adjusted", "algorithm1"]),
    multiple=True,
    default=("exact", "adjusted", "algorithm1"),
    show_default=True,
    help="Estimator to measure. Repeatable.",
)
@click.option(
    "-m",
    "m",
    type=Count(1),
    default=1024,
    show_default=True,
    help="Maximum number of subsequences per scale and iteration.",
)
@click.option("--iterations", type=Count(1), default=1, show_default=True, help="Iterations of sampled estimators.")
@setting_options
@click.option(
    "--mixed", metavar="A-B", help="Also measure videos of mixed lengths from A to B, with a sampled estimator."
)
@click.option(
    "--json", "file", type=LocalPath(dir_okay=False, path_type=Path), help="Also write the measurements to this file."
)
@click.option(
    "--compare",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="A file that --json wrote earlier; show ratios to it.",
)
def bench(
    lengths: tuple[int, ...],
    estimators: tuple[Kind, ...],
    m: int,
    iterations: int,
    options: SettingOptions,
    mixed: str | None,
    file: Path | None,
    compare: Path | None,
) -> None:
    """Measure the speed of computing ESVs on random videos, by default with the paper's dimensions.

    \b
    Columns:
      ms     milliseconds per video, the median of the repeats
      range  the fastest and the slowest of the repeats
      /2nd   time relative to computing only the second-layer matrix products of the heads
      /both  time relative to computing only the matrix products of both layers
      peak   GF/s relative to a large square matrix product
      moved  memory traffic relative to a large copy
      host   share of a unit's time that is not compute
      error  largest difference from float64, relative to the largest ESV
    """
    import torch

    from esv_ray.bench.measure import ceilings, measure
    from esv_ray.bench.report import as_json, read_measurements
    from esv_ray.estimator import Estimator

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device cuda: torch sees no NVIDIA device here; install a CUDA build of torch, or use cpu")
    if file is not None and not file.parent.is_dir():
        raise SpecError(f"--json {file}: there is no folder {file.parent}; create it first")
    if file is not None:
        storage.check_writable(str(file.parent), _WRITE, [file.name])
    mixed_lengths = None if mixed is None else _length_range(mixed)
    setting = _setting(options)
    earlier = {} if compare is None else read_measurements(compare, setting)
    ceiling = ceilings(setting)
    measurements: list[Measurement] = []
    for kind in estimators:
        measured_lengths = lengths or ((8, 12, 16) if kind == "exact" else (16,))
        measurements += measure(measured_lengths, Estimator(kind, m, iterations), setting)
    _show(measurements, ceiling, setting, earlier)
    if mixed_lengths is not None:
        _show_mixed(*mixed_lengths, "algorithm1" if "algorithm1" in estimators else "adjusted", m, iterations, setting)
    if file is not None:
        text = json.dumps(as_json(measurements, ceiling, setting), indent=1) + "\n"
        storage.replace(str(file), text.encode(), _WRITE)


def _setting(options: SettingOptions) -> Setting:
    from esv_ray.bench.setting import Dimensions, Setting

    dimensions = Dimensions(options.feature_dim, options.hidden, options.classes, options.n_max)
    return Setting(
        dimensions, options.device, options.threads, options.repeats, options.batch, options.matmul, options.host
    )


def _length_range(text: str) -> tuple[int, int]:
    from esv_ray.spec_values import digits

    first, last = (digits(end) or 0 for end in text.partition("-")[::2])
    if not 1 <= first <= last:
        raise SpecError(f"--mixed: expected A-B, two lengths such as 8-64, got {text!r:.60}")
    return first, last


def _show_mixed(shortest: int, longest: int, kind: Kind, m: int, iterations: int, setting: Setting) -> None:
    from esv_ray.bench.measure import measure_mixed
    from esv_ray.estimator import Estimator

    videos = 16 * (longest - shortest + 1)
    loss = measure_mixed(shortest, longest, videos, Estimator(kind, m, iterations), setting)
    videos_measured = f"{kind}, {videos} videos of {shortest} to {longest} elements, m = {m} x{iterations}"
    click.echo(f"mixed lengths: {videos_measured}: {loss:+.0%} time compared with full batches of each length")


def _show(
    measurements: list[Measurement], ceiling: Ceilings, setting: Setting, earlier: dict[tuple[int, str], Measurement]
) -> None:
    d = setting.dimensions
    click.echo(
        f"D = {d.feature_dim}, H = {d.hidden}, C = {d.n_classes}, n_max = {d.n_max}, {setting.device}, "
        f"{setting.threads} thread(s), products in {setting.matmul} precision"
    )
    click.echo(f"peaks here: square product {ceiling.gflops:.0f} GFLOP/s, copy {ceiling.gbytes_s:.1f} GB/s")
    speed = _table("n", "estimator", "ms", "range", "per s", "/2nd", "/both", *(["against"] if earlier else []))
    use = _table("n", "estimator", "batch", "plan s", "GF/s", "peak", "moved", "MB", "host", "error")
    for measured in measurements:
        before = earlier.get((measured.n, measured.estimator))
        ratio = "-" if before is None else f"{measured.video_ms / before.video_ms:.2f} x"
        speed.add_row(
            str(measured.n),
            measured.estimator,
            f"{measured.video_ms:.3g}",
            f"{measured.video_ms_min:.3g}-{measured.video_ms_max:.3g}",
            f"{1e3 / measured.video_ms:.0f}" if measured.video_ms < 10 else f"{1e3 / measured.video_ms:.3g}",
            f"{measured.over_second:.2f}",
            f"{measured.over_both:.2f}",
            *([ratio] if earlier else []),
        )
        use.add_row(
            str(measured.n),
            measured.estimator,
            str(measured.batch),
            f"{measured.plan_s:.2f}",
            f"{measured.gflops:.0f}",
            f"{measured.gflops / ceiling.gflops:.0%}",
            f"{measured.gbytes_s / ceiling.gbytes_s:.0%}",
            str(measured.peak_mb),
            "-" if measured.host is None else f"{measured.host:.0%}",
            "-" if measured.error is None else f"{measured.error:.0e}",
        )
    console = Console()
    console.print(speed)
    console.print(use)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    return table
