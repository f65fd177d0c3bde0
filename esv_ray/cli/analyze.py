"""The command `esv analyze`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import class_option, output_option
from esv_ray.cli.results import check_out_folder, finite
from esv_ray.cli.types import LOCATION, NAME
from esv_ray.errors import DataError, count_of
from esv_ray.output.layout import ANALYSIS

if TYPE_CHECKING:
    from esv_ray.analysis.analyzed import Analyzed, ClassName
    from esv_ray.analysis.tables import Made


@click.command(short_help="Summarize an output in tables.")
@click.argument("output", type=LOCATION)
@click.option(
    "--table",
    "tables",
    type=NAME,
    multiple=True,
    metavar="NAME",
    help="Table to make (default: all that the output allows). Repeatable.",
)
@class_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    help="Format of the files (default: parquet).",
)
@output_option("Folder (URL) for the files (default: OUTPUT/analysis).", into="out")
@click.option(
    "--figures",
    type=LOCATION,
    metavar="DIR",
    help="Also draw each table, as SVG, PNG and HTML. Requires: pip install 'esv-ray[figures]'.",
)
@click.option(
    "--features",
    type=LOCATION,
    metavar="URL",
    help="Feature table with the key moments for `moments` (default: that of the job, if it is on this machine or the "
    "output's kind of store).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; unknown values are null.")
def analyze(
    output: str,
    tables: tuple[str, ...],
    class_: ClassName | None,
    kind: str,
    out: str | None,
    figures: str | None,
    features: str | None,
    as_json: bool,
) -> None:
    """Summarize an OUTPUT in tables: what its ESVs say about the whole data set.

    Prints a short form of each table, and writes the full table to OUTPUT/analysis/NAME.parquet. Videos of different
    lengths are never mixed. If OUTPUT is not writable, the tables are only printed.

    \b
    Tables:
      summary       accuracy and contributions, per length
      support       how many elements support the class
      positions     where the most supporting and distracting elements are
      pairs         which of two elements has the larger ESV
      marginals     what elements add to subsequences of each length
      smoothness    change of the ESVs when a neighboring frame replaces an element
      contrasts     misclassified videos: ESV for the label minus ESV for the prediction
      classes       accuracy and contributions, per class
      profiles      mean ESV along the sequence
      confusions    which classes the model confuses
      interactions  mean interaction of pairs of elements
      discards      score as elements are taken away
      areas         faithfulness of each method: deletion, insertion, ...
      replacements  the same areas if a neighbor or the mean element replaces elements
      needed        fewest elements that reach 90 % of the score
      moments       agreement of each method with marked key moments
      order         how much of the score is due to the order of the elements
      sanity        correlation with the ESVs when layers are re-initialized
      agreement     how the values of different methods correlate

    \b
    marginals, smoothness, interactions, discards, replacements, order and sanity need
    a job with these names in `tables`; areas and needed need discards; agreement needs
    several `methods`. contrasts and confusions need labels; moments needs the columns
    key_start and key_end (frame numbers) in the feature table.

    \b
    Examples:
      esv analyze esv/
      esv analyze s3://bucket/esv --table classes --format csv --output tables/
      esv analyze esv/ --figures figures/

    \b
    Exit codes:
      0  the tables were printed
      2  there is no output, no unit is committed yet, no video has ESVs, or the output lacks what a
         table needs
    """
    from esv_ray.analysis.analyzed import open_output
    from esv_ray.analysis.tables import chosen, tables_of_facets
    from esv_ray.show.chart import check_figures
    from esv_ray.storage import absolute, check_outside, join

    if figures is not None:
        check_figures()
    location = absolute(output)
    analyzed = open_output(location, class_, features)
    if not analyzed.census.ok:
        raise DataError(_without_esvs(analyzed))
    facets = chosen(analyzed, tables or None)
    for option, given, suffix in (("--output", out, kind), ("--figures", figures, "png")):
        if given is not None:
            check_out_folder(given, [location], option)
            check_outside(
                analyzed.manifest.spec["features"], absolute(given), [f"{facet.name}.{suffix}" for facet in facets]
            )
    with tables_of_facets(analyzed, facets) as made:
        # Files first: who reads the pages may stop reading at any line.
        written = _write(analyzed, made, join(location, ANALYSIS), out, kind, figures)
        if as_json:
            print_json(analyzed, made, named=tables)
        else:
            print_pages(analyzed, made)
            if not tables:
                _print_left_out(analyzed, {each.facet.name for each in made})
            click.echo()
        for line in written:
            click.echo(line, err=as_json)


def _without_esvs(analyzed: Analyzed) -> str:
    """Return what to say of an output in which no video has ESVs."""
    census = analyzed.census
    missing = ", ".join(
        f"{count} {name}" for name, count in (("failed", census.failed), ("skipped", census.skipped)) if count
    )
    reason = "select reason, count(*) from videos group by 1 order by 2 desc"
    return (
        f"{analyzed.output}: expected videos with ESVs, found none of {count_of(analyzed.rows, 'video')}"
        f"{f' ({missing})' if missing else ''}; for the reasons, run esv sql {analyzed.output} '{reason}'"
    )


def _write(
    analyzed: Analyzed, made: Sequence[Made], usual: str, out: str | None, kind: str, figures: str | None
) -> list[str]:
    """Write tables and figures; return what was written, in words.

    Args:
        analyzed: the output.
        made: its tables.
        usual: folder for the tables without `out`; they are only printed if it cannot be written to.
        out: folder that is asked for, or None.
        kind: format of the tables.
        figures: folder for figures, or None.

    Raises:
        DataError: a folder that is asked for cannot be written to.
    """
    from esv_ray.analysis.figures.writing import write_figures
    from esv_ray.analysis.files import write_tables
    from esv_ray.storage import absolute

    folder, lines = usual if out is None else absolute(out), []
    try:
        lines.append(f"wrote {count_of(len(write_tables(made, folder, kind)), 'table')} to {folder}")
    except DataError as error:
        if out is not None:
            raise
        click.echo(f"The tables were not written: {error}", err=True)
    if figures is not None:
        drawn = write_figures(analyzed, made, absolute(figures))
        lines.append(f"wrote {count_of(len(drawn), 'figure')} to {absolute(figures)}")
    return lines


def print_pages(analyzed: Analyzed, made: Iterable[Made]) -> None:
    """Print the pages of tables."""
    from esv_ray.analysis.pages import head_lines, page_lines
    from esv_ray.show.terminal import encodable

    def echo(line: str) -> None:
        click.echo(encodable(line, sys.stdout.encoding))

    for line in head_lines(analyzed):
        echo(line)
    for each in made:
        click.echo()
        click.secho(each.facet.title, bold=True)
        for line in page_lines(each.facet.page(each.table, analyzed), classes=analyzed.names or ()):
            echo(line)


def print_json(analyzed: Analyzed, made: Iterable[Made], named: Sequence[str]) -> None:
    """Print tables as one JSON object; those with rows per video only if they were named."""
    import pyarrow.parquet as pq

    census = analyzed.census
    content = {
        "output": analyzed.output,
        "class": analyzed.explained,
        "unit": "logit" if analyzed.in_logits else "probability",
        "committed_units": len(analyzed.units),
        "planned_units": len(analyzed.manifest.units),
        "sequences": {"ok": census.ok, "skipped": census.skipped, "failed": census.failed},
        "tables": {
            each.facet.name: (pq.read_table(each.file) if each.file else each.table).to_pylist()
            for each in made
            if each.file is None or each.facet.name in named
        },
    }
    click.echo(json.dumps(finite(content), indent=1, allow_nan=False))


def _print_left_out(analyzed: Analyzed, made: Iterable[str]) -> None:
    """Print which tables this output cannot have."""
    from esv_ray.analysis.pages import wrapped
    from esv_ray.analysis.tables import left_out

    for sentence in left_out(analyzed, made):
        click.echo("\n" + "\n".join(wrapped(sentence)))
