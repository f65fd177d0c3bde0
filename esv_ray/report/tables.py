"""Tables of a report as HTML, and their CSV files as links."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import pyarrow as pa

from esv_ray.show.text import printable

_SAFE = " ,.-_+:;/()[]{}=*!$@?~^|"  # what a data URL holds as it is
_POWER = re.compile(r"\b[0-9]\.[0-9]+e-[0-9]+\b")
_NEGATIVE = re.compile(r"(?:(?<=^)|(?<=[\s(])|(?<=\.\.))-(?=[0-9]*\.?[0-9])")
_SEPARATED = 10_000  # integers from here on have separators of thousands


def text_of(text: str) -> str:
    """Return a text as HTML: markup, control and direction characters are shown, never obeyed."""
    return escape(printable(text))


def table_html(table: pa.Table, caption: str) -> str:
    """Return a table, in a frame that scrolls sideways.

    Args:
        table: its rows; names of columns become words.
        caption: plain text.
    """
    numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in table.schema.types]
    head = "".join(
        f'<th scope="col"{_number(kind)}>{text_of(name.replace("_", " "))}</th>'
        for name, kind in zip(table.column_names, numeric, strict=True)
    )
    columns = [table.column(place).to_pylist() for place in range(table.num_columns)]
    rows = "".join(
        f"<tr>{''.join(_cell(value, kind) for value, kind in zip(row, numeric, strict=True))}\n"
        for row in zip(*columns, strict=True)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text_of(caption)}"><table class="data">'
        f'<caption class="unseen">{text_of(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def csv_link(name: str, csv: bytes, part: str) -> str:
    """Return a link that saves a CSV file, which is in the link.

    Args:
        name: of the file, without its suffix.
        csv: content.
        part: which rows it has; "" for all.
    """
    plain, coded = quote(csv, safe=_SAFE), base64.b64encode(csv).decode()
    url = f"data:text/csv;charset=utf-8,{plain}"
    if len(coded) < len(plain):
        url = f"data:text/csv;charset=utf-8;base64,{coded}"
    link = f'<a download="{text_of(name)}.csv" href="{escape(url)}">Save as CSV</a>'
    weight = ", ".join(filter(None, (part, size(len(csv)))))
    return f'<span class="save">{link}<span class="weight">{text_of(weight)}</span></span>'


def size(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count:,} B" if count < 1000 else f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def prose(text: str) -> str:
    """Return a sentence as HTML: minus signs are none of hyphens, percent signs and numbers stay on their line."""
    told = text_of(with_minus(text)).replace(" %", "\N{NO-BREAK SPACE}%")
    return _POWER.sub(r'<span class="whole">\g<0></span>', told)


def with_minus(text: str) -> str:
    """Return a sentence whose negative numbers have a minus sign; hyphens in words, names and ranges stay."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", text)


def listed(items: Sequence[str], kind: str) -> str:
    """Return sentences as paragraphs of a class; nothing if there are none."""
    return "".join(f'<p class="{kind}">{prose(item)}</p>' for item in items if item)


def signed(text: str) -> str:
    """Return a number with a minus sign as wide as its digits."""
    return f"\N{MINUS SIGN}{text[1:]}" if text.startswith("-") else text


def _number(kind: bool) -> str:
    return ' class="n"' if kind else ""


def _cell(value: object, numeric: bool) -> str:
    """Return a cell; those of numbers have no class, and none has an end tag, which HTML does without."""
    if numeric and value is not None:
        return f"<td>{signed(_digits(value))}"
    text = "\N{EN DASH}" if value is None else ("no", "yes")[value] if isinstance(value, bool) else text_of(str(value))
    return f"<td>{text}" if numeric else f"<td class=w>{text}"


def _digits(value: object) -> str:
    if isinstance(value, int) and abs(value) >= _SEPARATED:
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
