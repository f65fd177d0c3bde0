"""The command `esv import features`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.options import option_group, output_option
from esv_ray.cli.progress import import_progress
from esv_ray.cli.types import LOCATION, NAME, Real
from esv_ray.errors import count_of
from esv_ray.input.sources.request import MAX_SKIPPED, ImportRequest
from esv_ray.show.text import printable
from esv_ray.signals import resumes

if TYPE_CHECKING:
    from esv_ray.input.sources.outcome import ImportResult

_FORMATS = ["numpy", "hdf5", "lmdb", "tar", "rows", "play-fair"]
_POSITIVE = Real(0, min_open=True)


request_options = option_group(
    ImportRequest,
    "request",
    click.argument("source", type=LOCATION),
    click.option("--from", "format", type=click.Choice(_FORMATS), required=True, help="Format of SOURCE."),
    output_option("Folder of the feature table.", into="out", required=True),
    click.option(
        "--labels",
        type=LOCATION,
        metavar="CSV",
        help="Labels; the header is video_id,label or path,label, and may also have split.",
    ),
    click.option(
        "--classes",
        type=LOCATION,
        metavar="CSV",
        help="Class names; the header is name,id. Without it, names of labels get ids in sorted order.",
    ),
    click.option("--keep-unlabelled", is_flag=True, help="Also write videos without a label, if others have one."),
    click.option(
        "--split",
        type=NAME,
        help="Keep rows of --labels or --segments with this split. With play-fair: the group (default: validation).",
    ),
    click.option(
        "--segments",
        type=LOCATION,
        metavar="CSV",
        help="Segments of untrimmed videos; the header is video,start,stop and may also have label, segment, split.",
    ),
    click.option("--fps", type=_POSITIVE, help="Frames per second: start and stop are seconds (default: frames)."),
    click.option("--stride", type=_POSITIVE, help="Frames from one row's start to the next (default: 1)."),
    click.option("--window", type=_POSITIVE, help="Frames that a row covers (default: the stride)."),
    click.option(
        "--layout",
        type=click.Choice(["TD", "DT"]),
        default="TD",
        show_default=True,
        help="Arrays are (T, D): a row per frame; or (D, T): a column per frame.",
    ),
    click.option(
        "--match",
        type=NAME,
        metavar="REGEX",
        help="Import only names that match; the group video_id is the id, e.g. '(?P<video_id>[^/]+)_rgb'.",
    ),
    click.option(
        "--key",
        type=NAME,
        help="Name of the array in a .npz, .pt or .pkl file, an HDF5 group, or a sample of a tar file.",
    ),
    click.option("--frames-key", type=NAME, help="Name of the frame numbers in an HDF5 group, e.g. picks."),
    click.option("--id", type=NAME, help="With rows: the column that names the video, e.g. episode_index."),
    click.option("--order", type=NAME, help="With rows: the column that orders the frames, e.g. frame_index."),
    click.option("--features", type=NAME, help="With rows: the column of the features."),
    click.option(
        "--dtype",
        type=click.Choice(["float16", "float32", "float64"]),
        help="Type of the features in the table (default: that of the first video).",
    ),
    click.option(
        "--max-skipped",
        type=Real(0, 1),
        default=MAX_SKIPPED,
        show_default=True,
        metavar="SHARE",
        help="Largest share of videos, segments and labels that may be left out.",
    ),
)


@click.command(name="features")
@request_options
def import_features(request: ImportRequest) -> None:
    """Import features in another format as a feature table.

    SOURCE is a file, a folder or a glob. What it holds depends on --from:

    \b
      numpy      one .npy, .npz, .pt or .pkl file per video
      hdf5       one dataset or group per video
      lmdb       one key per frame
      tar        WebDataset shards
      rows       Parquet with one row per frame
      play-fair  the HDF5 file of the paper's authors

    Videos with faults are counted, named and left out. Run the same command again after an interruption: completed
    files are kept.

    \b
    Examples:
      esv import features --from numpy features/ --labels labels.csv --output table/
      esv import features --from hdf5 tvsum.h5 --key features --frames-key picks --output table/
      esv import features --from numpy i3d/ --output table/ \\
        --segments segments.csv --fps 30 --stride 4 --window 16
    """
    resumes()
    from esv_ray.input.sources.importing import import_features as run

    with import_progress() as report:
        result = run(request, report)
    show_import(result, request.out)


def show_import(result: ImportResult, out: str) -> None:
    """Print what was written, and what was left out."""
    if result.skipped.total:
        table = Table(title="not written")
        table.add_column("number", justify="right")
        table.add_column("reason")
        table.add_column("first")
        for reason, number, names in result.skipped.rows():
            table.add_row(str(number), reason, printable(names))
        Console().print(table)
    for note in result.notes:
        click.echo(printable(note))
    if result.was_complete:
        click.echo("the table was complete before; nothing was changed")
    classes = f", {result.classes} classes" if result.classes else ", no labels"
    click.echo(
        f"{count_of(result.rows, 'video')}, {count_of(result.frames, 'frame')} in all, D = {result.dim}, "
        f"{result.dtype}{classes}; feature table: {out} ({count_of(result.files, 'file')})"
    )
