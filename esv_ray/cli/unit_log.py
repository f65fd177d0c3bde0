"""The log of units that `esv attribute --log` writes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esv_ray.errors import SpecError

_log = logging.getLogger("esv_ray")


@contextmanager
def unit_log(file: str | None) -> Iterator[None]:
    """Append one line of JSON per unit to a file.

    Args:
        file: its path; "-": standard error; None: no log.

    Raises:
        SpecError: the file cannot be written.
    """
    if file is None:
        yield
        return
    logger = logging.getLogger("esv_ray.units")
    try:
        handler = logging.StreamHandler(sys.stderr) if file == "-" else _LogFile(file, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--log {file}: cannot be written: {error.strerror}") from None
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.level, logger.propagate = before


class _LogFile(logging.FileHandler):
    """A log file that warns once if it cannot be written: a full disk does not end a job."""

    _warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Warn about the exception that is being handled, once."""
        if not self._warned:
            self._warned = True
            error = sys.exception()
            reason = getattr(error, "strerror", None) or error
            _log.warning("--log %s: cannot be written: %s; lines are missing from here on", self._file_name(), reason)

    def close(self) -> None:
        """Close the file; writing what is left may fail."""
        try:
            super().close()
        except OSError as error:
            if not self._warned:
                _log.warning("--log %s: its last lines cannot be written: %s", self._file_name(), error.strerror)

    def _file_name(self) -> str:
        return Path(self.baseFilename).name
