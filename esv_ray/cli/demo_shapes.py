"""esv demo shapes: from rendered videos to a report, by the commands that a user would give."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from esv_ray.errors import SpecError

FOLDER = "esv-shapes"
"""Where the demo writes by default."""
FRAMES, SCALES = 12, 4
"""Frames of a video that are extracted, and the longest head."""
_TRAINING = {"n_max": SCALES, "hidden": 256, "dropout": 0.3, "learning_rate": 0.003, "epochs": 150, "patience": 20}
_SHUFFLES = 4


def run_shapes(home: Path) -> int:
    """Run all steps in a folder; those that an earlier run has done are not repeated. Return the exit code.

    Raises:
        SpecError: a package is not installed; nothing is done then.
        EsvError: whatever a step raises.
    """
    from esv_ray.models.saving import exists_bundle

    check_packages()
    _render(home)
    for title, command in commands(home):
        if title:
            click.secho(f"\n{title}", bold=True)
        click.echo(f"$ {shlex.join(command)}")
        if command[:2] == ["esv", "train"] and exists_bundle(str(home / "model")):
            click.echo(f"model: {home / 'model'} (trained by an earlier run)")
            continue
        code = _run(command)
        if code:
            return code
    _conclude(str(home / "esv"), home)
    return 0


def check_packages() -> None:
    """Check that what the demo needs beside the base installation is there.

    Raises:
        SpecError: names all packages that are missing.
    """
    from esv_ray.bench.shapes.files import check_installed as check_video
    from esv_ray.extraction.thumbnails import check_installed as check_thumbnails
    from esv_ray.show.chart import check_figures

    missing = []
    checks: tuple[Callable[[], None], ...] = (check_video, check_thumbnails, check_figures)
    for check in checks:
        try:
            check()
        except SpecError as error:
            missing.append(str(error))
    if missing:
        raise SpecError(f"{missing[0]}; esv demo shapes needs both extras: pip install 'esv-ray[figures,video]'")


def commands(home: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of the demo but the first one, with titles; a command without one belongs to the one before.

    The demo runs them as they are.
    """
    videos, train, test = home / "videos", home / "train", home / "test"
    extract = ["--classes", f"{videos / 'classes.csv'}", "--backbone", "pooled", "--frames", str(FRAMES)]
    job = ["--features", f"{test}", "--model", f"{home / 'model'}", "--output", f"{home / 'esv'}"]
    job += [word for pair in (f"frames={FRAMES}", "methods=[esv,random]") for word in ("--set", pair)]
    settings = [word for key, value in _TRAINING.items() for word in ("--set", f"{key}={value}")]
    yield (
        "2. Extracting features: how much of seven colors the cells of a grid hold",
        ["esv", "extract", f"{videos / 'train.csv'}", *extract, "--output", f"{train}"],
    )
    yield "", ["esv", "extract", f"{videos / 'test.csv'}", *extract, "--thumbnails", "--output", f"{test}"]
    yield (
        f"3. Training heads f^1 .. f^{SCALES}",
        ["esv", "train", "--features", f"{train}", "--output", f"{home / 'model'}", *settings],
    )
    yield (
        "4. Computing Element Shapley Values of the test videos, and random values to compare with",
        ["esv", "attribute", *job, "--set", "tables=[marginals,discards]"],
    )
    yield (
        "5. Control: the same videos with their frames in random orders",
        ["esv", "order", *job, "--shuffles", str(_SHUFFLES)],
    )
    yield (
        "6. What the ESVs say",
        ["esv", "analyze", f"{home / 'esv'}", "--table", "summary", "--table", "classes", "--table", "moments"],
    )
    yield (
        "7. A report with thumbnails",
        ["esv", "report", f"{home / 'esv'}", "--media", f"{test}", "--output", f"{home / 'report.html'}"],
    )


def _render(home: Path) -> None:
    """Write the videos, unless an earlier run has."""
    from esv_ray.bench.shapes.files import write_videos
    from esv_ray.cli.progress import render_progress

    videos = home / "videos"
    click.secho("1. Rendering videos of moving shapes", bold=True)
    click.echo(f"$ {shlex.join(['python', '-m', 'esv_ray.bench.shapes', str(videos)])}")
    with render_progress() as report:
        count = write_videos(str(videos.absolute()), report=report)
    click.echo(f"{count} videos: {videos}")


def _run(command: list[str]) -> int:
    """Run one of the commands in this process; return its exit code."""
    from esv_ray.cli import cli

    code = cli.main(command[1:], prog_name="esv", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _conclude(output: str, home: Path) -> None:
    """Print the figures that matter, and what to look at."""
    from esv_ray.analysis.tables import analyze
    from esv_ray.bench.shapes.scenes import CLASSES

    tables = analyze(output, ["summary", "moments"])
    (summary,) = tables["summary"].to_pylist()
    auc = {row["method"]: row for row in tables["moments"].to_pylist()}
    click.secho("\nResult", bold=True)
    click.echo(
        f"accuracy on {summary['videos']} test videos: {100 * summary['accuracy']:.1f} % (by chance "
        f"{100 / len(CLASSES):.1f} %; without the order of frames at most 50 %: it tells a class from its reverse)"
    )
    for method, name in (("esv", "ESVs"), ("random", "random values")):
        row = auc[method]
        click.echo(
            f"AUC of the deciding frames, {name}: {row['auc']:.3f} "
            f"(95 %: {row['auc_low']:.3f}..{row['auc_high']:.3f}; mean over {row['videos']} videos)"
        )
    click.echo(f"report: {home / 'report.html'}")
    click.echo(f"videos: {home / 'videos' / 'test'}")
