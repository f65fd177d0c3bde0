"""The command `esv compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from esv_ray import storage
from esv_ray.cli.options import output_option
from esv_ray.cli.results import FORMATS, check_out_folder, finite
from esv_ray.cli.types import LOCATION, NAME, Count
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import pyarrow as pa

    from esv_ray.analysis.analyzed import Analyzed, ClassName
    from esv_ray.analysis.comparison import Comparison


@click.command(short_help="Compare two outputs on the same videos.")
@click.argument("a", type=LOCATION, metavar="OUTPUT_A")
@click.argument("b", type=LOCATION, metavar="[OUTPUT_B]", required=False)
@click.option("--method-a", type=NAME, default="esv", show_default=True, help="Method to compare, in OUTPUT_A.")
@click.option(
    "--method-b",
    type=NAME,
    help="Method to compare it with, in OUTPUT_B (default: esv) or, with one output, in OUTPUT_A.",
)
@click.option(
    "--class",
    "class_",
    type=click.Choice(["label", "predicted"]),
    help="Class whose ESVs are used: the label, or the class that OUTPUT_A predicts (default: as for esv analyze).",
)
@click.option(
    "--changes", type=Count(1, 10_000), default=10, show_default=True, help="Number of videos to list per length."
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Format of the files (default: parquet).")
@output_option("Folder (URL) for the tables compare, agreement, correlations and changes.", into="out")
@click.option(
    "--figures",
    type=LOCATION,
    metavar="DIR",
    help="Also draw the comparison, as SVG, PNG and HTML. Requires: pip install 'esv-ray[figures]'.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; unknown values are null.")
def compare(
    a: str,
    b: str | None,
    method_a: str,
    method_b: str | None,
    class_: ClassName | None,
    changes: int,
    kind: str | None,
    out: str | None,
    figures: str | None,
    as_json: bool,
) -> None:
    """Compare two outputs (models, estimators or seeds) on the videos that both have, or the methods of one output.

    Prints accuracies side by side, how the values of each video correlate (means over videos, with 95 % intervals),
    and the videos that differ most. Sequences of different lengths are never mixed.

    \b
    Examples:
      esv compare esv-1/ esv-2/
      esv compare esv/ --method-b integrated_gradients
      esv compare esv/   # all pairs of methods
      esv compare esv-1/ s3://bucket/esv-2 --json
      esv compare esv-1/ esv-2/ --output comparison/ --format csv
      esv compare esv-1/ esv-2/ --figures figures/

    \b
    Exit codes:
      0  the comparison was printed
      2  an output cannot be read, or the two have nothing in common that can be compared
    """
    from esv_ray.analysis.analyzed import open_output
    from esv_ray.analysis.compare import agreement
    from esv_ray.analysis.compare import compare as compared
    from esv_ray.analysis.compare_page import agreement_lines, comparison_lines
    from esv_ray.show.chart import check_figures

    if kind is not None and out is None:
        raise click.UsageError("--format is that of the files: give --output too; --json prints JSON")
    if figures is not None:
        check_figures()
    outputs = [storage.absolute(url) for url in (a, b) if url is not None]
    for option, folder in (("--output", out), ("--figures", figures)):
        if folder is not None:
            check_out_folder(folder, outputs, option)
    if b is None and method_b is None:
        tables = drawn = {"agreement": agreement(outputs[0], class_)}
        content: dict[str, object] = {
            "output": outputs[0],
            "tables": {name: table.to_pylist() for name, table in tables.items()},
        }
        lines, first = agreement_lines(tables["agreement"]), open_output(outputs[0], class_)
    else:
        result = compared(
            outputs[0],
            None if b is None else outputs[1],
            method_a=method_a,
            method_b=method_b or "esv",
            class_=class_,
            changes=changes,
        )
        tables, drawn, content = result.tables, result.drawn, _content(result)
        lines, first = comparison_lines(result), result.a.analyzed
    # Files first: who reads the page may stop reading at any line.
    written = _write(tables, drawn, first, out, kind or "parquet", figures)
    _print(content, lines, as_json=as_json)
    for line in written:
        click.echo(line, err=True)


def _print(content: dict[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    from esv_ray.show.terminal import encodable

    if as_json:
        click.echo(json.dumps(finite(content), indent=1, allow_nan=False))
    else:
        click.echo(encodable("\n".join(lines), sys.stdout.encoding))


def _content(result: Comparison) -> dict[str, object]:
    """Return what is printed as JSON."""
    sides = {
        name: {
            "output": side.analyzed.output,
            "method": side.method,
            "committed_units": len(side.analyzed.units),
            "planned_units": len(side.analyzed.manifest.units),
        }
        for name, side in (("a", result.a), ("b", result.b))
    }
    return {
        **sides,
        "class": result.a.analyzed.explained,
        "unit": "logit" if result.a.analyzed.in_logits else "probability",
        "videos": {"shared": result.shared, "only_a": result.only_a, "only_b": result.only_b},
        "notes": list(result.notes),
        "tables": {name: table.to_pylist() for name, table in result.tables.items()},
    }


def _write(
    tables: Mapping[str, pa.Table],
    drawn: Mapping[str, pa.Table],
    first: Analyzed,
    out: str | None,
    kind: str,
    figures: str | None,
) -> list[str]:
    """Write tables and figures to the folders that are asked for; return what was written, in words.

    Args:
        tables: by name.
        drawn: those that have figures; `agreement` of two outputs has none: both have the same method.
        first: the first output.
        out: folder for the tables, or None.
        kind: format of the tables.
        figures: folder for the figures, or None.
    """
    from esv_ray.analysis.figures.writing import write_figures_of
    from esv_ray.analysis.result_files import write_file

    lines = []
    if out is not None:
        folder = storage.absolute(out)
        for name, table in tables.items():
            write_file(table.schema, table.to_batches(), kind, storage.join(folder, f"{name}.{kind}"))
        lines.append(f"wrote {count_of(len(tables), 'table')} to {folder}")
    if figures is not None:
        folder = storage.absolute(figures)
        lines.append(f"wrote {count_of(len(write_figures_of(drawn.items(), first, folder)), 'figure')} to {folder}")
    return lines
