"""What one request to a store may take: seconds, bytes and pages. A store that drips, or never ends, is cut off.

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

from esv_ray.storage.transport.answers import BeyondError
from esv_ray.storage.transport.faults import retry_policy

SLACK = 2**20
"""Bytes that any answer may have beside what was asked for: errors, redirects, what is told of an object."""

_ENTRY_BYTES = 4096  # of a listing, at most: an S3 entry is 300 bytes and its key, one of Google four keys and 1 kB
_UNSEEN_BYTES = 20  # of an entry, where nothing is seen: a listing may then take 1000 s for each million
# An entry in a page of S3 and of Google. Counted while a page arrives: what a client makes of it is far larger.
_ENTRY_MARKS = (b"<Contents>", b"<CommonPrefixes>", b'"storage#object"')
_PAGE_TOKENS = ("continuation-token", "key-marker", "version-id-marker", "pageToken")
_MOST_REPEATS = 10  # Google's client asks for a page again, up to six times, where its answer was lost


class Bound:
    """The bound of one request, and how much of it was taken.

    Attributes:
        refused: why the answer was cut off; clients wrap what is raised into errors of their own.
    """

    def __init__(self, *, gives: int = 0, takes: int = 0, entries: int | None = None) -> None:
        """Begin.

        Args:
            gives: bytes that are asked for.
            takes: bytes that are sent.
            entries: most entries of the listing that is asked for; None: it is none.
        """
        listing = entries or 0
        policy = retry_policy()
        self._begun = time.monotonic()
        self._request, self._rate = policy.request, policy.rate
        self._most = gives + SLACK + listing * _ENTRY_BYTES
        self._asked, self._sent = gives + listing * _UNSEEN_BYTES, takes
        self._counted = False
        self._received = 0
        self._entries, self._listed = entries, 0
        self._pages: Counter[tuple[str | None, ...]] = Counter()
        self.refused: BeyondError | None = None

    def left(self) -> float:
        """Seconds that are left; they grow while bytes arrive."""
        moved = self._sent + (self._received if self._counted else self._asked)
        return self._begun + self._request + moved / self._rate - time.monotonic()

    def late(self) -> TimeoutError:
        """The error where no time is left."""
        spent = time.monotonic() - self._begun
        came = f", {self._received} bytes came" if self._counted else ""
        return TimeoutError(f"no whole answer in {spent:.0f} s{came}")

    def count(self) -> None:
        """What arrives is told by `arrived` from here on."""
        self._counted = True

    def answered(self, status: int, query: Mapping[str, str]) -> None:
        """Take note of an answer that begins.

        Raises:
            BeyondError: it is the same page of a listing, over and over.
        """
        self.count()
        page = tuple(query.get(name) for name in _PAGE_TOKENS)
        if status == 200 and any(page):
            self._pages[page] += 1
            if self._pages[page] > _MOST_REPEATS:
                self._refuse("the store lists the same page again and again")

    def arrived(self, data: bytes) -> None:
        """Take note of bytes of an answer.

        Raises:
            BeyondError: they are more than what was asked for.
            TimeoutError: no time is left.
        """
        self._received += len(data)
        if self._entries is not None:
            self._listed += sum(data.count(mark) for mark in _ENTRY_MARKS)
            if self._listed > self._entries or self._received > self._most:
                self._refuse(f"expected a listing of at most {self._entries} entries, the store sends more")
        if self._received > self._most:
            asked = self._most - SLACK
            self._refuse(f"expected {f'at most {asked} bytes' if asked else 'a short answer'}, the store sends more")
        if self.left() <= 0:
            raise self.late()

    def _refuse(self, why: str) -> None:
        self.refused = BeyondError(why)
        raise self.refused


current: ContextVar[Bound | None] = ContextVar("esv_storage_bound", default=None)
"""The bound of the request that this thread, or this task of a client's loop, is about."""


class _Counted:
    """The body of an answer, counted as it is read."""

    def __init__(self, body: Any, bound: Bound) -> None:
        self._body, self._bound = body, bound

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def readany(self) -> bytes:
        """What is there, b"" at the end."""
        data: bytes = await self._body.readany()
        self._bound.arrived(data)
        return data

    async def read(self, size: int = -1) -> bytes:
        """At most so many bytes; all if negative."""
        if size >= 0:
            data: bytes = await self._body.read(size)
            self._bound.arrived(data)
            return data
        pieces = []
        while piece := await self.readany():
            pieces.append(piece)
        return b"".join(pieces)


@lru_cache
def counted_response() -> type:
    """The class of aiohttp's answers that counts their bodies; for clients that use aiohttp, which imports it."""
    from aiohttp import ClientResponse

    class Response(ClientResponse):
        async def start(self, connection: Any) -> ClientResponse:
            await super().start(connection)
            bound = current.get()
            if bound is not None:
                bound.answered(self.status, self.url.query)
                self.content = _Counted(self.content, bound)  # type: ignore[assignment]
            return self

    return Response


def web_session() -> dict[str, Any]:
    """Arguments of an ``aiohttp.ClientSession`` whose answers are counted, and which has no bound of 300 s in all."""
    from aiohttp import ClientTimeout

    policy = retry_policy()
    timeout = ClientTimeout(total=None, sock_connect=policy.connect, sock_read=policy.read)
    return {"response_class": counted_response(), "timeout": timeout}
