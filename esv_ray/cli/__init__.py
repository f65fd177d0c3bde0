"""The command `esv`: one module per group of commands, no logic."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from esv_ray.cli.analyze import analyze
from esv_ray.cli.attribute import attribute, verify
from esv_ray.cli.bench import bench
from esv_ray.cli.compare import compare
from esv_ray.cli.convergence import convergence
from esv_ray.cli.dashboard import dashboard
from esv_ray.cli.demo import demo
from esv_ray.cli.explain import explain
from esv_ray.cli.export import export
from esv_ray.cli.extract import extract
from esv_ray.cli.imports import import_
from esv_ray.cli.jobs import jobs, logs, status, stop
from esv_ray.cli.plan import plan
from esv_ray.cli.report import report
from esv_ray.cli.show import show
from esv_ray.cli.sql import sql
from esv_ray.cli.submit import render, submit
from esv_ray.cli.train import train
from esv_ray.cli.variations import order, sanity, smoothness
from esv_ray.errors import EsvError, IncompleteError, StorageError, one_line
from esv_ray.show.text import printable
from esv_ray.signals import INTERRUPTED, is_resumable, report_interrupted, was_interrupted

INCOMPLETE, INVALID_REQUEST = 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="esv-ray", prog_name="esv")
@click.pass_context
def cli(context: click.Context) -> None:
    """Compute Element Shapley Values (ESVs) of video models: how much each frame contributes to each class score."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org; neither bold type nor colors
        context.color = False


for command in (
    demo,
    plan,
    attribute,
    verify,
    analyze,
    smoothness,
    order,
    sanity,
    compare,
    show,
    explain,
    report,
    export,
    dashboard,
    sql,
    submit,
    render,
    status,
    logs,
    stop,
    jobs,
    extract,
    train,
    import_,
    bench,
    convergence,
):
    cli.add_command(command)


def main() -> None:
    """Run `esv`; the one place where errors become exit codes.

    Exit codes: 0 done, 1 incomplete, 2 invalid request, 130 interrupted.
    """
    try:
        code = cli.main(prog_name="esv", standalone_mode=False)
    except BaseException as error:
        code = _exit_code(error)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException) -> int:
    """Print one line about what ended the command and return its exit code; raise unexpected errors again."""
    # An interrupt may surface as another error, for example from the middle of an import.
    if was_interrupted() or isinstance(error, click.Abort | KeyboardInterrupt):
        report_interrupted()
        return INTERRUPTED
    limit = _machine_limit(error)
    if limit is not None:
        kept = " to resume" if is_resumable() else ""
        click.echo(f"esv: {limit}, then run the command again{kept}", err=True)
        return INCOMPLETE
    if isinstance(error, EsvError):
        click.echo(f"esv: {printable(str(error))}", err=True)
        full = isinstance(error, StorageError) and error.full  # the request may be valid
        return INCOMPLETE if full or isinstance(error, IncompleteError) else INVALID_REQUEST
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a group without a command: its help page
        error.show()
        return INVALID_REQUEST
    if isinstance(error, click.ClickException):
        click.echo(f"esv: {_usage_error(error)}", err=True)
        return INVALID_REQUEST
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        click.echo(f"esv: {printable(one_line(error))}; check that place", err=True)
        return INVALID_REQUEST
    raise error


def _usage_error(error: click.ClickException) -> str:
    """Return click's message in one line, without its lines of usage; names the help page of the command."""
    text = printable(" ".join(error.format_message().split()))
    if not isinstance(error, click.UsageError):
        return text
    command = _command(sys.argv[1:]) if error.ctx is None else error.ctx.command_path
    if text.endswith("?"):  # click's suggestion
        return f"{text} See {command} --help"
    return f"{text.removesuffix('.')}; see {command} --help"


def _command(words: Sequence[str]) -> str:
    """Return the command, with its groups, that the words of a command line name."""
    path, group = ["esv"], cli
    for word in words:
        found = group.commands.get(word)
        if found is None:
            break
        path.append(word)
        if not isinstance(found, click.Group):
            break
        group = found
    return " ".join(path)


def _machine_limit(error: BaseException) -> str | None:
    """Describe the limit of this machine that an error means, and how to raise it; None for other errors."""
    if isinstance(error, MemoryError):
        return "out of memory; raise this process's memory limit (ulimit -v, or the container's)"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "cannot start another thread; raise ulimit -u, ulimit -v, or the container's PID limit"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "cannot open another file; raise ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "cannot write a file this large; raise ulimit -f"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on a disk ({one_line(error)}); free some"
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return "no writable folder for temporary files; free some disk space, raise ulimit -f, or set TMPDIR"
    return None
