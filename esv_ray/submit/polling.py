"""A job that is watched from afar, though its cluster be silent now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from esv_ray.errors import IncompleteError, SpecError

_PATIENCE_S = 300.0  # with a cluster that answered before; a head that restarts needs a minute or two
_PAUSE_S = 5.0

_log = logging.getLogger("esv_ray")

Answer = TypeVar("Answer")


class SilentError(SpecError):
    """A cluster that does not answer, or says that it cannot now. It may later."""


def patiently(ask: Callable[[], Answer], submission: str) -> Answer:
    """What a cluster answers about a job that is watched, though it be silent for some minutes.

    Raises:
        IncompleteError: it stays silent, or has forgotten the job, which may go on.
    """
    until, told = time.monotonic() + _PATIENCE_S, False
    while True:
        try:
            return ask()
        except SpecError as error:
            if not isinstance(error, SilentError) or time.monotonic() > until:
                raise IncompleteError(
                    f"how {submission} ended is not known ({error}); see esv status {submission}, or submit it again "
                    "to go on"
                ) from error
            if not told:
                _log.warning("%s; asking again for %g minutes", error, _PATIENCE_S / 60)
                told = True
        time.sleep(_PAUSE_S)
