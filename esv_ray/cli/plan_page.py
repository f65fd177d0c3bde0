"""The page of esv plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from esv_ray.cli.attribute import printable

_BINS, _BAR, _ROWS = 10, 30, 12


def show(told: Mapping[str, Any]) -> None:
    """A forecast (`cluster.forecast_json`) for people."""
    table, done = told["input"], told["done"]
    labels = "labels" if table["labels"] else "no labels"
    click.echo(
        f"{table['videos']:,} videos in {table['files']} files, {table['row_groups']} row groups, "
        f"{table['units']} units; D = {table['feature_dim']}, {labels}, {_bytes(table['bytes'])}"
    )
    if done["planned"]:
        click.echo(
            f"done already: {done['units']} units, {done['videos']:,} videos; left: {done['units_left']} units, "
            f"{done['videos_left']:,} videos"
        )
    _lengths(table)
    _work(told)
    if done["units_left"]:
        _needs(told)
    elif table["videos"]:
        click.echo(f"nothing is left to do: the tables are in {told['output']}")
    else:
        click.echo("nothing is to do: the feature table has no rows")
    for warning in told["warnings"]:
        click.secho(f"warning: {printable(warning)}", fg="yellow")


def _lengths(table: Mapping[str, Any]) -> None:
    how = "each video's own" if table["lengths_of"] == "rows" else "mean of each row group; --read-lengths for the true"
    click.echo(f"\nframes of a video ({how}):")
    bins = _binned([(entry["frames"], entry["videos"]) for entry in table["lengths"]])
    most = max((videos for _, _, videos in bins), default=1)
    for first, last, videos in bins:
        name = f"{first}" if first == last else f"{first}-{last}"
        click.echo(f"  {name:>11} {videos:>11,} {'#' * max(1, round(_BAR * videos / most))}")


def _binned(lengths: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(first, last, videos), at most ten, those without videos left out."""
    if len(lengths) <= _BINS:
        return [(frames, frames, videos) for frames, videos in lengths]
    shortest, longest = lengths[0][0], lengths[-1][0]
    width = -(-(longest - shortest + 1) // _BINS)
    found: dict[int, int] = {}
    for frames, videos in lengths:
        found[(frames - shortest) // width] = found.get((frames - shortest) // width, 0) + videos
    return [
        (shortest + index * width, min(longest, shortest + (index + 1) * width - 1), videos)
        for index, videos in sorted(found.items())
    ]


def _work(told: Mapping[str, Any]) -> None:
    rows = told["by_length"]
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("n", "videos", "left", "estimator", "evaluations", "in all", "ms", "figure"):
        left = column in ("estimator", "figure")
        shown.add_column(column, justify="left" if left else "right", no_wrap=True)
    chosen = sorted(rows, key=lambda row: row["videos"] * row["evaluations"])[-_ROWS:]
    for row in sorted(chosen, key=lambda row: row["n"]):
        fits = row["fits"]
        shown.add_row(
            str(row["n"]),
            f"{row['videos']:,}",
            f"{row['left']:,}",
            row["estimator"] if fits else "does not fit",
            _range(row["evaluations"], row["evaluations_most"]) if fits else "-",
            f"{row['videos'] * row['evaluations']:.3g}" if fits else "-",
            f"{1e3 * row['video_s']:.3g}" if row["figure"] else "-",
            row["figure"] or "-",
        )
    Console(width=100).print(shown)
    if len(rows) > len(chosen):
        click.echo(f"  and {len(rows) - len(chosen)} more lengths of less work")


def _needs(told: Mapping[str, Any]) -> None:
    evaluations, write, memory, time = (told[key] for key in ("evaluations", "write", "memory", "time"))
    all_of = _range(evaluations["left"], evaluations["left_most"])
    click.echo(f"evaluations  {all_of} left of {_range(evaluations['total'], evaluations['most'])}")
    click.echo(f"read         {_bytes(told['read']['bytes'])}")
    rows = _range(write["attribution_rows_least"], write["attribution_rows_most"])
    size = f"{_bytes(write['bytes_least'])} to {_bytes(write['bytes_most'])}"
    kind = {True: "create-only", False: "not create-only", None: "nothing is left to write"}[write["create_only"]]
    click.echo(f"written      {size}: {rows} attributions in {write['files']} files, {kind}")
    click.echo(
        f"memory       {_bytes(memory['actor'])} an actor at most: work {_bytes(memory['work'])} of "
        f"{_bytes(memory['budget'])} allowed, reading {_bytes(memory['reading'])}"
    )
    most = "" if time["seconds_most"] < 1.05 * time["seconds"] else f" to {_seconds(time['seconds_most'])}"
    parts = ", ".join(
        f"{name} {_seconds(time[f'{name}_s'])}" for name in ("compute", "read", "write", "plans", "start")
    )
    click.echo(
        f"time         about {_seconds(time['seconds'])}{most} with {time['actors_at_work']} actor(s) on "
        f"{time['device']}"
    )
    click.echo(f"             {parts}")
    click.echo(f"             compute {time['figures']}; reading and writing at assumed rates")


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _bytes(size: float) -> str:
    from esv_ray.core.memory import format_bytes

    return format_bytes(size)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
