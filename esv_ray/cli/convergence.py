"""The command `esv convergence`."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from esv_ray import storage
from esv_ray.cli.options import code_option, option_group, output_option
from esv_ray.cli.types import LARGEST, LOCATION, Count, Real
from esv_ray.errors import SpecError, count_of

if TYPE_CHECKING:
    from esv_ray.analysis.convergence import Point
    from esv_ray.estimator import Kind

_WRITE = "write the convergence"


@dataclass(frozen=True)
class GridOptions:
    """The estimators that are compared with exact ESVs: each kind at each m and number of iterations."""

    ms: tuple[int, ...]
    iterations: tuple[int, ...]
    kinds: tuple[Kind, ...]
    logit: bool
    seed: int


@dataclass(frozen=True)
class VideoOptions:
    """The videos that are compared."""

    features: str
    columns: tuple[str, ...]
    n: int
    unlabelled: tuple[int, ...]
    videos: int
    threshold: float


video_options = option_group(
    VideoOptions,
    "selection",
    click.option("--features", type=LOCATION, metavar="URL", required=True, help="Feature table."),
    click.option(
        "--column",
        "columns",
        metavar="KEY=NAME",
        multiple=True,
        help="Other name of a column of the table (like `columns` in a job): features=embedding. Repeatable.",
    ),
    click.option(
        "-n", "n", type=Count(2, 24), default=12, show_default=True, help="Number of frames, sampled uniformly."
    ),
    click.option(
        "--unlabelled",
        type=Count(-LARGEST, LARGEST),
        metavar="N",
        multiple=True,
        help="Label that marks videos without one (like `unlabelled` in a job). Repeatable.",
    ),
    click.option("--videos", type=Count(1), default=32, show_default=True, help="Maximum number of videos."),
    click.option(
        "--threshold",
        type=Real(0),
        default=0.05,
        show_default=True,
        help="Leave out videos whose score differs from the class prior by less than this.",
    ),
)
grid_options = option_group(
    GridOptions,
    "grid",
    click.option(
        "-m",
        "ms",
        type=Count(1),
        multiple=True,
        default=(64, 256, 1024),
        show_default=True,
        help="Maximum number of subsequences sampled per scale and iteration. Repeatable.",
    ),
    click.option(
        "--iterations",
        type=Count(1),
        multiple=True,
        default=(1, 4),
        show_default=True,
        help="Number of iterations. Repeatable.",
    ),
    click.option(
        "--estimator",
        "kinds",
        type=click.Choice(["algorithm1", "adjusted"]),
        multiple=True,
        default=("algorithm1", "adjusted"),
        show_default=True,
        help="Estimator to compare. Repeatable.",
    ),
    click.option("--logit", is_flag=True, help="Compute ESVs of logits instead of probabilities."),
    click.option("--seed", type=Count(), default=0, show_default=True, help="Seed of the sampling."),
)


@click.command(short_help="Compare sampled ESVs with exact ones.")
@video_options
@click.option("--model", type=LOCATION, metavar="URL", required=True, help="Model bundle.")
@code_option
@grid_options
@click.option("--threads", type=Count(1), default=1, show_default=True, help="Number of torch threads.")
@output_option("Folder for the table (convergence.parquet) and the figure (convergence.svg, .png, .html).")
def convergence(
    model: str, code: tuple[str, ...], selection: VideoOptions, grid: GridOptions, threads: int, output: str | None
) -> None:
    """Compare sampled ESVs with exact ones, for each estimator (Fig. 8 of the paper).

    Compares the ESVs of the label of each video, or of the predicted class if it has no label. The figure
    needs the extra `figures` of esv-ray; without it, --output writes only the table.

    \b
    Columns:
      error   mean |estimate - exact| relative to mean |exact|, averaged over videos
      slope   least-absolute-deviations slope of estimates on exact values
      r       Pearson's correlation of estimates and exact values
      cost    head evaluations relative to those of exact ESVs
      ms      milliseconds per video
      stderr  mean standard error relative to mean |exact|
      cover   share of exact values within 1.96 standard errors of the estimate

    \b
    Example:
      esv convergence --features esv-demo/data/test.parquet --model esv-demo/model \\
          -n 12 --output esv-demo/convergence
    """
    if output is not None:
        _check_output(output, selection.features)
    points = _points(model, code, selection, grid, threads)
    _show(points)
    if output is not None:
        _write(points, output)


def _points(model: str, code: tuple[str, ...], selection: VideoOptions, grid: GridOptions, threads: int) -> list[Point]:
    import torch

    from esv_ray.analysis.convergence import convergence, estimator_grid
    from esv_ray.input.files import list_files
    from esv_ray.input.reasons import describe_reasons
    from esv_ray.input.table_classes import CLASSES, check_same_classes, classes_of_table
    from esv_ray.input.videos import VideoRequest, read_videos
    from esv_ray.machine import spare_memory
    from esv_ray.models.bundle import load_model
    from esv_ray.spec_columns import read_columns

    columns = read_columns(selection.columns, "--column")
    torch.set_num_threads(threads)
    loaded = load_model(model, code=code)
    request = VideoRequest(
        columns=columns,
        feature_dim=loaded.feature_dim,
        n_classes=loaded.n_classes,
        classes=loaded.classes,
        unlabelled=selection.unlabelled,
        names_advice=f"add classes.csv (header name,id) to the model {model}",
        mark_advice="give it with --unlabelled",
    )
    if loaded.classes is not None:
        files = list_files(selection.features, columns)
        tables = classes_of_table(selection.features, files)
        check_same_classes(tables, loaded.classes, storage.join(model, CLASSES), files)
    videos, invalid = read_videos(selection.features, request)
    if invalid:
        click.echo(f"{count_of(invalid.total(), 'row')} left out ({describe_reasons(invalid)})", err=True)
    return convergence(
        loaded,
        videos,
        selection.n,
        estimator_grid(grid.kinds, grid.ms, grid.iterations, grid.seed, "logit" if grid.logit else "probability"),
        most=selection.videos,
        threshold=selection.threshold,
        memory_budget=spare_memory(loaded.device),
        report=lambda point: click.echo(f"{point.estimator} m = {point.m} x{point.iterations}", err=True),
    )


def _check_output(output: str, features: str) -> None:
    """Check that the output can be written, before anything is computed.

    Raises:
        SpecError: it is inside the feature table.
        DataError: it cannot be written.
    """
    names = [f"convergence.{suffix}" for suffix in ("parquet", "svg", "png", "html")]
    storage.check_outside(features, output, names)
    storage.check_writable(output, _WRITE, names)


def _write(points: list[Point], output: str) -> None:
    """Write the table, and the figure where its libraries are installed."""
    import pyarrow.parquet as pq

    from esv_ray.analysis.convergence import as_table
    from esv_ray.analysis.figures.convergence import chart
    from esv_ray.analysis.figures.files import figure_files

    table, written = as_table(points), BytesIO()
    pq.write_table(table, written)
    files, note = {"parquet": written.getvalue()}, ""
    try:
        files |= figure_files(chart, table)
    except SpecError as error:  # they are not installed
        note = f"no figure: {error}"
    for suffix, data in files.items():
        storage.replace(storage.join(output, f"convergence.{suffix}"), data, _WRITE)
    click.echo(f"written: {', '.join(storage.join(output, f'convergence.{suffix}') for suffix in files)}")
    if note:
        click.echo(note, err=True)


def _show(points: list[Point]) -> None:
    first = points[0]
    click.echo(f"{count_of(first.videos, 'video')}, n = {first.n}; exact ESVs take {first.exact_ms:.3g} ms per video")
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("m", "estimator", "error", "slope", "r", "cost", "ms", "stderr", "cover"):
        table.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    for point in points:
        has_stderr = point.coverage == point.coverage  # NaN without standard errors
        table.add_row(
            f"{point.m} x{point.iterations}",
            point.estimator,
            _percent(point.relative_error),
            f"{point.lad_slope:.3f}",
            f"{point.pearson:.4f}",
            f"{100 * point.cost:.0f} %",
            f"{point.video_ms:.3g}",
            _percent(point.standard_error) if has_stderr else "-",
            f"{100 * point.coverage:.0f} %" if has_stderr else "-",
        )
    Console().print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.1e} %" if share < 1e-5 else f"{100 * share:.3g} %"
