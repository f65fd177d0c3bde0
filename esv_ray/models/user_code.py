"""Run code of a user's package: any exception or exit becomes a one-line error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from traceback import walk_tb

from esv_ray.errors import ModelError, short_text

_NOT_THEIRS = {"esv_ray", "torch", "numpy", "importlib", "contextlib"}


@contextmanager
def user_code(context: str) -> Iterator[None]:
    """Turn exceptions raised inside into a `ModelError`; interrupts are not caught.

    Args:
        context: what fails, as the beginning of the error's line.

    Raises:
        ModelError: `context`, and the type and text of the error in one line.
    """
    try:
        yield
    except (ModelError, KeyboardInterrupt):  # a module that raises KeyboardInterrupt ends the command like Ctrl-C
        raise
    except BaseException as error:  # also sys.exit, which would end the command with a code of the module's choice
        text = short_text(error, 200)
        raise ModelError(f"{context}: {type(error).__name__}{f': {text}' if text else ''}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return where in the user's code an error was raised: file, line, function; nothing if it was not there."""
    for frame, line in reversed([*walk_tb(error.__traceback__)]):
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in _NOT_THEIRS and not frame.f_code.co_filename.startswith("<"):
            where = f"{PurePath(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name}"
            return f" ({where:.120})"
    return ""
