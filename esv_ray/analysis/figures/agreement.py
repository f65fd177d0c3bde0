"""Figure of the facet `agreement`: how alike the values of different methods are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.matrix import Cells, matrix
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name, method_place
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_KINDS = {"pearson": "correlation (Pearson)", "spearman": "rank correlation (Spearman)"}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the correlations of methods within videos, as two matrices.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "agreement", ["n_elements", "method_a", "method_b"], ["videos", *_KINDS])
    pairs = [row for row in rows if row["method_a"] != row["method_b"]]
    lengths, note = by_length(pairs, "videos", most=3, repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        best = max((row for row in of_length if has(row, "spearman")), key=_spearman, default=None)
        if best is None:
            continue
        findings.append(
            f"{count_of(n, 'element')}: {method_name(best['method_a'])} and {method_name(best['method_b'])} agree most "
            f"(rank correlation {best['spearman']:.2f})"
        )
        panels += grid(
            [
                headed(_panel(of_length, kind, look), look, f"{count_of(n, 'element')}: {words}", width=look.column)
                for kind, words in _KINDS.items()
            ],
            look,
        )
    return figure(
        panels,
        look,
        title="Agreement of methods within a video (mean over videos)",
        notes=[f"{findings[0]}." if len(findings) == 1 else "", note],
        summary=". ".join(findings),
    )


def _spearman(row: Row) -> float:
    return float(row["spearman"])


def _panel(rows: Sequence[Row], kind: str, look: Look) -> Any:
    """Return the matrix of one correlation."""
    known = {(row["method_a"], row["method_b"]): row[kind] for row in rows}
    methods = sorted({method for pair in known for method in pair}, key=method_place)
    names = [method_name(method) for method in methods]
    cells = [
        {"i": method_name(a), "j": method_name(b), "value": 1.0 if a == b else known.get((a, b), known.get((b, a)))}
        for a in methods
        for b in methods
    ]
    shape = Cells("method", "method", _KINDS[kind], ".2f", (-1.0, 0.0, 1.0), names)
    return matrix(cells, shape, look, side=min(300, look.plot_width(small=True, axis=130)))
