"""Write the figures of an analysis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.database import connect
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.facets.words import without_esvs
from esv_ray.analysis.figures.files import figure_files
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.analysis.tables import MEMORY, Made

_VIDEOS = 32  # per length, of a table with rows per video
_LENGTHS = 3
_LOWEST = f"""
WITH videos AS (
  SELECT video_id, n_elements, min(difference) AS lowest FROM read_parquet(?) GROUP BY video_id, n_elements
), lengths AS (
  SELECT n_elements FROM videos GROUP BY n_elements ORDER BY count(*) DESC, n_elements DESC LIMIT {_LENGTHS}
), chosen AS (
  SELECT video_id, n_elements FROM videos WHERE n_elements IN (SELECT n_elements FROM lengths)
  QUALIFY row_number() OVER (PARTITION BY n_elements ORDER BY lowest, video_id) <= {_VIDEOS}
)
SELECT c.* FROM read_parquet(?) AS c JOIN chosen USING (video_id, n_elements)
ORDER BY c.n_elements, c.video_id, c.element
"""


def write_figures(analyzed: Analyzed, made: Sequence[Made], folder: str) -> list[str]:
    """Write the figures of tables, as SVG, PNG and HTML each; return their locations without suffixes.

    Tables without rows, and those that have no figure, are left out.

    Raises:
        DataError: the storage refuses.
        SpecError: the libraries of figures are not installed.
    """
    tables = ((each.facet.name, each.table if each.file is None else most_misled(each.file)) for each in made)
    return write_figures_of(tables, analyzed, folder)


def write_figures_of(tables: Iterable[tuple[str, pa.Table]], analyzed: Analyzed, folder: str) -> list[str]:
    """Write the figures of tables by name, as `write_figures` does.

    Args:
        tables: their names, which are those of the files, and the tables.
        analyzed: the output whose names of classes and unit they have.
        folder: location.

    Raises:
        DataError: the storage refuses.
        SpecError: the libraries of figures are not installed.
    """
    unit = "logit" if analyzed.in_logits else "probability"
    written = []
    for name, table in tables:
        if name not in CHARTS or not table.num_rows:
            continue
        url = storage.join(folder, name)
        files = figure_files(
            CHARTS[name], table, names=analyzed.names, unit=unit, note=left_out_of(name, table, analyzed)
        )
        for suffix, data in files.items():
            storage.replace(f"{url}.{suffix}", data, "write a figure")
        written.append(url)
    return written


def left_out_of(name: str, table: pa.Table, analyzed: Analyzed) -> str:
    """Return a note on the videos that a figure leaves out, for want of ESVs of the class explained; "" if none.

    Args:
        name: of the table; other tables than those of the ESVs of that class leave out none.
        table: its rows.
        analyzed: the output.
    """
    facet = FACETS.get(name)
    if facet is None or not {"sequences", "explained"} & set(facet.uses):
        return ""
    return without_esvs(analyzed, *table.column("n_elements").unique().to_pylist())


def most_misled(file: Path) -> pa.Table:
    """Return the rows of `contrasts` that a figure may show, of a table that may be large."""
    with connect(memory=MEMORY) as con:
        return con.sql(_LOWEST, params=[str(file), str(file)]).to_arrow_table()
