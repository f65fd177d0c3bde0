"""esv attribute, esv verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esv_ray.cli.job_options import code_option, job_options, read_job
from esv_ray.cli.types import LOCATION, NAME, Count, LocalPath

if TYPE_CHECKING:
    from esv_ray.attribution.partitions import Partition
    from esv_ray.job.result import JobResult
    from esv_ray.output.verify.output import Verification
    from esv_ray.spec import JobSpec


_NAMED = 10
_GO_ON = "the rest is committed; run the same command again to resume"


@click.command()
@job_options
@click.option("--retry-failed", is_flag=True, help="Try the videos again that failed; what is well stays as it is.")
@click.option(
    "--partitions", is_flag=True, help="Take every sub-directory of the features as a job; do those not yet done."
)
@click.option("--ready", type=NAME, metavar="NAME", help="With --partitions: only those that hold a file of this name.")
@click.option(
    "--log",
    type=LocalPath(),
    metavar="FILE",
    help="Append one line of JSON for every unit to FILE; - for standard error.",
)
@click.pass_context
def attribute(
    context: click.Context,
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    code: tuple[str, ...],
    retry_failed: bool,
    partitions: bool,
    ready: str | None,
    log: str | None,
) -> None:
    """Compute ESVs of every video of a feature table.

    SPEC is a YAML file; options set or override its keys. The same command again resumes an interrupted run.

    With --partitions, `features` is a directory of partitions (features/dt=2026-11-23/...), and each has an output of
    its own, OUTPUT/<partition>. Finished ones are passed over after a look at whether their files are still the same;
    a problem with one is told and does not stop the others. Made to be run on a schedule.

    \b
    Examples:
      esv attribute job.yaml
      esv attribute --features data/ --model models/trn --output esv/ --set frames=8
      esv attribute job.yaml --set estimator.m=256 --set classes=[label,top:3]
      esv attribute job.yaml --code my_models
      esv attribute job.yaml --retry-failed --log units.jsonl
      esv attribute nightly.yaml --partitions --ready _SUCCESS

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume); or a
           partition has a problem
      2    the request is wrong
      130  interrupted (run again to resume)
    """
    from esv_ray.cli.progress import job_progress, unit_log

    if ready is not None and not partitions:
        raise click.UsageError("--ready goes with --partitions")
    job = read_job(spec, features, model, output, overrides, code)
    if partitions:
        with unit_log(log):
            context.exit(_attribute_partitions(job, ready, retry_failed))
    from esv_ray.attribution.work import run_job

    with unit_log(log), job_progress() as report:
        result = run_job(job, report, retry_failed=retry_failed)
    tell(result)
    context.exit(result.exit_code)


def _attribute_partitions(job: JobSpec, ready: str | None, retry_failed: bool) -> int:
    from esv_ray.attribution.partitions import plan_partitions, run_partitions
    from esv_ray.cli.progress import job_progress

    planned = plan_partitions(job, ready=ready, retry_failed=retry_failed)
    ended = run_partitions(job.output, planned, _tell_partition, progress=job_progress, retry_failed=retry_failed)
    click.echo(
        f"{len(planned)} partitions: {ended['finished']} finished before, {ended['attributed']} attributed now, "
        f"{ended['empty']} empty, {ended['not ready']} not ready, {ended['problem']} with problems"
    )
    return 1 if ended["problem"] else 0


def _tell_partition(partition: Partition, result: JobResult | None) -> None:
    name = printable(partition.name)
    if result is not None:
        click.echo(f"{name}:")
        tell(result)
    if partition.state == "problem":
        click.echo(f"{name}: {printable(partition.why)}", err=True)
    elif partition.state in ("empty", "not ready"):
        told = "no Parquet files yet" if partition.state == "empty" else partition.state
        click.echo(f"{name}: {told}; passed over")


def printable(text: str) -> str:
    """Text of a table as a terminal may be given it: control characters escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def tell(result: JobResult) -> None:
    """How a job ended, for people."""
    counts = result.counts
    resumed = f", {result.resumed_units} of {result.units} units resumed" if result.resumed_units else ""
    click.echo(
        f"{counts.rows} videos: {counts.ok} ok, {counts.skipped} skipped, {counts.failed} failed; "
        f"{counts.written.get('attribution_rows', 0)} attributions in {result.seconds:.1f} s{resumed}"
    )
    for video_id, reason in result.failed:
        click.echo(f"  failed: {printable(video_id) or '(no id)'}: {printable(reason)}")
    if counts.failed > len(result.failed):
        click.echo(f"  and {counts.failed - len(result.failed)} more: see status and reason in {result.output}/videos")
        for reason, count in sorted(result.reasons.items(), key=lambda item: -item[1])[:_NAMED]:
            click.echo(f"  {count} of this run: {printable(reason)}")
    if counts.failed > result.max_failed * counts.rows:
        click.echo(f"more than max_failed = {result.max_failed:g} of the videos failed", err=True)
    for unit, reason in list(result.quarantined.items())[:_NAMED]:
        click.echo(f"unit {unit} could not be committed: {printable(reason)}", err=True)
    for unit in result.missing[:_NAMED]:
        click.echo(f"unit {unit} is missing", err=True)
    if result.units_left:
        click.echo(f"{printable(result.problem)}; {_GO_ON}", err=True)
    if result.repeated:
        click.echo(printable(result.repeated), err=True)
    click.echo(f"tables: {printable(result.output)}")


