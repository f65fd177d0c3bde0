"""Figures of made-up tables, drawn once for all tests of a process."""

from __future__ import annotations

from functools import cache

import pyarrow as pa

from esv_ray.analysis.figures.look import NARROW, WIDE
from esv_ray.analysis.figures.registry import draw
from esv_ray.show.chart import picture_of
from esv_ray.show.theme import DARK, LIGHT
from tests.support import facet_tables as made

N, CLASSES, VIDEOS = 6, 12, 400
NAMES = made.something_like(CLASSES)


@cache
def tables() -> dict[str, pa.Table]:
    return made.tables(made.made_up(VIDEOS, N, CLASSES), NAMES)


@cache
def svg(facet: str, *, narrow: bool = False, dark: bool = False) -> str:
    """The figure of a facet, as SVG."""
    theme, width = DARK if dark else LIGHT, NARROW if narrow else WIDE
    return svg_of(facet, tables()[facet], NAMES, theme=theme, width=width)


def svg_of(facet: str, table: pa.Table, names: list[str] | None = None, **look: object) -> str:
    return picture_of(draw(facet, table, names=names, **look), "svg").decode()  # type: ignore[arg-type]
