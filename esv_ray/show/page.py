"""A page for a figure: light or dark as the reader's screen, and nothing from a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from esv_ray.show.theme import DARK, LIGHT, PAGE_FONT

_TAG = re.compile(rb"<[^<>]+>")
_NAME = re.compile(rb'( id="|"url\(#)')
_WIDTH_HEIGHT = re.compile(rb'^(<svg[^>]*?) width="[0-9.]+" height="[0-9.]+"')


class Section(NamedTuple):
    """A figure of a page.

    Attributes:
        light, dark: the figure as SVG, for light and for dark screens.
        more: HTML below it.
        narrow: light and dark versions for phones; without them a phone scrolls sideways.
    """

    light: bytes
    dark: bytes
    more: str = ""
    narrow: tuple[bytes, bytes] | None = None


def figure_page(
    title: str, light: bytes, dark: bytes, more: str = "", narrow: tuple[bytes, bytes] | None = None
) -> bytes:
    """Return a page with a figure, of which a screen shows one version; arguments as for `Section`.

    Args:
        title: plain text.
        light, dark, more, narrow: the figure.
    """
    return sections_page(title, [Section(light, dark, more, narrow)])


def sections_page(title: str, sections: Sequence[Section]) -> bytes:
    """Return a page with figures one below the other.

    Args:
        title: plain text.
        sections: at least one.
    """
    content = "\n<hr>\n".join(_section(number, section) for number, section in enumerate(sections))
    style = f"""
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 1200px; padding: 16px; font-family: {PAGE_FONT}; background: {LIGHT.background};
  color: {LIGHT.ink}; }}
svg {{ max-width: 100%; height: auto; }}
.dark {{ display: none; }}
.figure {{ overflow-x: auto; }}
.figure svg {{ min-width: 560px; }}
.figure.narrow svg {{ min-width: 0; overflow: visible; }}
@media (max-width: 640px) {{ .wide {{ display: none !important; }} }}
@media (min-width: 640.02px) {{ .narrow {{ display: none !important; }} }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }}
th, td {{ text-align: right; padding: 3px 10px; border-bottom: 1px solid {LIGHT.grid}; }}
summary {{ cursor: pointer; margin: 12px 0; }}
hr {{ border: 0; border-top: 1px solid {LIGHT.grid}; margin: 24px 0; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: {DARK.background}; color: {DARK.ink}; }}
  .light {{ display: none; }}
  .dark {{ display: block; }}
  th, td, hr {{ border-color: {DARK.grid}; }}
}}"""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}
</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
""".encode()


def _section(number: int, section: Section) -> str:
    """Return a figure in its versions, and what is below it."""
    versions = [("light", section.light), ("dark", section.dark)]
    if section.narrow is not None:
        versions = [(f"{kind} wide", svg) for kind, svg in versions]
        versions += [("light narrow", section.narrow[0]), ("dark narrow", section.narrow[1])]
    figures = "\n".join(
        f'<div class="figure {kind}">{_inline(svg, f"{kind} {number}" if number else kind)}</div>'
        for kind, svg in versions
    )
    return f"{figures}\n{section.more}"


def _inline(svg: bytes, names: str) -> str:
    """Return a figure that fits the page's width, and whose gradients and clips have names of their own."""
    name = names.replace(" ", "-").encode() + b"-"
    named = _TAG.sub(lambda tag: _NAME.sub(rb"\1" + name, tag[0]), svg)
    return _WIDTH_HEIGHT.sub(rb"\1", named).decode()
