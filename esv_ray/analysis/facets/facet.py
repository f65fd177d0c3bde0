"""The interface of a facet: its queries, and the page that describes its table.

An output is read in batches of units. For each batch there are tables (`analysis/batches.py`), over which the queries
of a facet make small ones: counts, which are added up over batches, and values per video, of which only means and their
intervals are kept. A last query makes the facet's table of them. So memory does not grow with the number of videos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.facets.finding import Finding


@dataclass(frozen=True, eq=False)
class Counts:
    """A query over a batch whose rows are added up over batches.

    Attributes:
        name: of the table of totals.
        keys: columns that make a group.
        query: its other columns are sums; those whose names begin with ``largest`` are maxima.
    """

    name: str
    keys: tuple[str, ...]
    query: str


@dataclass(frozen=True, eq=False)
class Values:
    """A query over a batch for values per video, of which means and intervals are kept.

    Attributes:
        name: of the table of means: the keys, videos, and the lists mean, low, high.
        keys: columns that make a group, with their types.
        query: columns video_id, the keys, and `values`: a list of as many numbers in every row of a group.
        over: a key; groups that differ only in it are also added up, with null for it.
    """

    name: str
    keys: Mapping[str, pa.DataType]
    query: str
    over: str | None = None


@dataclass(frozen=True)
class Share:
    """A share with a Wilson interval: names of columns of the facet's table."""

    successes: str
    trials: str
    low: str
    high: str


@dataclass(frozen=True)
class Page:
    """What is printed of a facet.

    Attributes:
        sentences: what the table says, one per line.
        columns: headers.
        rows: the most interesting rows, as texts.
        names: how many of the first columns hold names, which may be shortened to fit; numbers are not.
        note: what is left out; "" if nothing.
    """

    sentences: Sequence[str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    names: int = 0
    note: str = ""


class Found(Protocol):
    """What a table says in one sentence, with the size of the effect."""

    def __call__(self, table: pa.Table, analyzed: Analyzed, tables: int = 1) -> Finding | None:
        """Return the finding; None for a table without rows, or where there is nothing to compare with chance.

        Args:
            table: of the facet.
            analyzed: the output.
            tables: number of tables among whose findings the largest are looked for. Intervals hold for all of these
                tables together, and for all that is compared in each (Bonferroni).
        """


@dataclass(frozen=True)
class Facet:
    """One table of an analysis.

    Attributes:
        name: of the table.
        title: a few words for people.
        reads: tables of the job that it needs.
        reads_if_there: tables of the job that it also uses; without rows where the job has none.
        uses: tables of a batch that its queries use (`analysis/batches.py`).
        counts, values: queries over a batch.
        rows: query over a batch whose rows are the table, which may be large; None: `query` makes it.
        query: the last query, over the totals, `classes` and `priors`. Columns that begin with an underscore are left
            out of the table.
        shares: intervals to add.
        page: what is printed, given the table, or with `rows` the result of `query`.
        finding: what the table says in one sentence (`Found`). None: no value by chance is known to compare with.
        labelled: whether it needs labels.
        marked: whether it needs the key moments of the feature table (`analysis.moments`).
        several_methods: whether it needs values of more than one method.
    """

    name: str
    title: str
    reads: tuple[str, ...]
    uses: tuple[str, ...]
    page: Callable[[pa.Table, Analyzed], Page]
    query: str
    counts: tuple[Counts, ...] = ()
    values: tuple[Values, ...] = ()
    rows: str | None = None
    shares: tuple[Share, ...] = ()
    finding: Found | None = None
    labelled: bool = False
    marked: bool = False
    reads_if_there: tuple[str, ...] = ()
    several_methods: bool = False
