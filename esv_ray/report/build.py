"""Build a report: read an output, and write one page about it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import PurePosixPath

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed, ClassName, open_output
from esv_ray.analysis.facets.words import counted
from esv_ray.analysis.tables import chosen, left_out, tables_of_facets
from esv_ray.errors import SpecError
from esv_ray.media import Media, open_media
from esv_ray.output.layout import check_apart
from esv_ray.output.verify.output import Verification, verify_output
from esv_ray.report.comparison import compared
from esv_ray.report.content import ComparisonPart, Report, ShownVideo
from esv_ray.report.facts import facts_of, problems_of
from esv_ray.report.findings import findings_of
from esv_ray.report.page import page
from esv_ray.report.sections import sections_of
from esv_ray.report.selection import FACET, REASONS, chosen_videos
from esv_ray.report.thumbnails import check_installed, thumbnails
from esv_ray.report.variations import variations_of
from esv_ray.show.chart import check_figures
from esv_ray.show.read import read_videos
from esv_ray.show.text import printable

NAME = "report.html"
"""Of the file in the output, by default."""
_DOING = "write the report"
_MOST_PICTURES = 6_500_000  # bytes, so that a page with pictures has less than 10 MB


def report(
    output: str,
    out: str | None = None,
    *,
    media: str | None = None,
    compare: str | None = None,
    class_: ClassName | None = None,
    features: str | None = None,
) -> str:
    """Write a report about an output: one HTML file that needs no network; an existing file is replaced.

    Args:
        output: location of a job's output, finished or not.
        out: location of the file, which ends in .html; None: `report.html` in the output.
        media: pictures, videos or a table with thumbnails (`media.open_media`); None: the thumbnails of the feature
            table, if it has some.
        compare: location of a second output, to compare with.
        class_: whose ESVs: `label` or `predicted`; None: the label where there are labels.
        features: location of the feature table; None: that of run.json, if it is trusted.

    Returns:
        The location of the file.

    Raises:
        SpecError: the file's name does not end in .html, the libraries of figures or of the media are not installed, no
            ESVs are kept of the class, or the outputs cannot be compared.
        DataError: there is no output, no unit is committed yet, a table or the media cannot be read, or the file cannot
            be written.
        JobError: a file of an output is of another job, or of other rows than the plan says.
    """
    output = storage.absolute(output)
    out = storage.join(output, NAME) if out is None else _file(out)
    _check_file(out, [output, *([] if compare is None else [storage.absolute(compare)])])
    check_figures()
    content = content_of(output, media=media, compare=compare, class_=class_, features=features)
    storage.replace(out, page(content), _DOING)
    return out


def content_of(
    output: str,
    *,
    media: str | None = None,
    compare: str | None = None,
    class_: ClassName | None = None,
    features: str | None = None,
) -> Report:
    """Return what a report says; arguments and errors as for `report`."""
    pictures = open_media(media, output, features)
    if pictures is not None:
        check_installed()
    analyzed = open_output(output, class_, features)
    comparison = None if compare is None else compared(analyzed, compare)
    variations, unread = variations_of(analyzed)
    with tables_of_facets(analyzed, [*chosen(analyzed), FACET]) as (*made, ranked):
        summary = next(each.table for each in made if each.facet.name == "summary")
        verification = verify_output(output, features)
        facts = facts_of(analyzed, verification, summary)
        parts = [*((analyzed, each) for each in made), *variations]
        found = findings_of(parts)
        sections = sections_of(output, parts if analyzed.census.ok else [])
        picked = chosen_videos(ranked.table)
        notes = [*_left_out(analyzed, [each.facet.name for _, each in parts], len(picked)), *unread]
    videos = read_videos(output, analyzed.units, [(each.video_id, each.n_elements) for each in picked])
    shown = [
        ShownVideo(video, tuple(each.places), places=each.places) for video, each in zip(videos, picked, strict=True)
    ]
    missing: list[str] = []
    if pictures is not None:
        with closing(pictures):
            shown, comparison, missing = _with_pictures(pictures, shown, comparison)
    return Report(
        title=f"Element Shapley Values of {_name(output)}",
        notice=_notice(analyzed, verification),
        facts=facts,
        findings=found.shown,
        findings_note=found.note,
        sections=sections,
        videos=shown,
        notes=[*notes, *missing],
        comparison=comparison,
        version=version("esv-ray"),
        rankings=REASONS,
    )


def _file(out: str) -> str:
    """Return the absolute location of the file.

    Raises:
        SpecError: it is spelled as that of a folder, which `storage.absolute` would not show.
    """
    if out.endswith("/"):
        raise SpecError(f"--output: expected a file that ends in .html, got the folder {out!r:.200}")
    return storage.absolute(out)


def _check_file(out: str, outputs: Sequence[str]) -> None:
    """Check that the file can be written, before anything is read.

    Raises:
        SpecError: its name does not end in .html, or it would be a file of an output.
        DataError: nothing can be written there.
    """
    if PurePosixPath(out).suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"--output: expected a file that ends in .html, got {out!r:.200}")
    check_apart(out, outputs, "--output")
    folder, _, name = out.rpartition("/")
    storage.check_writable(folder or "/", _DOING, [name])


def _with_pictures(
    media: Media, shown: Sequence[ShownVideo], comparison: ComparisonPart | None
) -> tuple[list[ShownVideo], ComparisonPart | None, list[str]]:
    """Return videos with pictures of their frames, and notes on missing ones.

    Raises:
        SpecError: the package that decodes videos is not installed.
    """
    changed = [] if comparison is None else list(comparison.changed)
    pictures, notes = thumbnails(media, [each.video for each in (*shown, *changed)], _MOST_PICTURES)
    pictured = [replace(each, thumbnails=of_one) for each, of_one in zip((*shown, *changed), pictures, strict=True)]
    if comparison is not None:
        comparison = replace(comparison, changed=pictured[len(shown) :])
    return pictured[: len(shown)], comparison, notes


def _left_out(analyzed: Analyzed, made: Sequence[str], picked: int) -> list[str]:
    """Return what the report does not have, and why; `made` are the names of the tables that it has."""
    notes = left_out(analyzed, made) if analyzed.census.ok else []
    others = analyzed.census.ok - picked
    if picked and others > 0:
        notes.append(
            f"Videos: the first of five rankings, {picked} of {counted(analyzed.census.ok, 'sequence')}; esv show "
            "shows any other."
        )
    return notes


def _notice(analyzed: Analyzed, verification: Verification) -> str:
    """Return what a reader must know first; "" if nothing."""
    notices = []
    problems = len(problems_of(verification))
    if problems:
        notices.append(f"esv verify found {counted(problems, 'problem')}: see “Verified” below.")
    if not analyzed.finished:
        progress = analyzed.progress
        notices.append(f"{progress[:1].upper()}{progress[1:]}. Tables, figures and videos are of these.")
    if not analyzed.census.ok:
        notices.append("No video has ESVs, so there are no findings, tables, figures and videos.")
    return " ".join(notices)


def _name(output: str) -> str:
    """Return the last two parts of a location: the last alone is often the same for all outputs."""
    path = storage.without_credentials(output).partition("://")[2] or output
    return printable("/".join([part for part in path.split("/") if part][-2:])) or "an output"
