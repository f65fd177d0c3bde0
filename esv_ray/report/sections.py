"""The sections of a report: a facet each, with its figure, its first rows, and its data as CSV."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.csv_text import guarded_csv
from esv_ray.analysis.database import connect
from esv_ray.analysis.facets.words import class_name, counted, of_main_length, other_lengths
from esv_ray.analysis.figures.registry import CHARTS
from esv_ray.analysis.figures.writing import left_out_of, most_misled
from esv_ray.analysis.tables import MEMORY, Made
from esv_ray.output.layout import ANALYSIS
from esv_ray.report.content import Figure, Section
from esv_ray.report.facts import SUMMARY
from esv_ray.report.pictures import figure_of
from esv_ray.show.text import printable

READING = {
    "discards": "A curve that falls early was led by elements that the score needs.",
    "support": "Bars to the right: most elements of these videos support the class.",
    "positions": "A bar above the line of chance: this place decides more often than others.",
    "pairs": "Blue: the element of the row has the larger ESV in most videos; gray: neither.",
    "marginals": "A mean that falls fast: few elements already decide, and more add little.",
    "smoothness": "Narrow boxes: a neighboring frame does the same, so the ESVs do not depend on the exact frame.",
    "contrasts": "Bars below 0 speak for the wrong class: these frames misled the model.",
    "confusions": "Long bars: many videos of the first class were taken for the second.",
    "agreement": "Near 1, both methods rank the elements of a video alike; near 0, they have nothing in common.",
    "summary": "Support and distract add up to the score less the prior.",
    "classes": "Bars are sums of ESVs: to the right of those above 0, to the left of the others.",
    "profiles": "Above 0, this part of the sequence supports the class on average.",
    "interactions": "Above 0, two elements say more together than apart; below 0, they say the same.",
    "areas": "Low deletion and high insertion: the values find the elements that the score needs.",
    "replacements": "Areas near those of removal: it matters little what is put in an element's place.",
    "needed": "Bars to the left: few elements are enough for 90 % of the score.",
    "moments": "Above the line of chance, large values are in the marked moments.",
    "order": "Far from 0, the class depends on the order of the elements.",
    "sanity": "Values that fall to 0: the ESVs depend on what the model learned.",
}
"""How each figure is read, in one line; in the order of a report: figures of the paper first."""
MOST_ROWS = 400
"""Most rows of a table in the page."""
MOST_CSV = 60_000
"""Most bytes of a table as CSV in the page."""
_MAIN = {
    "summary": [
        "n_elements",
        "videos",
        "accuracy",
        "mean_prior",
        "support",
        "distract",
        "mean_score",
        "supporting_share",
    ]
}  # columns of the tables without a figure, which the page shows in its place
_LENGTHS = 3  # of a figure
_PANEL_PER_CLASS = ("pairs", "profiles", "interactions")  # whose figures have a panel for each of several classes
_LEFT_OUT = re.compile(r"([0-9]+) of [0-9]+ lengths: those with most videos\.")
_TITLES = {"summary": SUMMARY}
_WITHOUT_LENGTH = ("summary", "contrasts")  # whose sentences are of all lengths
_CLASSES = ("class", "label", "predicted")
_LOWEST = "SELECT * FROM read_parquet(?) ORDER BY difference, video_id, n_elements, element LIMIT 2000"


def sections_of(output: str, parts: Iterable[tuple[Analyzed, Made]]) -> list[Section]:
    """Return a section for each table of an analysis, in the order of `READING`.

    Args:
        output: location of the output that the report is about.
        parts: tables, each with the output that it is of: this one, or one of its variations.

    Raises:
        SpecError: the libraries of figures are not installed.
    """
    sections = [_section(output, analyzed, made) for analyzed, made in parts]
    places = list(READING)
    return sorted(sections, key=lambda section: places.index(section.name))


def _section(output: str, analyzed: Analyzed, made: Made) -> Section:
    name = made.facet.name
    table, drawn, rows = made.table, made.table, made.table.num_rows
    if made.file is not None:
        drawn, rows = most_misled(made.file), pq.read_metadata(made.file).num_rows
        table = _lowest(made.file)
    unfinished = [] if analyzed.finished or analyzed.output == output else [f"{analyzed.progress}."]
    lengths = ""
    if made.table.num_rows and "n_elements" in made.table.column_names and name not in _WITHOUT_LENGTH:
        lengths = other_lengths(made.table, of_main_length(made.table, analyzed)[0])
    return section_of(
        analyzed,
        name,
        (table, rows),
        drawn,
        title=_TITLES.get(name, made.facet.title),
        sentences=[*unfinished, *made.facet.page(made.table, analyzed).sentences, *filter(None, [lengths])],
        reading=READING[name],
        location=storage.without_credentials(storage.join(output, ANALYSIS, f"{name}.parquet")),
    )


def _lowest(file: Path) -> pa.Table:
    """Return the rows of the most misleading elements."""
    with connect(memory=MEMORY) as con:
        return con.sql(_LOWEST, params=[str(file)]).to_arrow_table()


def section_of(
    analyzed: Analyzed,
    name: str,
    data: tuple[pa.Table, int],
    drawn: pa.Table,
    *,
    title: str,
    sentences: Sequence[str],
    reading: str,
    location: str = "",
    videos_of: Mapping[int, int] | None = None,
    keyed: bool = False,
) -> Section:
    """Return a table as a section.

    Args:
        analyzed: the output that it is of.
        name: of the table; those of `CHARTS` have a figure.
        data: its first rows, and the number of all.
        drawn: rows for the figure.
        title, sentences, reading, location: as in the section.
        videos_of: number of videos by number of elements, by which the lengths of the figure are chosen; None: those of
            the output.
        keyed: whether marks of the figure have the keys of their videos (`pictures.figure_of`).

    Raises:
        SpecError: the libraries of figures are not installed.
    """
    table, rows = data
    main = table.select(_MAIN[name]) if name in _MAIN and table.num_rows else None
    csv, csv_rows = guarded_csv(_with_names(table, analyzed), MOST_CSV)
    return Section(
        name=name,
        title=title,
        sentences=sentences,
        reading=reading,
        figure=_figure(
            analyzed, name, drawn, analyzed.census.videos_of if videos_of is None else videos_of, keyed=keyed
        ),
        table=named(table.slice(0, MOST_ROWS), analyzed),
        rows=rows,
        csv=csv,
        csv_rows=csv_rows,
        location=location,
        main=main,
    )


def of_few_lengths(name: str, table: pa.Table, videos_of: Mapping[int, int]) -> tuple[pa.Table, str]:
    """Return the rows of the lengths that a figure of a report shows, and a note if that leaves some out.

    A figure of many lengths is long, slow to draw, and not read.

    Args:
        name: of the table.
        table: of a facet.
        videos_of: number of videos by number of elements.
    """
    if "n_elements" not in table.column_names:
        return table, ""
    column = table.column("n_elements")
    there = [n for n in pc.unique(column).to_pylist() if videos_of.get(n)]
    lengths = sorted(there, key=lambda n: (-videos_of[n], -n))
    if len(lengths) <= 1:
        return table, ""
    note = ""
    wanted = pc.is_in(column, pa.array(lengths[:_LENGTHS], column.type))
    if len(lengths) > _LENGTHS:
        note = f"{_LENGTHS} of {len(lengths)} lengths: those with most videos."
    if name in _PANEL_PER_CLASS:
        wanted = pc.and_(wanted, pc.or_(pc.is_null(table.column("class")), pc.equal(column, lengths[0])))
        note = f"{note} Classes: at {counted(lengths[0], 'element')}.".strip()
    return table.filter(wanted), note and f"{note} The table has all."


def _figure(
    analyzed: Analyzed, name: str, table: pa.Table, videos_of: Mapping[int, int], *, keyed: bool
) -> Figure | None:
    if name not in CHARTS or not table.num_rows:
        return None
    table, note = of_few_lengths(name, table, videos_of)
    note = " ".join(filter(None, (note, left_out_of(name, table, analyzed))))
    unit = "logit" if analyzed.in_logits else "probability"
    figure = figure_of(name, table, names=analyzed.names, unit=unit, keyed=keyed)
    own = _LEFT_OUT.search(figure.notes)
    if own is not None and note.startswith(f"{_LENGTHS} of "):  # it shows even fewer lengths, of the same number
        total, note = note.split(" ")[2], note.partition(". ")[2]
        shown = figure.notes.replace(own[0], f"{own[1]} of {total} lengths: those with most videos.")
        return replace(figure, notes=f"{shown} {note}")
    return replace(figure, notes=" ".join(filter(None, (figure.notes, note))))


def named(table: pa.Table, analyzed: Analyzed) -> pa.Table:
    """Return a table with the names of classes in place of their ids."""
    if "class" in table.column_names and "name" in table.column_names:
        table = table.drop_columns(["name"])
    for column in _CLASSES:
        place = table.schema.get_field_index(column)
        if place >= 0:
            table = table.set_column(place, column, _names(table, column, analyzed))
    return table


def _with_names(table: pa.Table, analyzed: Analyzed) -> pa.Table:
    """Return a table with the names of classes beside their ids; without names, as it is."""
    if analyzed.names is None or "name" in table.column_names:
        return table
    for column in _CLASSES:
        place = table.schema.get_field_index(column)
        if place >= 0:
            table = table.add_column(place + 1, f"{column}_name", _names(table, column, analyzed))
    return table


def _names(table: pa.Table, column: str, analyzed: Analyzed) -> pa.Array:
    """Return the classes of a column in words; null stands for all classes, or for no label."""
    everything = column == "class"
    ids = pc.cast(table.column(column), pa.int64()).to_pylist()
    known = {each: class_name(each, analyzed) for each in dict.fromkeys(ids)}
    shared = Counter(analyzed.names or ())  # classes of one name are told apart by their ids
    words = [
        None
        if each is None and not everything
        else printable(f"{known[each]} ({each})" if shared[known[each]] > 1 else known[each])
        for each in ids
    ]
    return pa.array(words, pa.string())
