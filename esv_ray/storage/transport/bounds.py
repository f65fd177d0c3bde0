"""Limits of one request to a store: seconds, bytes and pages. An answer that is slow or endless is cut off.

Timeouts of clients limit only the pause between two bytes, so that an answer of one byte per second never ends. Here a
request has `RetryPolicy.request` seconds, plus one for every `RetryPolicy.rate` bytes that it moved: a slow but honest
download is not cut off. What arrives through aiohttp (the clients of S3, Google and the web) and from disks is counted
as it arrives; of other clients (Azure's) nothing can be counted, and the bytes that were requested count as moved.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from esv_ray.storage.transport.answers import InvalidResponseError
from esv_ray.storage.transport.faults import retry_policy

SLACK = 2**20
"""Bytes that any answer may have in addition to the requested ones: errors, redirects, metadata."""

_ENTRY_BYTES = 4096  # most bytes of an entry of a listing: in S3 300 bytes and its key, in Google four keys and 1 kB
_UNSEEN_BYTES = 20  # of an entry, if arriving bytes cannot be counted: a listing may then take 1000 s per million
# An entry in a page of S3 and of Google, counted while the page arrives: the client's objects are far larger.
_ENTRY_MARKS = (b"<Contents>", b"<CommonPrefixes>", b'"storage#object"')
_PAGE_TOKENS = ("continuation-token", "key-marker", "version-id-marker", "pageToken")
_MOST_REPEATS = 10  # Google's client requests a page up to six times if its answer was lost


class RequestLimits:
    """The limits of one request, and their use so far.

    Attributes:
        refused: why the answer was cut off; clients wrap the error that is raised into their own.
    """

    def __init__(self, *, gives: int = 0, takes: int = 0, entries: int | None = None) -> None:
        """Start the clock of a request.

        Args:
            gives: bytes that are requested.
            takes: bytes that are sent.
            entries: most entries of the listing that is requested; None: the request is not a listing.
        """
        listing = entries or 0
        policy = retry_policy()
        self._begun = time.monotonic()
        self._request, self._rate = policy.request, policy.rate
        self._most = gives + SLACK + listing * _ENTRY_BYTES
        self._requested, self._sent = gives + listing * _UNSEEN_BYTES, takes
        self._counted = False
        self._received = 0
        self._entries, self._listed = entries, 0
        self._pages: Counter[tuple[str | None, ...]] = Counter()
        self.refused: InvalidResponseError | None = None

    def remaining_s(self) -> float:
        """Return the remaining seconds, which grow as bytes arrive."""
        moved = self._sent + (self._received if self._counted else self._requested)
        return self._begun + self._request + moved / self._rate - time.monotonic()

    def timeout_error(self) -> TimeoutError:
        """Return the error to raise if no time is left."""
        spent = time.monotonic() - self._begun
        came = f", {self._received} bytes received" if self._counted else ""
        return TimeoutError(f"no complete answer in {spent:.0f} s{came}")

    def count(self) -> None:
        """Count arriving bytes by `arrived` from now on."""
        self._counted = True

    def answered(self, status: int, query: Mapping[str, str]) -> None:
        """Note that an answer begins.

        Raises:
            InvalidResponseError: the same page of a listing arrives again and again.
        """
        self.count()
        page = tuple(query.get(name) for name in _PAGE_TOKENS)
        if status == 200 and any(page):
            self._pages[page] += 1
            if self._pages[page] > _MOST_REPEATS:
                self._refuse("the store lists the same page again and again")

    def arrived(self, data: bytes) -> None:
        """Count bytes of an answer.

        Raises:
            InvalidResponseError: they are more than were requested.
            TimeoutError: no time is left.
        """
        self._received += len(data)
        if self._entries is not None:
            self._listed += sum(data.count(mark) for mark in _ENTRY_MARKS)
            if self._listed > self._entries or self._received > self._most:
                self._refuse(f"expected a listing of at most {self._entries} entries, the store sends more")
        if self._received > self._most:
            requested = self._most - SLACK
            self._refuse(
                f"expected {f'at most {requested} bytes' if requested else 'a short answer'}, the store sends more"
            )
        if self.remaining_s() <= 0:
            raise self.timeout_error()

    def _refuse(self, why: str) -> None:
        self.refused = InvalidResponseError(why)
        raise self.refused


current: ContextVar[RequestLimits | None] = ContextVar("esv_storage_bound", default=None)
"""The limits of the request that this thread, or this task of a client's event loop, executes."""


class _Counted:
    """The body of an answer, counted as it is read."""

    def __init__(self, body: Any, limits: RequestLimits) -> None:
        self._body, self._limits = body, limits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def readany(self) -> bytes:
        """Return the bytes that have arrived, b"" at the end."""
        data: bytes = await self._body.readany()
        self._limits.arrived(data)
        return data

    async def read(self, size: int = -1) -> bytes:
        """Return at most `n` bytes; all if negative."""
        if size >= 0:
            data: bytes = await self._body.read(size)
            self._limits.arrived(data)
            return data
        pieces = []
        while piece := await self.readany():
            pieces.append(piece)
        return b"".join(pieces)


@lru_cache
def counted_response() -> type:
    """Return the subclass of aiohttp's responses that counts bodies; imports aiohttp."""
    from aiohttp import ClientResponse

    class Response(ClientResponse):
        async def start(self, connection: Any) -> ClientResponse:
            await super().start(connection)
            limits = current.get()
            if limits is not None:
                limits.answered(self.status, self.url.query)
                self.content = _Counted(self.content, limits)  # type: ignore[assignment]
            return self

    return Response


def web_session() -> dict[str, Any]:
    """Return arguments of an ``aiohttp.ClientSession`` that counts answers and has no total timeout of 300 s."""
    from aiohttp import ClientTimeout

    policy = retry_policy()
    timeout = ClientTimeout(total=None, sock_connect=policy.connect, sock_read=policy.read)
    return {"response_class": counted_response(), "timeout": timeout}
