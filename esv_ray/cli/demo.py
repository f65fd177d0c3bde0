"""esv demo: the main job on real data, with one command."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from esv_ray import storage
from esv_ray.cli.types import LocalPath

_SPEC = """\
# The job that `esv demo` ran. Change a key, give another output, and run: esv attribute {path}
features: {features}
model: {model}
output: {output}
frames: all             # every element; or a number to sample, or a list to sweep
classes: [label, predicted]
estimator:
  kind: auto            # exact where short, sampled where long
  m: 1024
  iterations: 1
"""


@click.command()
@click.argument("folder", default="esv-demo", type=LocalPath(), metavar="[DIR]")
@click.pass_context
def demo(context: click.Context, folder: str) -> None:
    """Train a small model on real data and compute the ESVs of 370 sequences, in DIR (default: esv-demo).

    JapaneseVowels: nine speakers say two vowels; 7 to 29 frames of 12 coefficients (UCI, CC BY 4.0). A second run
    resumes at once.
    """
    from esv_ray.analysis.summary import summarize
    from esv_ray.cli.analyze import tell_summary
    from esv_ray.cli.attribute import tell
    from esv_ray.cli.models import tell_training
    from esv_ray.cli.progress import job_progress, train_progress
    from esv_ray.models.bundle import exists_bundle
    from esv_ray.models.train import train
    from esv_ray.spec import load_spec, load_train_spec
    from esv_ray.spec_yaml import write_text

    begun = time.monotonic()
    home = Path(folder)
    data, model = home / "data", str(home / "model")
    _copy_data(data)
    if exists_bundle(model):
        click.echo(f"model: {model} (trained by an earlier run)")
    else:
        click.echo("1. Training nine-class heads f^1 .. f^8 on 270 sequences")
        wanted = load_train_spec(
            {"features": str(data / "train.parquet"), "classes": str(data / "classes.csv"), "output": model}
        )
        with train_progress() as report_training:
            tell_training(train(wanted, report_training))
    spec = home / "attribute.yaml"
    if not spec.exists():
        there = {
            "features": str((data / "test.parquet").absolute()),
            "model": str(Path(model).absolute()),
            "output": str((home / "esv").absolute()),
        }
        quoted = {key: write_text(value) for key, value in there.items()}
        text = _SPEC.format(path=shlex.quote(str(spec)), **quoted)
        storage.replace(str(spec.absolute()), text.encode(), "write the demo's spec")
    click.echo("2. Computing Element Shapley Values of 370 test sequences")
    from esv_ray.attribution.work import run_job

    with job_progress() as report:
        result = run_job(load_spec(str(spec)), report)
    tell(result)
    if not result.counts.ok:
        context.exit(result.exit_code)
    click.echo("3. What they say")
    tell_summary(summarize(result.output))
    click.echo(f"\nAll in {time.monotonic() - begun:.0f} s. Next:")
    click.echo(f"  esv verify {shlex.quote(str(home / 'esv'))}    # counts, ids, efficiency of every row")
    click.echo(
        f"  esv attribute {shlex.quote(str(spec))} --output {shlex.quote(str(home / 'esv-8'))} --set frames=8"
        "    # the same with 8 frames"
    )
    click.echo(f"and read {home / 'esv' / 'attributions'} with pyarrow, pandas, duckdb or whatever reads Parquet.")
    context.exit(result.exit_code)


def _copy_data(target: Path) -> None:
    """The demo's data beside its results: from the installed package, or from the checkout that it is run from."""
    package = Path(__file__).parents[1]
    installed = package / "_demo"
    source = installed if installed.is_dir() else package.parent / "jobs" / "demo"
    for name in ("train.parquet", "test.parquet", "classes.csv", "README.md"):
        if not (target / name).exists():
            storage.replace(str((target / name).absolute()), (source / name).read_bytes(), "write the demo's data")
