"""Turn any error that a third-party reader raises on a damaged file into one fault of that file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from esv_ray.errors import EsvError, short_text
from esv_ray.input.faults import RecordError


@contextmanager
def parsing(expected: str, *, reason: str = "damaged") -> Iterator[None]:
    """Turn what a reader of another project raises into a `RecordError`.

    For calls of such readers only, not for this project's own work around them: an error of that would look like one
    of the file.

    Args:
        expected: what the file should be, for the message; may be empty.
        reason: of the fault.

    Raises:
        RecordError: the reader raised something else than an `EsvError`, a `RecordError` or an error of the system.
    """
    try:
        yield
    except Exception as error:
        if not is_damage(error):
            raise
        text = short_text(error, 120)
        raise RecordError(reason, f"expected {expected}: {text}" if expected else text) from None


def is_damage(error: Exception) -> bool:
    """Return whether an error of a reader of another project tells of the content of the file that it read.

    Readers have no list of what they raise: among the errors of zipfile, tarfile, h5py and torch on damaged files are
    RuntimeError, struct.error, RecursionError, MemoryError (a size that the file claims) and AttributeError. An
    `OSError` with a number is the system's: no space, no permission, too many open files, a broken disk.
    """
    if isinstance(error, EsvError | RecordError | ImportError):
        return False
    return not (isinstance(error, OSError) and error.errno is not None)
