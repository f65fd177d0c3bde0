"""esv bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.types import Count, LocalPath
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.bench.measure import Ceilings, Measurement
    from esv_ray.bench.setting import Setting
    from esv_ray.core.estimator import Kind


@click.command()
@click.option("-n", "lengths", type=Count(1), multiple=True, help="Elements. Repeatable. [default: 8 12 16]")
@click.option(
    "--estimator",
    "estimators",
    type=click.Choice(["exact", "adjusted", "algorithm1"]),
    multiple=True,
    default=("exact", "adjusted", "algorithm1"),
    show_default=True,
    help="Repeatable.",
)
@click.option("-m", "m", type=Count(1), default=1024, show_default=True, help="Most subsequences a scale.")
@click.option("--iterations", type=Count(1), default=1, show_default=True)
@click.option("--feature-dim", type=Count(1), default=256, show_default=True)
@click.option("--hidden", type=Count(1), default=256, show_default=True)
@click.option("--classes", type=Count(1), default=174, show_default=True)
@click.option("--n-max", type=Count(1), default=8, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=Count(1), default=1, show_default=True)
@click.option("--batch", type=Count(1), help="Most videos computed together. [default: as in a job]")
@click.option(
    "--matmul",
    type=click.Choice(["highest", "high", "medium"]),
    default="highest",
    show_default=True,
    help="Precision of products on a GPU: float32, TF32, bfloat16.",
)
@click.option("--repeats", type=Count(1), default=7, show_default=True)
@click.option("--host/--no-host", default=True, show_default=True, help="Look at reading and writing, too.")
@click.option("--mixed", metavar="A-B", help="Also: what mixed lengths from A to B cost, sampled at m.")
@click.option("--json", "file", type=LocalPath(dir_okay=False, path_type=Path), help="Write the figures here too.")
@click.option(
    "--compare", type=LocalPath(dir_okay=False, path_type=Path), help="An earlier --json: show ratios against it."
)
def bench(
    lengths: tuple[int, ...],
    estimators: tuple[Kind, ...],
    m: int,
    iterations: int,
    feature_dim: int,
    hidden: int,
    classes: int,
    n_max: int,
    device: str,
    threads: int,
    batch: int | None,
    matmul: str,
    repeats: int,
    host: bool,
    mixed: str | None,
    file: Path | None,
    compare: Path | None,
) -> None:
    """Time the engine on random videos, the paper's dimensions by default.

    /2nd is the time in units of the bare second-layer products of the heads (all of a scale and batch at once), /both
    in units of both layers' products, both measured in turn with the whole; "peak" is the share of the speed of a
    large square product that GF/s are; "moved" the same of a large copy; "host" the share of a job's unit that is not
    compute; "error" the largest difference from float64 over the largest ESV.
    """
    import torch

    from esv_ray.bench.measure import ceilings, measure, measure_mixed
    from esv_ray.bench.report import as_json, read_measurements
    from esv_ray.bench.setting import Dimensions, Setting
    from esv_ray.core.estimator import Estimator

    if device == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device cuda: torch sees no NVIDIA device here; install a CUDA build of torch, or use cpu")
    if file is not None and not file.parent.is_dir():
        raise SpecError(f"--json {file}: there is no folder {file.parent}; make it first")
    shortest, longest = _range(mixed) if mixed is not None else (0, 0)
    setting = Setting(Dimensions(feature_dim, hidden, classes, n_max), device, threads, repeats, batch, matmul, host)
    earlier = {} if compare is None else read_measurements(compare, setting)
    ceiling = ceilings(setting)
    found: list[Measurement] = []
    for kind in estimators:
        found += measure(
            lengths or ((8, 12, 16) if kind == "exact" else (16,)), Estimator(kind, m, iterations), setting
        )
    _show(found, ceiling, setting, earlier)
    if mixed is not None:
        videos = 16 * (longest - shortest + 1)
        sampler: Kind = "algorithm1" if "algorithm1" in estimators else "adjusted"
        loss = measure_mixed(shortest, longest, videos, Estimator(sampler, m, iterations), setting)
        what = f"{sampler}, {videos} videos of {shortest} to {longest} elements, m = {m} x{iterations}"
        click.echo(f"mixed lengths: {what}: {loss:+.0%} time against full batches of each length")
    if file is not None:
        file.write_text(json.dumps(as_json(found, ceiling, setting), indent=1) + "\n")


def _range(text: str) -> tuple[int, int]:
    from esv_ray.spec_values import digits

    first, last = (digits(end) or 0 for end in text.partition("-")[::2])
    if not 1 <= first <= last:
        raise SpecError(f"--mixed: expected A-B, two lengths such as 8-64, got {text!r:.60}")
    return first, last


def _show(
    found: list[Measurement], ceiling: Ceilings, setting: Setting, earlier: dict[tuple[int, str], Measurement]
) -> None:
    d = setting.dimensions
    click.echo(
        f"D = {d.feature_dim}, H = {d.hidden}, C = {d.n_classes}, n_max = {d.n_max}, {setting.device}, "
        f"{setting.threads} thread(s), products in {setting.matmul} precision"
    )
    click.echo(f"peaks here: square product {ceiling.gflops:.0f} GFLOP/s, copy {ceiling.gbytes_s:.1f} GB/s")
    speed = _table("n", "estimator", "ms", "range", "per s", "/2nd", "/both", *(["against"] if earlier else []))
    use = _table("n", "estimator", "batch", "plan s", "GF/s", "peak", "moved", "MB", "host", "error")
    for one in found:
        before = earlier.get((one.n, one.estimator))
        speed.add_row(
            str(one.n),
            one.estimator,
            f"{one.video_ms:.3g}",
            f"{one.video_ms_min:.3g}-{one.video_ms_max:.3g}",
            f"{1e3 / one.video_ms:.0f}" if one.video_ms < 10 else f"{1e3 / one.video_ms:.3g}",
            f"{one.over_second:.2f}",
            f"{one.over_both:.2f}",
            *([] if not earlier else ["-" if before is None else f"{one.video_ms / before.video_ms:.2f} x"]),
        )
        use.add_row(
            str(one.n),
            one.estimator,
            str(one.batch),
            f"{one.plan_s:.2f}",
            f"{one.gflops:.0f}",
            f"{one.gflops / ceiling.gflops:.0%}",
            f"{one.gbytes_s / ceiling.gbytes_s:.0%}",
            str(one.peak_mb),
            "-" if one.host is None else f"{one.host:.0%}",
            "-" if one.error is None else f"{one.error:.0e}",
        )
    console = Console()
    console.print(speed)
    console.print(use)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    return table
