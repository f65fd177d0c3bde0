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

from esv_ray.cli.attribute import printable
from esv_ray.cli.types import LOCATION

if TYPE_CHECKING:
    from esv_ray.analysis.summary import Summary


@click.command()
@click.argument("output", type=LOCATION)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output; what is not known is null.")
def analyze(output: str, as_json: bool) -> None:
    """Tell what an OUTPUT says: how good the model is, and how elements carry its class scores.

    Reads whole tables into memory.

    \b
    Examples:
      esv analyze esv/
      esv analyze s3://bucket/esv --json

    \b
    Exit codes:
      0  told
      2  there is no output, or nothing is committed yet
    """
    from esv_ray.analysis.summary import summarize
    from esv_ray.storage import absolute

    found = summarize(absolute(output))
    if as_json:
        click.echo(json.dumps(_plain(asdict(found)), indent=1, allow_nan=False))
    else:
        tell_summary(found)


def tell_summary(found: Summary) -> None:
    """A summary, for people."""
    console = Console()
    if found.classes:
        click.echo("Means of the labelled class's score: it is the prior, plus what supporting elements (ESV > 0)")
        click.echo("add, less what distracting ones (ESV <= 0) take.")
        console.print(_by_class(found))
        console.print("share: of the elements, those that support.", highlight=False)
    if found.labelled:
        console.print(f"accuracy {100 * found.accuracy:.1f} % of {found.labelled} sequences", highlight=False)
    sampled = found.videos - found.exact
    told = f"{found.exact} sequences exact (efficiency gap at most {found.worst_exact_gap:.0e}), {sampled} sampled"
    if sampled:
        errors = (
            "" if math.isnan(found.median_stderr) else f", median standard error of an ESV {found.median_stderr:.1e}"
        )
        told += f" (median efficiency gap {found.median_sampled_gap:.1e}{errors})"
    console.print(told, highlight=False)


def _by_class(found: Summary) -> Table:
    table = Table()
    for column in ("class", "videos", "right", "prior", "support", "distract", "score", "share"):
        table.add_column(column, justify="left" if column == "class" else "right", no_wrap=True)
    for one in found.classes:
        table.add_row(
            escape(printable(one.name)),
            str(one.videos),
            f"{100 * one.accuracy:.0f} %",
            f"{one.prior:.3f}",
            f"{one.supporting:+.3f}",
            f"{one.distracting:+.3f}",
            f"{one.score:.3f}",
            f"{100 * one.supporting_share:.0f} %",
        )
    return table


def _plain(value: Any) -> Any:
    """As JSON has it, which knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
