"""esv convergence."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from esv_ray.cli.job_options import code_option
from esv_ray.cli.types import LOCATION, Count, LocalPath, Real
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.analysis.convergence import Point
    from esv_ray.core.estimator import Kind


_LARGEST = 2**63 - 1  # of a label


@click.command()
@click.option("--features", type=LOCATION, metavar="URL", required=True, help="Feature table.")
@click.option("--model", type=LOCATION, metavar="URL", required=True, help="Model bundle.")
@code_option
@click.option("-n", "n", type=Count(2, 24), default=12, show_default=True, help="Frames, sampled uniformly.")
@click.option(
    "-m",
    "ms",
    type=Count(1),
    multiple=True,
    default=(64, 256, 1024),
    show_default=True,
    help="Most subsequences sampled per scale and iteration; may be repeated.",
)
@click.option(
    "--iterations",
    type=Count(1),
    multiple=True,
    default=(1, 4),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--estimator",
    "kinds",
    type=click.Choice(["algorithm1", "adjusted"]),
    multiple=True,
    default=("algorithm1", "adjusted"),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--unlabelled",
    type=Count(-_LARGEST, _LARGEST),
    metavar="N",
    multiple=True,
    help="A label that marks videos without one, as `unlabelled` of a job; may be repeated.",
)
@click.option("--videos", type=Count(1), default=32, show_default=True, help="Most videos compared.")
@click.option(
    "--threshold",
    type=Real(0),
    default=0.05,
    show_default=True,
    help="Leave videos out whose score differs less from its prior.",
)
@click.option("--logit", is_flag=True, help="ESVs in logits, not in probability.")
@click.option("--seed", type=Count(), default=0, show_default=True, help="Of the sampling.")
@click.option("--threads", type=Count(1), default=1, show_default=True, help="Of torch.")
@click.option("--output", type=LocalPath(file_okay=False, path_type=Path), help="Folder for table and figure.")
def convergence(
    features: str,
    model: str,
    code: tuple[str, ...],
    n: int,
    ms: tuple[int, ...],
    iterations: tuple[int, ...],
    kinds: tuple[Kind, ...],
    unlabelled: tuple[int, ...],
    videos: int,
    threshold: float,
    logit: bool,
    seed: int,
    threads: int,
    output: Path | None,
) -> None:
    """How near sampled ESVs come to exact ones, estimator by estimator (Fig. 8 of the paper).

    "error" is the mean |estimate - exact| over the mean |exact| of the labelled class (the predicted one where there
    is no label), averaged over videos; "slope" and "r" are the least-absolute-deviations slope and Pearson's
    correlation of estimates on exact values; "share" the head evaluations over those of exact ESVs; "stderr" the mean
    standard error over the mean |exact|, "cover" how many exact values lie within 1.96 of them. With
    --output: convergence.parquet and convergence.html (and .png where kaleido is installed).

    \b
    Example:
      esv convergence --features esv-demo/data/test.parquet --model esv-demo/model \\
          -n 12 --output esv-demo/convergence
    """
    import pyarrow.parquet as pq
    import torch

    from esv_ray.analysis.convergence import as_table, grid
    from esv_ray.analysis.convergence import convergence as run
    from esv_ray.analysis.convergence_figure import check_plotting, write_figure
    from esv_ray.input.videos import read_videos, reasons
    from esv_ray.machine import spare_memory
    from esv_ray.models.bundle import load_model

    if output is not None:
        check_plotting()
        _check_output(output, features)
    torch.set_num_threads(threads)
    loaded = load_model(model, code=code)
    found, bad = read_videos(features, loaded.n_classes, unlabelled=unlabelled)
    if bad:
        click.echo(f"{bad.total()} rows were left out ({reasons(bad)})", err=True)
    points = run(
        loaded,
        found,
        n,
        grid(kinds, ms, iterations, seed, "logit" if logit else "probability"),
        most=videos,
        threshold=threshold,
        memory_budget=spare_memory(loaded.device),
        report=lambda point: click.echo(f"{point.estimator} m = {point.m} x{point.iterations}", err=True),
    )
    _show(points)
    if output is not None:
        pq.write_table(as_table(points), output / "convergence.parquet")
        written, missed = write_figure(points, output / "convergence.html")
        click.echo(f"written: {', '.join(str(path) for path in [output / 'convergence.parquet', *written])}")
        if missed:
            click.echo(missed, err=True)


def _check_output(output: Path, features: str) -> None:
    """Refuse what could not be written before anything is computed.

    Raises:
        SpecError: one line says what.
    """
    from esv_ray.storage import check_outside, check_way

    if "://" in str(output) or ":/" in str(output):
        raise SpecError(f"--output {output}: expected a folder of this machine")
    check_outside(features, str(output), ["convergence.parquet"])
    check_way(str(output))
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in ("convergence.parquet", "convergence.html", "convergence.png"):
            if (output / name).is_dir():
                raise SpecError(f"--output {output}: {name} in it is a folder")
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise SpecError(f"--output {output}: cannot be made or written: {error.strerror}") from None


def _show(points: list[Point]) -> None:
    first = points[0]
    click.echo(f"{first.videos} videos, n = {first.n}; exact ESVs take {first.exact_ms:.3g} ms a video")
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("m", "estimator", "error", "slope", "r", "share", "ms", "stderr", "cover"):
        table.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    for point in points:
        known = point.coverage == point.coverage  # NaN: no standard errors
        table.add_row(
            f"{point.m} x{point.iterations}",
            point.estimator,
            _percent(point.relative_error),
            f"{point.lad_slope:.3f}",
            f"{point.pearson:.4f}",
            f"{100 * point.share:.0f} %",
            f"{point.video_ms:.3g}",
            _percent(point.standard_error) if known else "-",
            f"{100 * point.coverage:.0f} %" if known else "-",
        )
    Console().print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.1e} %" if share < 1e-5 else f"{100 * share:.3g} %"
