"""Poll a remote job, tolerating lost contact with its cluster."""

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


class UnreachableError(SpecError):
    """A cluster that does not answer, or answers that it is not available; it may be available later."""


def poll(ask: Callable[[], Answer], submission: str) -> Answer:
    """Return a cluster's answer about a running job; retry for some minutes while the cluster is unreachable.

    Args:
        ask: asks the cluster.
        submission: the job's id, for messages.

    Raises:
        IncompleteError: the cluster stays unreachable, or no longer knows the job; the job may still be running.
    """
    until, warned = time.monotonic() + _PATIENCE_S, False
    while True:
        try:
            return ask()
        except SpecError as error:
            if not isinstance(error, UnreachableError) or time.monotonic() > until:
                raise IncompleteError(
                    f"{submission}: cannot determine how the job ended ({error}); run esv status {submission}, or "
                    "submit it again to resume it"
                ) from error
            if not warned:
                _log.warning("%s; retrying for %g minutes", error, _PATIENCE_S / 60)
                warned = True
        time.sleep(_PAUSE_S)
