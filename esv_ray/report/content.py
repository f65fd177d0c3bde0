"""What a report says, before it is drawn: plain text, numbers and figures; no HTML, except the SVG of figures.

All texts are data: the page escapes them. Figures are the only markup; they come from the charts of `esv analyze`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from esv_ray.analysis.facets.finding import Finding
from esv_ray.show.video import AttributedVideo


@dataclass(frozen=True)
class Fact:
    """A line of the first screen.

    Attributes:
        term: what it is, such as `Model` or `Accuracy`.
        text: its value in words.
        state: `good`, `warning` or `bad` for the facts that judge (whole, verified, failures); "" for others.
        details: further lines, which a reader opens.
    """

    term: str
    text: str
    state: str = ""
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """A figure, drawn once; a page colors it.

    Attributes:
        wide, narrow: SVG for a page and for a phone. Colors that depend on the theme are CSS variables.
        alt: its finding in words, for those who do not see it.
        marks: number of marks that show data in `wide`.
        title, notes: the quantity, and how the chart is read; the SVG is without them.
    """

    wide: bytes
    narrow: bytes
    alt: str
    marks: int
    title: str = ""
    notes: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """A facet in the report.

    Attributes:
        name: of the facet; also the anchor.
        title: in words.
        sentences: what the table says.
        reading: one line on how to read the figure.
        figure: None for a table without a figure.
        main: its main columns, which the page shows where there is no figure, or None.
        table: rows that the page shows, with classes as names; the first `table.num_rows` of `rows`.
        rows: number of rows of the whole table.
        csv: its first rows as a CSV file, guarded against formulas.
        csv_rows: number of rows in it: all, unless the file would be too large for the page.
        location: of the whole table, which `esv analyze` writes; "" where nothing writes it.
    """

    name: str
    title: str
    sentences: Sequence[str]
    reading: str
    figure: Figure | None
    table: pa.Table
    rows: int
    csv: bytes
    csv_rows: int
    location: str
    main: pa.Table | None = None


@dataclass(frozen=True, eq=False)
class ShownVideo:
    """A video in the report.

    Attributes:
        video: its ESVs, for label and predicted class as far as they are kept.
        reasons: why it was chosen, such as `most misled`; the page groups by the first.
        places: its place in the rankings of the reasons, from 1; empty where they are no rankings.
        thumbnails: data URL of a small picture per element, or None; empty without pictures.
        before: the same video in the output that this one is compared with, or None.
    """

    video: AttributedVideo
    reasons: Sequence[str]
    thumbnails: Sequence[str | None] = ()
    before: AttributedVideo | None = None
    places: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ComparisonPart:
    """What `esv compare` tells.

    Attributes:
        title: which outputs.
        sentences: in words.
        table: measures, with intervals.
        changed: videos that changed most, with `before`.
        sections: tables of the comparison with their figures.
    """

    title: str
    sentences: Sequence[str]
    table: pa.Table
    changed: Sequence[ShownVideo]
    sections: Sequence[Section] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """A report.

    Attributes:
        title: of the page.
        notice: what a reader must know first, such as that the output is unfinished; "" if nothing.
        facts: the first screen.
        findings: at most three, the largest effect first; `facet` names the section that each links to. Those that are
            not clear of chance are marked.
        findings_note: how they were chosen; "" if nothing could be compared.
        sections: facets, the paper's figures first.
        videos: chosen videos.
        notes: what is left out, and why.
        comparison: with a second output, or None.
        version: of esv_ray.
        rankings: reasons of the videos in their order; empty: in that of the videos.
    """

    title: str
    notice: str
    facts: Sequence[Fact]
    findings: Sequence[Finding]
    sections: Sequence[Section]
    videos: Sequence[ShownVideo]
    notes: Sequence[str] = field(default_factory=tuple)
    comparison: ComparisonPart | None = None
    version: str = ""
    rankings: Sequence[str] = ()
    findings_note: str = ""
