"""Run code of a user's package: any exception or exit becomes a one-line error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from esv_ray.errors import ModelError, short_text


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
        raise ModelError(f"{context}: {type(error).__name__}{f': {text}' if text else ''}") from error
