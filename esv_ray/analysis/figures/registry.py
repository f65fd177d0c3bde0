"""The figures by name, and a function that draws any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures import (
    agreement,
    areas,
    classes,
    compare,
    confusions,
    contrasts,
    convergence,
    correlations,
    discards,
    interactions,
    marginals,
    moments,
    needed,
    order,
    pairs,
    positions,
    profiles,
    replacements,
    sanity,
    smoothness,
    support,
)
from esv_ray.analysis.figures.keys import Key
from esv_ray.analysis.figures.look import WIDE, Look
from esv_ray.analysis.figures.rows import Row
from esv_ray.show.theme import LIGHT, Theme

if TYPE_CHECKING:
    import altair

    Chart = Callable[[pa.Table, Look], altair.ConcatChart]

CHARTS: Mapping[str, Chart] = {
    "support": support.chart,
    "positions": positions.chart,
    "pairs": pairs.chart,
    "marginals": marginals.chart,
    "smoothness": smoothness.chart,
    "contrasts": contrasts.chart,
    "classes": classes.chart,
    "profiles": profiles.chart,
    "confusions": confusions.chart,
    "interactions": interactions.chart,
    "discards": discards.chart,
    "areas": areas.chart,
    "replacements": replacements.chart,
    "needed": needed.chart,
    "moments": moments.chart,
    "order": order.chart,
    "sanity": sanity.chart,
    "agreement": agreement.chart,
    "convergence": convergence.chart,
    "compare": compare.chart,
    "correlations": correlations.chart,
}
"""Charts by the name of their table."""
KEYS: Mapping[str, Callable[[Row], Key | None]] = {
    "support": support.key_of,
    "positions": positions.key_of,
    "pairs": pairs.key_of,
    "classes": classes.key_of,
    "profiles": profiles.key_of,
    "confusions": confusions.key_of,
    "contrasts": contrasts.key_of,
}
"""The videos of a row, by the name of the table, where rows stand for sets of videos."""


def draw(
    facet: str,
    table: pa.Table,
    *,
    names: Sequence[str] | None = None,
    theme: Theme = LIGHT,
    width: int = WIDE,
    unit: str = "probability",
) -> altair.ConcatChart:
    """Return the figure of a facet.

    Args:
        facet: one of `CHARTS`.
        table: the facet's table.
        names: class names by id; without them, classes are named by their ids.
        theme: colors.
        width: of the figure, in pixels.
        unit: of scores and ESVs: `probability` or `logit`.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    return CHARTS[facet](table, Look(names, theme, width, unit))
