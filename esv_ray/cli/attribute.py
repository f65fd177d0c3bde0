"""The commands `esv attribute` and `esv verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import JobArguments, RunOptions, code_option, job_options, read_job, run_options
from esv_ray.cli.outcome import show_result
from esv_ray.cli.types import LOCATION, Count, LocalPath
from esv_ray.errors import count_of
from esv_ray.show.text import printable
from esv_ray.signals import resumes

if TYPE_CHECKING:
    from esv_ray.attribution.partitions import Partition
    from esv_ray.job.result import JobResult
    from esv_ray.output.verify.output import Verification
    from esv_ray.spec import JobSpec


_LISTED = 10


@click.command(short_help="Compute the ESVs of every video.")
@job_options
@run_options
@click.option(
    "--log",
    type=LocalPath(),
    metavar="FILE",
    help="Append one line of JSON per unit, probe and fault to FILE (- for standard error).",
)
@click.pass_context
def attribute(context: click.Context, job: JobArguments, run: RunOptions, log: str | None) -> None:
    """Compute the ESVs of every video of a feature table.

    SPEC is a YAML file; options set or override its keys. Run the same command again to resume an interrupted run.

    With --partitions, `features` is a folder of partitions (features/dt=2026-11-23/...), and each partition has
    its own output, OUTPUT/<partition>. Finished partitions are skipped if their files are unchanged. A problem with
    one partition is reported and does not stop the others. Use it for scheduled runs.

    \b
    Examples:
      esv attribute job.yaml
      esv attribute --features data/ --model models/trn --output esv/ --set frames=8
      esv attribute job.yaml --set estimator.m=256 --set 'classes=[label,top:3]'
      esv attribute job.yaml --code my_models
      esv attribute job.yaml --retry-failed --log units.jsonl
      esv attribute nightly.yaml --partitions --ready _SUCCESS

    \b
    Exit codes:
      0    done
      1    too many videos failed, a unit could not be committed (run again to resume), or a
           partition has a problem
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    from esv_ray.cli.progress import job_progress
    from esv_ray.cli.unit_log import unit_log

    resumes()
    run.check()
    spec = read_job(job)
    if run.partitions:
        with unit_log(log):
            context.exit(_attribute_partitions(spec, run))
    from esv_ray.attribution.work import run_job  # Ray takes a second to import: invalid requests are answered at once

    with unit_log(log), job_progress() as report:
        result = run_job(spec, report, retry_failed=run.retry_failed)
    show_result(result)
    context.exit(result.exit_code)


def _attribute_partitions(spec: JobSpec, run: RunOptions) -> int:
    from esv_ray.attribution.partitions import plan_partitions, run_partitions
    from esv_ray.cli.progress import job_progress

    planned = plan_partitions(spec, ready=run.ready, retry_failed=run.retry_failed)
    counts = run_partitions(spec.output, planned, _show_partition, progress=job_progress, retry_failed=run.retry_failed)
    click.echo(
        f"{len(planned)} partitions: {counts['finished']} finished before, {counts['attributed']} attributed now, "
        f"{counts['empty']} empty, {counts['not ready']} not ready, {counts['problem']} with problems"
    )
    return 1 if counts["problem"] else 0


def _show_partition(partition: Partition, result: JobResult | None) -> None:
    name = printable(partition.name)
    if result is not None:
        click.echo(f"{name}:")
        show_result(result)
    if partition.state == "problem":
        click.echo(f"{name}: {printable(partition.why)}", err=True)
    elif partition.state in ("empty", "not ready"):
        reason = "no Parquet files yet" if partition.state == "empty" else partition.state
        click.echo(f"{name}: {reason}; skipped")


