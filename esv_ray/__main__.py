"""The command `esv`, also as ``python -m esv_ray``: handles signals before anything slow is imported."""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

from esv_ray import signals
from esv_ray.machine import lacks_threads

_WRONG_REQUEST = 2


def main() -> NoReturn:
    """Run the command and end the process with its exit code."""
    lacking = _in_utf8() or lacks_threads()
    if lacking is not None:
        print(f"esv: {lacking}", file=sys.stderr)
        signals.leave(_WRONG_REQUEST)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # PYTHONIOENCODING=latin-1
    signals.install()
    code: object = 0
    try:
        from esv_ray.cli import main as command  # takes a third of a second

        signals.started()
        command()
    except SystemExit as end:
        code = end.code
    except BaseException:
        if not signals.was_interrupted():
            raise
        signals.report_interrupted()
        code = signals.INTERRUPTED
    signals.leave(code if isinstance(code, int) else 0)


def _in_utf8() -> str | None:
    """Restart the command in Python's UTF-8 mode if paths are not in UTF-8; report if that does not help.

    Specs and run.json store locations as text: in another locale the same path would be another text. Processes that
    the command starts, such as Ray, inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return None
    if os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # the running command
    return (
        f"expected a locale of UTF-8 for the names of files, got {sys.getfilesystemencoding()}; set LC_ALL=C.UTF-8 or "
        "PYTHONUTF8=1, and give Python no option that rules it out (-E, -I, -X utf8=0)"
    )


if __name__ == "__main__":
    main()
