"""esv demo: the main job on real data, with one command."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click

from esv_ray import storage
from esv_ray.cli.types import LocalPath
from esv_ray.signals import resumes

_SPEC = """\
# The job that `esv demo` ran. Change a key, choose another output, and run: esv attribute {path}
features: {features}
model: {model}
output: {output}
frames: all             # every element; or a number to sample, or a list to sweep
classes: [label, predicted]
estimator:
  kind: auto            # exact for short videos, sampled for long ones
  m: 1024
  iterations: 1
"""


_SHAPES = "shapes"


@click.command(short_help="Run a complete example on real data, or on rendered videos.")
@click.argument("name", required=False, type=LocalPath(), metavar="[DIR|shapes]")
@click.option(
    "--output", "-o", type=LocalPath(), metavar="DIR", help="Folder to write to (default: esv-demo, or esv-shapes)."
)
@click.pass_context
def demo(context: click.Context, name: str | None, output: str | None) -> None:
    """Train a small model on real data and compute the ESVs of 370 sequences, in DIR (default: esv-demo).

    The data are JapaneseVowels: nine speakers say two vowels; each sequence has 7 to 29 frames of 12 coefficients
    (UCI, CC BY 4.0). A second run continues where the first one stopped.

    `esv demo shapes` goes from video files to a report instead. It renders videos in which a short event decides the
    class by the order of its frames, runs esv extract, train, attribute, order, analyze and report on them, and says
    how well the ESVs find the deciding frames. It requires: pip install 'esv-ray[figures,video]'.

    \b
    Examples:
      esv demo
      esv demo shapes --output shapes-demo

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume)
      2    a package is missing, or the folder cannot be written to
      130  interrupted (run again to resume)
    """
    resumes()
    if name == _SHAPES:
        from esv_ray.cli.demo_shapes import FOLDER, run_shapes

        context.exit(run_shapes(Path(output or FOLDER)))
    if name is not None and output is not None:
        raise click.UsageError(f"expected one folder, got {name} and --output {output}")
    context.exit(_run_vowels(Path(name or output or "esv-demo")))


def _run_vowels(home: Path) -> int:
    """Run the demo on real data in a folder; return its exit code."""
    from esv_ray.cli.outcome import show_result
    from esv_ray.cli.progress import job_progress
    from esv_ray.spec import load_spec

    started = time.monotonic()
    _copy_data(home / "data")
    _train(home)
    spec = home / "attribute.yaml"
    if not spec.exists():
        _write_spec(spec)
    click.echo("2. Computing Element Shapley Values of 370 test sequences")
    from esv_ray.attribution.work import run_job

    with job_progress() as report:
        result = run_job(load_spec(str(spec)), report)
    show_result(result)
    if not result.counts.ok:
        return result.exit_code
    click.echo("3. Summary of the results")
    _show_tables(result.output)
    _show_videos(result.output)
    click.echo(f"\nFinished in {time.monotonic() - started:.0f} s. Next steps:")
    click.echo(f"  esv verify {shlex.quote(str(home / 'esv'))}    # check counts, ids and the efficiency of every row")
    click.echo(
        f"  esv attribute {shlex.quote(str(spec))} --output {shlex.quote(str(home / 'esv-8'))} --set frames=8"
        "    # the same with 8 frames"
    )
    click.echo(f"  esv show {shlex.quote(str(home / 'esv'))}    # lists sequences; add an id to see one")
    click.echo(f"  esv analyze {shlex.quote(str(home / 'esv'))}    # tables of the whole data set")
    click.echo("What these words and numbers mean: esv_ray/docs/tutorial.md and esv_ray/docs/explanation/terms.md")
    click.echo(f"Read {home / 'esv' / 'attributions'} with pyarrow, pandas, duckdb or any other reader of Parquet.")
    return result.exit_code


def _show_tables(output: str) -> None:
    """Print two tables of the analysis."""
    from esv_ray.analysis.analyzed import open_output
    from esv_ray.analysis.tables import chosen, tables_of_facets
    from esv_ray.cli.analyze import print_pages

    analyzed = open_output(output)
    with tables_of_facets(analyzed, chosen(analyzed, ["summary", "classes"])) as made:
        print_pages(analyzed, made)


def _show_videos(output: str) -> None:
    """Show a video that is classified correctly, and one that is not."""
    from esv_ray.show.listing import list_videos
    from esv_ray.show.read import read_video
    from esv_ray.show.terminal import encodable, video_lines

    click.echo("4. One sequence that is classified correctly, and one that is misclassified")
    listing = list_videos(output, 1)
    for video in listing.right + listing.wrong:
        lines = ["", *video_lines(read_video(output, video.video_id))]
        click.echo(encodable("\n".join(lines), sys.stdout.encoding))


def _train(home: Path) -> None:
    """Train the demo's model, unless an earlier run has."""
    from esv_ray.cli.progress import train_progress
    from esv_ray.cli.train import show_training
    from esv_ray.models.saving import exists_bundle
    from esv_ray.spec_train import load_train_spec
    from esv_ray.training.work import train

    data, model = home / "data", str(home / "model")
    if exists_bundle(model):
        click.echo(f"model: {model} (trained by an earlier run)")
        return
    click.echo("1. Training nine-class heads f^1 .. f^8 on 270 sequences")
    spec = load_train_spec(
        {"features": str(data / "train.parquet"), "classes": str(data / "classes.csv"), "output": model}
    )
    with train_progress() as report:
        show_training(train(spec, report))


def _write_spec(spec: Path) -> None:
    from esv_ray.spec_yaml import write_text

    home = spec.parent
    locations = {
        "features": str((home / "data" / "test.parquet").absolute()),
        "model": str((home / "model").absolute()),
        "output": str((home / "esv").absolute()),
    }
    quoted = {key: write_text(value) for key, value in locations.items()}
    text = _SPEC.format(path=shlex.quote(str(spec)), **quoted)
    storage.replace(str(spec.absolute()), text.encode(), "write the demo's spec")


def _copy_data(target: Path) -> None:
    """Copy the demo's data beside its results: from the installed package, or from the checkout."""
    from esv_ray.sample import demo_folder

    source = demo_folder()
    for name in ("train.parquet", "test.parquet", "classes.csv", "README.md"):
        if not (target / name).exists():
            storage.replace(str((target / name).absolute()), (source / name).read_bytes(), "write the demo's data")