@click.command(short_help="Check that an output is complete and consistent.")
@click.argument("output", type=LOCATION)
@click.option(
    "--repair", is_flag=True, help="Move broken files to OUTPUT/_aside; run the same job again to recompute them."
)
@click.option(
    "--recompute",
    type=Count(min=1),
    metavar="N",
    help="Recompute N videos, drawn with the job's seed, and compare every stored column.",
)
@code_option
@click.option(
    "--features",
    type=LOCATION,
    metavar="URL",
    help="Location of the feature table, if it moved or is on another kind of store than the output. "
    "[default: as recorded in the output]",
)
@click.option(
    "--model",
    type=LOCATION,
    metavar="URL",
    help="With --recompute: location of the model bundle. [default: as recorded in the output]",
)
@click.pass_context
def verify(
    context: click.Context,
    output: str,
    repair: bool,
    recompute: int | None,
    code: tuple[str, ...],
    features: str | None,
    model: str | None,
) -> None:
    """Check that an OUTPUT is complete and consistent.

    Checks the counts against the plan and the input's footers, and ids, checksums, schemas, ranges of values,
    efficiency (the ESVs of a class sum to score - prior) and _SUCCESS.

    For a feature table that esv extract wrote, it checks the counts against the plan, checksums, rows and _SUCCESS.

    With --recompute, the job's model recomputes some videos in this process. If the model needs code, name its
    packages with --code; the `code` recorded in the output is ignored.

    \b
    Examples:
      esv verify esv/
      esv verify esv/ --recompute 20
      esv verify esv/ --recompute 20 --model models/trn --features data/ --code my_models

    \b
    Exit codes:
      0  no problems
      1  problems were found; each is printed on one line, followed by the units to recompute
      2  there is no output, or its videos cannot be recomputed here
    """
    if recompute is None and (code or model is not None):
        raise click.UsageError("--code and --model require --recompute")
    from esv_ray.extraction.several import tables_in
    from esv_ray.extraction.verifying import is_extraction
    from esv_ray.output.verify.output import verify_output
    from esv_ray.storage import absolute

    location = absolute(output)
    tables = [location] if is_extraction(location) else tables_in(location)
    if tables:
        if repair or recompute is not None or features is not None:
            raise click.UsageError("--repair, --recompute and --features are for outputs of esv attribute")
        context.exit(max([_verify_table(table, named=len(tables) > 1) for table in tables]))
    verification = verify_output(location, features)
    for line in (*verification.problems, *verification.notes):
        click.echo(printable(line), err=True)
    click.echo(_summary(verification))
    _show_repair(output, location, verification, repair)
    differs = False
    if recompute is not None and not verification.wrong_manifest:
        differs = _recompute(location, recompute, code, features, model, verification.redo)
    context.exit(1 if verification.problems or differs else 0)


def _verify_table(output: str, *, named: bool) -> int:
    """Verify a feature table of `esv extract`, print the result, of several with its name; return the exit code."""
    from esv_ray.extraction.verifying import verify_table

    verification = verify_table(output)
    name = f"{printable(output)}: " if named else ""
    for line in verification.problems:
        click.echo(name + printable(line), err=True)
    counts = verification.counts
    click.echo(
        f"{name}{verification.committed} of {verification.units} units, {count_of(counts.rows, 'video')}: "
        f"{counts.ok} ok, {counts.failed} failed; "
        + (f"{count_of(len(verification.problems), 'problem')}" if verification.problems else "no problems")
    )
    if verification.problems:
        click.echo("to repair: move the named files away, then run the same esv extract again")
    return 1 if verification.problems else 0


def _summary(verification: Verification) -> str:
    if verification.wrong_manifest:
        return "run.json cannot be read: nothing else was checked"
    counts = verification.counts
    return (
        f"{verification.committed} of {verification.units} units, {count_of(counts.rows, 'video')}: {counts.ok} ok, "
        f"{counts.skipped} skipped, {counts.failed} failed; largest efficiency gap of exact rows "
        f"{verification.worst_gap:.1e}; "
        + (f"{len(verification.problems)} problems" if verification.problems else "no problems")
    )


def _show_repair(output: str, location: str, verification: Verification, repair: bool) -> None:
    """Print which units to recompute, and move broken files aside or say how to."""
    from esv_ray.output.verify.output import repair_output

    redo = verification.redo
    if redo:
        more = len(redo) - _LISTED
        names = ", ".join(redo[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        click.echo(f"{count_of(len(redo), 'unit')} to recompute: {names}")
    if repair:
        moved = repair_output(location, verification)
        aside = f"{count_of(len(moved), 'file')} moved to {location}/_aside; run the job again to recompute them"
        click.echo(aside if moved else "nothing to move aside")
    elif redo or verification.strays or verification.wrong_success or verification.wrong_manifest:
        click.echo(f"to repair: esv verify --repair {output}, then run the job again")


def _recompute(
    output: str,
    count: int,
    code: tuple[str, ...],
    features: str | None,
    model: str | None,
    broken: tuple[str, ...],
) -> bool:
    """Recompute some videos and print how they differ from the output's; return whether they do."""
    from esv_ray.attribution.recompute import recompute

    recomputed = recompute(output, count, code=code, features=features, model=model, without=broken)
    for line in recomputed.problems:
        click.echo(printable(line), err=True)
    differences = f"{len(recomputed.problems)} differences" if recomputed.problems else "no differences"
    click.echo(
        f"{count_of(recomputed.videos, 'video')} recomputed: {recomputed.same} bit-identical; "
        f"{differences} beyond rounding"
    )
    if recomputed.problems:
        click.echo(
            "possible causes: the model draws at random or has changed, or the tables were computed with other "
            "software or on another processor"
        )
    return bool(recomputed.problems)
