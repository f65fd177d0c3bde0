"""esv compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from esv_ray import storage
from esv_ray.cli.options import output_option
from esv_ray.cli.results import FORMATS, check_out_folder, finite
from esv_ray.cli.types import LOCATION, NAME, Count
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import pyarrow as pa

    from esv_ray.analysis.analysed import ClassName
    from esv_ray.analysis.comparison import Comparison


@click.command(short_help="Compare two outputs on the same videos.")
@click.argument("a", type=LOCATION, metavar="OUTPUT_A")
@click.argument("b", type=LOCATION, metavar="[OUTPUT_B]", required=False)
@click.option("--method-a", type=NAME, default="esv", show_default=True, help="Whose values of OUTPUT_A.")
@click.option(
    "--method-b", type=NAME, help="Whose values of OUTPUT_B (default: esv), or with one output, of this method."
)
@click.option(
    "--class",
    "class_",
    type=click.Choice(["label", "predicted"]),
    help="Whose ESVs: of the label, or of the class that OUTPUT_A predicts (default: the label if there are labels).",
)
@click.option("--changes", type=Count(1, 10_000), default=10, show_default=True, help="Videos to name per length.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Of the files (default: parquet).")
@output_option("Folder (URL) for the tables compare, agreement and changes.", into="out")
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
    as_json: bool,
) -> None:
    """Compare two outputs on the videos that both have: of two models, estimators or seeds. Or methods of one.

    Prints accuracies side by side, how the values of each video correlate (means over videos, with 95 % intervals),
    and the videos that differ most. Sequences of different lengths are never mixed.

    \b
    Examples:
      esv compare esv-1/ esv-2/
      esv compare esv/ --method-b integrated_gradients
      esv compare esv/   (all pairs of methods)
      esv compare esv-1/ s3://bucket/esv-2 --json
      esv compare esv-1/ esv-2/ --output comparison/ --format csv

    \b
    Exit codes:
      0  the comparison was printed
      2  an output cannot be read, or the two have nothing in common that can be compared
    """
    from esv_ray.analysis.compare import compare as compared
    from esv_ray.analysis.compare_page import comparison_lines
    from esv_ray.show.terminal import encodable

    if kind is not None and out is None:
        raise click.UsageError("--format is that of the files: give --output too; --json prints JSON")
    if out is not None:
        check_out_folder(out, [storage.absolute(url) for url in (a, b) if url is not None])
    if b is None and method_b is None:
        _compare_methods(storage.absolute(a), class_, kind, out, as_json=as_json)
        return
    result = compared(
        storage.absolute(a),
        None if b is None else storage.absolute(b),
        method_a=method_a,
        method_b=method_b or "esv",
        class_=class_,
        changes=changes,
    )
    if as_json:
        click.echo(json.dumps(finite(_content(result)), indent=1, allow_nan=False))
    else:
        click.echo(encodable("\n".join(comparison_lines(result)), sys.stdout.encoding))
    if out is not None:
        _write(result.tables, storage.absolute(out), kind or "parquet")


def _compare_methods(
    output: str, class_: ClassName | None, kind: str | None, out: str | None, *, as_json: bool
) -> None:
    """Print and write how all pairs of methods of an output agree."""
    from esv_ray.analysis.compare import agreement
    from esv_ray.analysis.compare_page import agreement_lines
    from esv_ray.show.terminal import encodable

    table = agreement(output, class_)
    if as_json:
        content = {"output": output, "tables": {"agreement": table.to_pylist()}}
        click.echo(json.dumps(finite(content), indent=1, allow_nan=False))
    else:
        click.echo(encodable("\n".join(agreement_lines(table)), sys.stdout.encoding))
    if out is not None:
        _write({"agreement": table}, storage.absolute(out), kind or "parquet")


def _content(result: Comparison) -> dict[str, object]:
    """Return what is printed as JSON."""
    sides = {
        name: {
            "output": side.analysed.output,
            "method": side.method,
            "committed_units": len(side.analysed.units),
            "planned_units": len(side.analysed.manifest.units),
        }
        for name, side in (("a", result.a), ("b", result.b))
    }
    return {
        **sides,
        "class": result.a.analysed.explained,
        "unit": "logit" if result.a.analysed.in_logits else "probability",
        "videos": {"shared": result.shared, "only_a": result.only_a, "only_b": result.only_b},
        "notes": list(result.notes),
        "tables": {name: table.to_pylist() for name, table in result.tables.items()},
    }


def _write(tables: Mapping[str, pa.Table], folder: str, kind: str) -> None:
    from esv_ray.analysis.result_files import write_file

    for name, table in tables.items():
        write_file(table.schema, table.to_batches(), kind, storage.join(folder, f"{name}.{kind}"))
    click.echo(f"wrote {count_of(len(tables), 'table')} to {folder}", err=True)
