"""The errors a user can meet. Each message says what, where, expected, got, and how to go on.

Three voices: `EsvError` for the user's input, `ValueError` for misuse of a function, `assert` for the impossible. The
command line turns an `EsvError` into one line and exit code 2 (1 for an `IncompleteError`); nothing else catches
broadly.
"""

from __future__ import annotations


class EsvError(Exception):
    """Something the user can put right."""


class SpecError(EsvError):
    """A job or training spec, or an option, asks for something that is not to be had."""


class DataError(EsvError):
    """A feature table, an attribution table or the storage it lies on."""


class ModelError(EsvError):
    """A model bundle, a checkpoint, or a model that disagrees with the features."""


class JobError(EsvError):
    """A job that cannot start or cannot be finished as asked."""


class IncompleteError(JobError):
    """A job that began and could not be finished; what is committed stays, and running it again goes on."""
