"""Errors for users. Each message says what is wrong, where, expected, got, and what to do.

Three voices: `EsvError` for the user's input, `ValueError` for misuse of a function, `assert` for the impossible. The
command line turns an `EsvError` into one line and exit code 2 (1 for an `IncompleteError`); nothing else catches
broadly.
"""

from __future__ import annotations

from collections.abc import Callable


class EsvError(Exception):
    """An error that the user can fix."""


class SpecError(EsvError):
    """An invalid job spec, training spec or option."""


class DataError(EsvError):
    """An error in a feature table or an attribution table, or in the storage that holds it."""


class StorageError(DataError):
    """A store that refuses a request or does not respond.

    Attributes:
        transient: whether a later try may succeed; else something must be fixed first, such as permissions.
        full: whether there is no space left.
    """

    def __init__(self, message: str, *, transient: bool = True, full: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.full = full

    def __reduce__(self) -> tuple[Callable[..., StorageError], tuple[str, bool, bool]]:
        return _storage_error, (str(self), self.transient, self.full)


def _storage_error(message: str, transient: bool, full: bool) -> StorageError:
    return StorageError(message, transient=transient, full=full)


class ModelError(EsvError):
    """An invalid model bundle or checkpoint, or a model that does not fit the features."""


class JobError(EsvError):
    """A job that cannot start or cannot be completed."""


class IncompleteError(JobError):
    """A job that started and could not be completed; committed units are kept, and running it again resumes it."""


def one_line(error: BaseException) -> str:
    """Return an error as one line of a log or a record; with its type's name unless it is an `EsvError`."""
    text, name = " ".join(str(error).split()), type(error).__name__
    if not isinstance(error, EsvError):
        text = f"{name}: {text}" if text else name
    return _cut(text or name, 400)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, for a message: ``1 video``, ``2 videos``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short_text(error: BaseException, most: int = 300) -> str:
    """Return the text of an error in one line of at most `most` characters; its type's name if it has no text."""
    return _cut(" ".join(str(error).split()) or type(error).__name__, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
