"""esv analyze."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from esv_ray.cli.types import LOCATION
from esv_ray.errors import count_of
from esv_ray.show.text import printable

if TYPE_CHECKING:
    from esv_ray.analysis.summary import Summary


@click.command(short_help="Summarize the results of a job.")
@click.argument("output", type=LOCATION)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; unknown values are null.")
def analyze(output: str, as_json: bool) -> None:
    """Summarize an OUTPUT: the model's accuracy, and how elements contribute to its class scores.

    Reads whole tables into memory.

    \b
    Examples:
      esv analyze esv/
      esv analyze s3://bucket/esv --json

    \b
    Exit codes:
      0  the summary was printed
      2  there is no output, or no unit is committed yet
    """
    from esv_ray.analysis.summary import summarize
    from esv_ray.storage import absolute

    summary = summarize(absolute(output))
    if as_json:
        click.echo(json.dumps(_without_nan(asdict(summary)), indent=1, allow_nan=False))
    else:
        show_summary(summary)


def show_summary(summary: Summary) -> None:
    """Print a summary."""
    console = Console()
    of = "videos" if summary.videos == summary.sequences else "sequences"
    if summary.classes:
        click.echo("Means for the labelled class: score = prior + support + distract. Support is the sum of the")
        click.echo("ESVs above 0, distract that of the others; share is the fraction of elements above 0.")
        console.print(_by_class(summary))
    if summary.sequences != summary.videos:
        click.echo(f"number: {summary.sequences} sequences of {count_of(summary.videos, 'video')} at several lengths")
    if summary.labelled:
        console.print(f"accuracy {100 * summary.accuracy:.1f} % of {summary.labelled} {of}", highlight=False)
    sampled = summary.sequences - summary.exact
    text = f"{summary.exact} {of} exact (largest efficiency gap {summary.worst_exact_gap:.1e}), {sampled} sampled"
    if sampled:
        has_stderr = not math.isnan(summary.median_stderr)
        stderr = f", median standard error of an ESV {summary.median_stderr:.1e}" if has_stderr else ""
        text += f" (median efficiency gap {summary.median_sampled_gap:.1e}{stderr})"
    console.print(text, highlight=False)


def _by_class(summary: Summary) -> Table:
    table = Table()
    number = "videos" if summary.videos == summary.sequences else "number"  # 80 columns hold no longer names
    for column in ("class", number, "accuracy", "prior", "support", "distract", "score", "share"):
        table.add_column(column, justify="left" if column == "class" else "right", no_wrap=True)
    for row in summary.classes:
        table.add_row(
            escape(printable(row.name)),
            str(row.sequences),
            f"{100 * row.accuracy:.0f} %",
            f"{row.prior:.3f}",
            f"{row.supporting:+.3f}",
            f"{row.distracting:+.3f}",
            f"{row.score:.3f}",
            f"{100 * row.supporting_share:.0f} %",
        )
    return table


def _without_nan(value: Any) -> Any:
    """Replace NaN by None, since JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
