"""A report as one HTML file that needs nothing else: no network, no library, and no script to read it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from esv_ray.analysis.facets.finding import Finding
from esv_ray.analysis.facets.words import counted
from esv_ray.analysis.figures.recolor import colors_of, variable
from esv_ray.analysis.figures.wording import ordinal
from esv_ray.report.content import ComparisonPart, Fact, Figure, Report, Section, ShownVideo
from esv_ray.report.tables import csv_link, listed, prose, table_html, text_of, with_minus
from esv_ray.report.videos import key_html, video_html
from esv_ray.show.theme import css_variables

_HERE = Path(__file__).parent
_STATES = {"good": "\N{CHECK MARK}", "warning": "!", "bad": "\N{MULTIPLICATION X}"}
_CLEAR = ("clear", "\N{BLACK CIRCLE}", "Clear of chance")
_UNCLEAR = ("unclear", "\N{WHITE CIRCLE}", "Not clear of chance")
_LONG_VARIABLE = re.compile(rb"var\(--(c-[0-9a-f]{6}-[0-9a-f]{6})\)")


def page(report: Report) -> bytes:
    """Return the page of a report.

    Args:
        report: what it says; all texts but the figures' SVG are escaped.
    """
    report, colors = _short_colors(report)
    body = "".join(_body(report))
    style = css_variables(*colors) + (_HERE / "style.css").read_text()
    script = (_HERE / "script.js").read_text()
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta name="generator" content="esv_ray {text_of(report.version)}">\n'
        f"<title>{text_of(report.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    ).encode()


def _body(report: Report) -> Iterator[str]:
    yield '<a class="skip" href="#main">Skip to the report</a><div class="page">'
    yield _contents(report)
    yield '<main id="main">'
    yield from _first(report)
    if report.sections:
        yield '<section class="part" id="figures" aria-labelledby="figures-h"><h2 id="figures-h">Figures</h2>'
        yield from map(_section, report.sections)
        yield "</section>"
    if report.comparison is not None:
        yield from _comparison(report.comparison)
    if report.videos:
        yield '<section class="part" id="videos" aria-labelledby="videos-h"><h2 id="videos-h">Videos</h2>'
        yield from _videos(report.videos, report.rankings)
        yield "</section>"
    if report.notes:
        items = "".join(f"<li>{prose(note)}</li>" for note in report.notes)
        yield '<section class="part" id="notes" aria-labelledby="notes-h"><h2 id="notes-h">Notes</h2>'
        yield f'<ul class="notes">{items}</ul></section>'
    yield f"<footer>Made by esv report, esv_ray {text_of(report.version)}</footer></main></div>"


def _contents(report: Report) -> str:
    """Return links to all parts."""
    parts = [("#main", "Summary", "")]
    if report.sections:
        parts.append(("#figures", "Figures", _links(report.sections)))
    if report.comparison is not None:
        parts.append(("#comparison", "Comparison", _links(report.comparison.sections)))
    if report.videos:
        parts.append(("#videos", "Videos", ""))
    if report.notes:
        parts.append(("#notes", "Notes", ""))
    items = "".join(f'<li><a href="{url}">{name}</a>{more}</li>' for url, name, more in parts)
    return f'<nav class="contents" aria-label="Contents"><ol>{items}</ol></nav>'


def _links(sections: Sequence[Section]) -> str:
    items = "".join(f'<li><a href="#{_anchor(each.name)}">{text_of(each.title)}</a></li>' for each in sections)
    return items and f"<ol>{items}</ol>"


def _first(report: Report) -> Iterator[str]:
    """Yield the first screen: what was explained, whether it is whole, and three findings."""
    yield '<section class="first" aria-labelledby="title">'
    yield f'<h1 id="title">{text_of(report.title)}</h1>'
    if report.notice:
        yield f'<p class="notice" role="note"><b>{_STATES["warning"]}</b> {prose(report.notice)}</p>'
    yield f'<dl class="facts">{"".join(map(_fact, report.facts))}</dl>'
    if report.findings or report.findings_note:
        named = {section.name: section for section in report.sections}
        yield '<h2 id="findings">Findings</h2>'
        yield '<ol class="findings">' if report.findings else ""
        for finding in report.findings:
            yield _finding(finding, named.get(finding.facet))
        yield "</ol>" if report.findings else ""
        yield listed([report.findings_note], "reading")
    yield "</section>"


def _finding(finding: Finding, section: Section | None) -> str:
    """Return a finding, below a line that says whether it is clear of chance, with a link to its figure."""
    link = ""
    if section is not None:
        kind = "Figure" if section.figure else "Table"
        link = f'<a href="#{_anchor(section.name)}">{kind}: {text_of(section.title)}</a>'
    name, sign, words = _CLEAR if finding.clear else _UNCLEAR
    mark = f'<p class="mark"><span aria-hidden="true">{sign}</span> {words}</p>'
    return f'<li class="{name}">{mark}<p>{prose(finding.sentence)}</p>{link}</li>'


def _fact(fact: Fact) -> str:
    state = ""
    if fact.state in _STATES:
        state = f'<span class="state {fact.state}" aria-hidden="true">{_STATES[fact.state]}</span>'
    text = f'<span class="{fact.state}">{prose(fact.text)}</span>' if state else prose(fact.text)
    more = ""
    if fact.details:
        items = "".join(f"<li>{prose(each)}</li>" for each in fact.details)
        more = f'<details class="more"><summary>The others</summary><ul>{items}</ul></details>'
    return f"<div><dt>{text_of(fact.term)}</dt><dd>{state}{text}{more}</dd></div>"


def _section(section: Section) -> str:
    anchor = _anchor(section.name)
    reading = f'<p class="reading"><b>How to read it.</b> {prose(section.reading)}</p>' if section.reading else ""
    count = section.table.num_rows
    rows = counted(count, "row") if count == section.rows else f"first {count:,} of {section.rows:,} rows"
    table = table_html(section.table, f"{section.title}: {rows}")
    part = "" if section.csv_rows == section.rows else f"first {section.csv_rows:,} rows"
    link = csv_link(section.name, section.csv, part)
    where = f'<p class="where">Whole table: <code>{text_of(section.location)}</code></p>' if section.location else ""
    tools = f'<div class="tools"><details><summary>Table, {rows}</summary>{table}{where}</details>{link}</div>'
    says = listed(section.sentences, "says")
    main = ""
    if section.main is not None:  # landmarks have different names: this one is in the section
        main = f'<div class="measures">{table_html(section.main, f"{section.title}: main columns")}</div>'
    return (
        f'<section class="facet" id="{anchor}" aria-labelledby="{anchor}-h"><h3 id="{anchor}-h">'
        f"{text_of(section.title)}</h3>{says}{_figure(section.figure, reading)}{main}{tools}</section>"
    )


def _figure(figure: Figure | None, reading: str) -> str:
    """Return a figure for pages and one for phones, of which a screen shows one."""
    if figure is None:
        return reading
    caption = f"<figcaption><b>{prose(figure.title)}.</b> {prose(figure.notes)}</figcaption>" if figure.title else ""
    alt = text_of(with_minus(figure.alt))
    drawn = ""
    for kind, svg in (("wide", figure.wide), ("narrow", figure.narrow)):
        named = svg.decode().replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        drawn += f'<div class="{kind}">{named}</div>'
    return (
        f'{reading}<figure class="chart">{caption}<div class="drawn" data-marks="{figure.marks}">{drawn}</div></figure>'
    )


def _comparison(part: ComparisonPart) -> Iterator[str]:
    yield '<section class="part" id="comparison" aria-labelledby="comparison-h"><h2 id="comparison-h">Comparison</h2>'
    yield f'<p class="lede">{text_of(part.title)}</p>{listed(part.sentences, "says")}'
    yield f'<div class="measures">{table_html(part.table, part.title)}</div>'
    yield from map(_section, part.sections)
    if part.changed:
        yield f'<div class="group" id="changed"><h3>Videos that changed most</h3>{key_html(part.changed)}'
        for number, shown in enumerate(part.changed):
            yield video_html(shown, f"changed-{number}", 4)
        yield "</div>"
    yield "</section>"


def _videos(videos: Sequence[ShownVideo], rankings: Sequence[str]) -> Iterator[str]:
    """Yield the videos by ranking, each once; a ranking says which of its videos stand above."""
    yield key_html(videos)
    groups: dict[str, list[int]] = {reason: [] for reason in rankings}
    for number, each in enumerate(videos):
        groups.setdefault(each.reasons[0] if each.reasons else "", []).append(number)
    for reason, numbers in groups.items():
        shown = "".join(video_html(videos[number], f"video-{number}", 4) for number in numbers)
        above = _above(videos, reason)
        if shown or above:
            heading = text_of(reason[:1].upper() + reason[1:]) or "Chosen"
            yield f'<div class="group"><h3>{heading}</h3>{above}{shown}</div>'


def _above(videos: Sequence[ShownVideo], reason: str) -> str:
    """Return links to the videos of a ranking that stand in an earlier one; "" if there are none."""
    numbered = [
        (each.places.get(reason, 0), number) for number, each in enumerate(videos) if reason in each.reasons[1:]
    ]
    if not numbered:
        return ""
    links = []
    for place, number in sorted(numbered):
        each = videos[number]
        link = f'<a href="#video-{number}"><bdi>{text_of(each.video.video_id)}</bdi></a>'
        links.append(f"{f'{ordinal(place)} ' if place else ''}{link} ({text_of(each.reasons[0])})")
    return f'<p class="earlier">Shown above: {", ".join(links)}.</p>'


def _anchor(name: str) -> str:
    return "facet-" + re.sub(r"[^a-z0-9_-]", "-", name.lower())


def _short_colors(report: Report) -> tuple[Report, tuple[dict[str, str], dict[str, str]]]:
    """Return the report with short names of the figures' own colors, and these colors on light and dark pages."""
    compared = () if report.comparison is None else report.comparison.sections
    figures = [each.figure for each in (*report.sections, *compared) if each.figure is not None]
    pairs = sorted({pair for figure in figures for svg in (figure.wide, figure.narrow) for pair in colors_of(svg)})
    names = {variable(pair[0]): f"c{number}" for number, pair in enumerate(pairs)}

    def short(svg: bytes) -> bytes:
        return _LONG_VARIABLE.sub(lambda found: b"var(--%s)" % names[found[1].decode()].encode(), svg)

    def renamed(section: Section) -> Section:
        figure = section.figure
        if figure is None:
            return section
        return replace(section, figure=replace(figure, wide=short(figure.wide), narrow=short(figure.narrow)))

    light, dark = ({names[variable(pair[0])]: pair[side] for pair in pairs} for side in (0, 1))
    comparison = report.comparison
    if comparison is not None:
        comparison = replace(comparison, sections=[*map(renamed, comparison.sections)])
    return replace(report, sections=[*map(renamed, report.sections)], comparison=comparison), (light, dark)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
