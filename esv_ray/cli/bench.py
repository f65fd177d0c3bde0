"""esv bench."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("-n", "lengths", type=click.IntRange(1), multiple=True, help="Elements. Repeatable. [default: 8 12 16]")
@click.option("--estimator", type=click.Choice(["exact", "algorithm1", "both"]), default="both", show_default=True)
@click.option("-m", "m", type=click.IntRange(1), default=1024, show_default=True, help="Most subsequences a scale.")
@click.option("--iterations", type=click.IntRange(1), default=1, show_default=True)
@click.option("--feature-dim", type=click.IntRange(1), default=256, show_default=True)
@click.option("--hidden", type=click.IntRange(1), default=256, show_default=True)
@click.option("--classes", type=click.IntRange(1), default=174, show_default=True)
@click.option("--n-max", type=click.IntRange(1), default=8, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def bench(
    lengths: tuple[int, ...],
    estimator: str,
    m: int,
    iterations: int,
    feature_dim: int,
    hidden: int,
    classes: int,
    n_max: int,
    device: str,
    threads: int,
    repeats: int,
    file: Path | None,
) -> None:
    """Time the engine on random videos, the paper's dimensions by default.

    "bare" is the time of nothing but the heads' second-layer products, measured in turn with the whole.
    """
    from esv_ray.bench import Dimensions, as_json, measure
    from esv_ray.core.estimator import Estimator

    dimensions = Dimensions(feature_dim, hidden, classes, n_max)
    found = []
    if estimator in ("exact", "both"):
        exact = Estimator("exact", m, iterations)
        found += measure(lengths or (8, 12, 16), exact, dimensions, device=device, threads=threads, repeats=repeats)
    if estimator in ("algorithm1", "both"):
        sampled = Estimator("algorithm1", m, iterations)
        found += measure(lengths or (16,), sampled, dimensions, device=device, threads=threads, repeats=repeats)
    click.echo(f"D = {feature_dim}, H = {hidden}, C = {classes}, n_max = {n_max}, {device}, {threads} thread(s)")
    click.echo(
        "ms: a video, median of the repeats, and their range; bare: in units of the bare products; MB: peak memory"
    )
    table = Table()
    for column in ("n", "estimator", "plan s", "ms", "range", "per s", "bare", "MB"):
        table.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    for one in found:
        table.add_row(
            str(one.n),
            one.estimator,
            f"{one.plan_s:.3f}",
            f"{one.video_ms:.2f}",
            f"{one.video_ms_min:.3g}-{one.video_ms_max:.3g}",
            f"{1e3 / one.video_ms:.1f}",
            f"{one.video_ms / one.bare_ms:.2f}",
            str(one.peak_mb),
        )
    Console().print(table)
    if file is not None:
        file.write_text(json.dumps(as_json(found, dimensions, device=device, threads=threads), indent=1) + "\n")