@click.command()
@click.argument("output", type=LOCATION)
@click.option(
    "--repair", is_flag=True, help="Move what is wrong to OUTPUT/_aside, so that the same job again does it anew."
)
@click.option(
    "--recompute",
    type=Count(min=1),
    metavar="N",
    help="Recompute N videos, drawn by the job's seed, and compare every stored column.",
)
@code_option
@click.option("--features", type=LOCATION, metavar="URL", help="Where the feature table is; its files may be opened.")
@click.option("--model", type=LOCATION, metavar="URL", help="With --recompute: where the model bundle is.")
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
    """Check that an OUTPUT is whole and consistent.

    Counts against the plan and the input's footers, ids, checksums, schemas, ranges of values, efficiency, _SUCCESS.

    With --recompute the job's model computes some of its videos again, in this process. The packages whose code may
    run for that are named by --code; what the output itself says of consent does not count.

    \b
    Examples:
      esv verify esv/
      esv verify esv/ --recompute 20
      esv verify esv/ --recompute 20 --model models/trn --features data/ --code my_models

    \b
    Exit codes:
      0  good
      1  problems were found, one line each, and which units are to be done again
      2  there is no output, or its videos cannot be recomputed here
    """
    if recompute is None and (code or model is not None):
        raise click.UsageError("--code and --model go with --recompute")
    from esv_ray.output.verify.output import repair_output, verify_output
    from esv_ray.storage import absolute

    place = absolute(output)
    found = verify_output(place, features)
    for line in (*found.problems, *found.notes):
        click.echo(printable(line), err=True)
    click.echo(_checked(found))
    if found.redo:
        more = len(found.redo) - _NAMED
        named = ", ".join(found.redo[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        click.echo(f"{len(found.redo)} units to do again: {named}")
    if repair:
        moved = repair_output(place, found)
        aside = f"{len(moved)} files moved to {place}/_aside; run the job again to resume"
        click.echo(aside if moved else "nothing to move aside")
    elif found.redo or found.strays or found.wrong_success or found.wrong_manifest:
        click.echo(f"to go on: esv verify --repair {output}, then the job again")
    differ = False
    if recompute is not None and not found.wrong_manifest:
        differ = _recompute(place, recompute, code, features, model, found.redo)
    context.exit(1 if found.problems or differ else 0)


def _checked(found: Verification) -> str:
    if found.wrong_manifest:
        return "run.json cannot be read: nothing else was checked"
    counts = found.counts
    return (
        f"{found.committed} of {found.units} units, {counts.rows} videos: {counts.ok} ok, {counts.skipped} skipped, "
        f"{counts.failed} failed; largest efficiency gap of exact rows {found.worst_gap:.1e}; "
        + ("no problems" if not found.problems else f"{len(found.problems)} problems")
    )


def _recompute(
    output: str,
    count: int,
    code: tuple[str, ...],
    features: str | None,
    model: str | None,
    broken: tuple[str, ...],
) -> bool:
    """Whether videos that are recomputed differ from those of the output; says how."""
    from esv_ray.attribution.recompute import recompute

    again = recompute(output, count, code=code, features=features, model=model, without=broken)
    for line in again.problems:
        click.echo(printable(line), err=True)
    told = f"{len(again.problems)} differences" if again.problems else "no differences"
    click.echo(f"{again.videos} videos recomputed: {again.same} with the same bits; {told} beyond rounding")
    if again.problems:
        click.echo(
            "the model draws at random or is another, or other software or another processor computed the tables"
        )
    return bool(again.problems)
