"""esv smoothness, esv order, esv sanity: jobs of variations of sequences and of the model, and their tables."""

from __future__ import annotations

from dataclasses import replace

import click

from esv_ray.cli.options import JobArguments, job_options, read_job
from esv_ray.cli.outcome import show_result
from esv_ray.cli.types import NAME, Count
from esv_ray.output.layout import ANALYSIS, ORDER, SANITY, SMOOTHNESS, VARIATIONS_FOLDER
from esv_ray.show.text import printable
from esv_ray.signals import resumes


@click.command(short_help="Measure how ESVs change with neighboring frames.")
@job_options
@click.option(
    "--offsets",
    type=NAME,
    metavar="1,2,3",
    help="By how many frames an element is moved, both ways (default: variations.offsets of the spec, 1,2,3).",
)
@click.pass_context
def smoothness(context: click.Context, job: JobArguments, offsets: str | None) -> None:
    """Attribute each sequence again with one element replaced by a neighboring frame.

    Writes the tables of the job to OUTPUT/variations/smoothness, and a summary to OUTPUT/analysis/smoothness.parquet:
    by how much the element's share of the ESVs changes. An element moves at most as far as the frames of the elements
    beside it. The paper uses 16 frames. Run it again to resume.

    \b
    Examples:
      esv smoothness job.yaml
      esv smoothness job.yaml --set frames=16 --offsets 1,2

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume)
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    context.exit(_run(job, SMOOTHNESS, None if offsets is None else f"offsets=[{offsets.strip('[]')}]"))


@click.command(short_help="Measure how much the order of elements matters.")
@job_options
@click.option(
    "--shuffles",
    type=Count(min=1),
    metavar="N",
    help="Number of random orders per video (default: variations.shuffles of the spec, 8).",
)
@click.pass_context
def order(context: click.Context, job: JobArguments, shuffles: int | None) -> None:
    """Attribute each sequence again with its elements in random orders.

    Writes the tables of the job to OUTPUT/variations/order, and a summary to OUTPUT/analysis/order.parquet: what
    share of the score is due to the order, and which classes need it. Run it again to resume.

    \b
    Examples:
      esv order job.yaml
      esv order job.yaml --shuffles 20

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume)
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    context.exit(_run(job, ORDER, None if shuffles is None else f"shuffles={shuffles}"))


@click.command(short_help="Check that ESVs depend on what the model learned.")
@job_options
@click.pass_context
def sanity(context: click.Context, job: JobArguments) -> None:
    """Attribute each sequence again with layers of the model re-initialized, the one next to the logits first.

    Writes the tables of the job to OUTPUT/variations/sanity, and a summary to OUTPUT/analysis/sanity.parquet: the rank
    correlation with the ESVs of the model itself, which should fall to 0 (Adebayo et al. 2018). Run it again to resume.

    \b
    Examples:
      esv sanity job.yaml

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume)
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    context.exit(_run(job, SANITY))


def _run(job: JobArguments, table: str, setting: str | None = None) -> int:
    """Run the job of a table of variations, print and write its summary, and return the exit code."""
    from esv_ray import storage
    from esv_ray.analysis.analyzed import open_output
    from esv_ray.analysis.files import write_tables
    from esv_ray.analysis.tables import chosen, tables_of_facets
    from esv_ray.cli.analyze import print_pages
    from esv_ray.cli.progress import job_progress
    from esv_ray.spec_yaml import write_text

    resumes()
    main = read_job(job).output
    own = [f"output={write_text(storage.join(main, VARIATIONS_FOLDER, table))}", f"tables=[{table}]", "methods=[esv]"]
    own += [] if setting is None else [f"variations.{setting}"]
    spec = read_job(replace(job, overrides=(*job.overrides, *own)))
    from esv_ray.attribution.work import run_job  # Ray takes a second to import: invalid requests are answered at once

    with job_progress() as report:
        result = run_job(spec, report)
    show_result(result)
    if result.counts.ok:
        analyzed = open_output(spec.output)
        with tables_of_facets(analyzed, chosen(analyzed, [table])) as made:
            print_pages(analyzed, made)
            (url,) = write_tables(made, storage.join(main, ANALYSIS))
        click.echo(f"\nsummary: {printable(url)}")
    return result.exit_code
