"""The command `esv`: one module a group of commands, no logic."""

from __future__ import annotations

import errno
import sys

import click

from esv_ray.cli.analyze import analyze
from esv_ray.cli.attribute import attribute, printable, verify
from esv_ray.cli.bench import bench
from esv_ray.cli.convergence import convergence
from esv_ray.cli.demo import demo
from esv_ray.cli.jobs import jobs, logs, status, stop
from esv_ray.cli.models import import_, train
from esv_ray.cli.plan import plan
from esv_ray.cli.submit import render, submit
from esv_ray.errors import EsvError, IncompleteError, StorageError, short_text
from esv_ray.signals import INTERRUPTED, tell_interrupted, was_interrupted

INCOMPLETE, WRONG_REQUEST = 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="esv-ray", prog_name="esv")
def cli() -> None:
    """Element Shapley Values of video models: how much each frame contributed to each class score."""


for command in (
    demo,
    plan,
    attribute,
    verify,
    analyze,
    submit,
    render,
    status,
    logs,
    stop,
    jobs,
    train,
    import_,
    bench,
    convergence,
):
    cli.add_command(command)


def main() -> None:
    """The one place where errors become exit codes: 0 done, 1 incomplete, 2 wrong request, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
    except BaseException as error:
        code = _exit_code(error)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException) -> int:
    """The exit code of what ended the command, told in one line; other errors go on to the interpreter."""
    # An interrupt may come out as another error, say from the middle of an import.
    if was_interrupted() or isinstance(error, click.Abort | KeyboardInterrupt):
        tell_interrupted()
        return INTERRUPTED
    limit = _limit(error)
    if limit is not None:
        click.echo(f"esv: {limit}, then run again: what is committed stays", err=True)
        return INCOMPLETE
    if isinstance(error, EsvError):
        click.echo(f"esv: {printable(str(error))}", err=True)
        full = isinstance(error, StorageError) and error.full  # not the request is wrong
        return INCOMPLETE if full or isinstance(error, IncompleteError) else WRONG_REQUEST
    if isinstance(error, click.ClickException):
        error.show()
        return WRONG_REQUEST
    raise error


def _limit(error: BaseException) -> str | None:
    """Name the limit of this machine that an error means; None where it means none."""
    if isinstance(error, MemoryError):
        return "this process got no more memory; raise its limit (ulimit -v, or the container's)"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "this process could not start a thread; raise ulimit -u, ulimit -v, or the container's limit of pids"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "this process could not open another file; raise ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "this process could not write so large a file; raise ulimit -f"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room is left on a disk ({short_text(error)}); free some"
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return "no folder for temporary files can be written; free some room, raise ulimit -f, or set TMPDIR"
    return None
