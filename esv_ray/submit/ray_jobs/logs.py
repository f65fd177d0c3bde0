"""Logs of jobs on a Ray cluster: what their drivers write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from esv_ray.submit.polling import poll
from esv_ray.submit.ray_jobs.client import client_errors
from esv_ray.submit.ray_jobs.jobs import POLL_S, find

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_QUIET_S = 60.0  # without a new line, after which the connection is made again


def logs(client: JobSubmissionClient, submission: str) -> str:
    """Return a job's log so far."""
    with client_errors(client._address):
        return str(client.get_job_logs(submission))


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> None:
    """Write a job's log until the job ends; a broken connection is made again and continues where it broke."""
    written = 0
    while True:
        try:
            written = asyncio.run(_tail(client, submission, written, write))
        except _BrokenError as broken:
            written = broken.written
        if poll(lambda: find(client, submission), submission).over:
            remainder = poll(lambda: logs(client, submission), submission)[written:]
            if remainder:
                write(remainder)
            return
        time.sleep(POLL_S)


class _BrokenError(Exception):
    """A connection that broke after some characters of the log were written."""

    def __init__(self, written: int) -> None:
        super().__init__(written)
        self.written = written


async def _tail(client: JobSubmissionClient, submission: str, skip: int, write: Callable[[str], None]) -> int:
    """Write the log from the given character on, until the stream ends; return the number of characters seen."""
    from aiohttp import ClientError

    received, stream = 0, client.tail_job_logs(submission)
    try:
        # A lost connection is silent, and so is a driver for a while: a quiet stream is opened again.
        while (text := await asyncio.wait_for(anext(stream, None), _QUIET_S)) is not None:
            new = text[max(0, skip - received) :]
            received += len(text)
            if new:
                write(new)
    except (RuntimeError, OSError, ClientError, TimeoutError) as error:
        raise _BrokenError(max(received, skip)) from error
    return max(received, skip)
