"""A proxy between a client and an S3 server that injects faults by a fixed schedule, for what a good server never does.

Faults belong to requests, not to moments: the first time that a request (method, path, range) is seen it gets the first
fault of the schedule, the second time the second, and after that it goes through. So a test meets the same faults
whatever the machine is busy with.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any
from urllib.parse import urlsplit


class Fault(Enum):
    """What happens to a request."""

    SLOW_DOWN = "slow down"
    """503 with the body S3 gives."""
    INTERNAL = "internal error"
    """500 with the body S3 gives."""
    BARE = "bare 502"
    """What a load balancer says, in HTML."""
    CONFLICT = "conflict"
    """409, as of a conditional put while another's is under way; other requests go through."""
    RESET = "reset"
    """The connection breaks before the server sees the request."""
    LOST = "lost answer"
    """The server did what was asked; the connection breaks before its answer."""
    CUT = "cut body"
    """The announced length, and half the body; a request whose answer has no body goes through."""
    HANG = "hang"
    """No answer, for as long as the client waits."""


_REFUSALS = {
    Fault.SLOW_DOWN: (503, "Slow Down", "SlowDown", "Please reduce your request rate."),
    Fault.INTERNAL: (500, "Internal Server Error", "InternalError", "We encountered an internal error."),
    Fault.BARE: (502, "Bad Gateway", "", ""),
    Fault.CONFLICT: (409, "Conflict", "ConditionalRequestConflict", "A conflicting operation is in progress."),
}

Head = tuple[str, dict[str, str]]


class FaultProxy:
    """A running proxy.

    Attributes:
        endpoint: where it listens.
        schedule: faults of every request, first to last.
        only: which requests (method, path) get them.
        seen: how often each request (method, path with its query, range) came.
    """

    def __init__(self, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        address = urlsplit(upstream)
        self._upstream = (str(address.hostname), address.port)
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self.schedule: Sequence[Fault] = ()
        self.only: Callable[[str, str], bool] = lambda method, path: True
        self.seen: Counter[tuple[str, str, str]] = Counter()
        self.back()

    @property
    def endpoint(self) -> str:
        """The URL clients are given."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> int:
        """How many requests came."""
        return sum(self.seen.values())

    def inject(self, *schedule: Fault, only: Callable[[str, str], bool] = lambda method, path: True) -> None:
        """Begin a schedule; what was seen is forgotten."""
        self.schedule, self.only = schedule, only
        self.seen.clear()

    def away(self) -> None:
        """Refuse connections, and break those there are, as a server that is restarted does."""
        self._do(self._stop())

    def back(self) -> None:
        """Accept connections again, at the same port."""
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=2**20)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request: what is open never answers for another request's fault."""
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, headers = _parsed(head)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, headers)
        method, path, _ = line.split(" ")
        fault = self._fault(method, path, headers)
        if fault is Fault.RESET:
            writer.transport.abort()
        elif fault is Fault.HANG:
            await reader.read()  # until the client gives up
        elif fault in _REFUSALS:
            writer.write(_refusal(fault, method))
            await writer.drain()
        else:
            answer = await self._forward(head, body)
            if fault is Fault.LOST:
                writer.transport.abort()
                return
            start = answer.index(b"\r\n\r\n") + 4
            end = start + (len(answer) - start) // 2 if fault is Fault.CUT else len(answer)
            writer.write(answer[:end])
            await writer.drain()

    def _fault(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        # Every try of an upload in parts has an id of its own.
        key = (method, re.sub(r"uploadId=[^&]*", "uploadId", path), headers.get("range", ""))
        self.seen[key] += 1
        if not self.only(method, path) or self.seen[key] > len(self.schedule):
            return None
        fault = self.schedule[self.seen[key] - 1]
        return None if fault is Fault.CONFLICT and "if-none-match" not in headers else fault

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        """The server's whole answer; Host and all that is signed stay as they came."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        try:
            return await reader.read()
        finally:
            writer.close()


def _parsed(head: bytes) -> Head:
    line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (one.partition(":") for one in rest)
    return line, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return b""
    parts = []
    while True:  # as it came: it is forwarded with the header that says so
        size = await reader.readuntil(b"\r\n")
        data = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
        parts += [size, data]
        if int(size.split(b";")[0], 16) == 0:
            return b"".join(parts)


def _refusal(fault: Fault, method: str) -> bytes:
    status, reason, code, message = _REFUSALS[fault]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    if not code:
        body = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return head + (b"" if method == "HEAD" else body)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy before a server, in a thread of its own.

    Args:
        upstream: the server's endpoint.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy")
    thread.start()
    try:
        proxy = FaultProxy(upstream, loop)
        try:
            yield proxy
        finally:
            proxy.away()
            asyncio.run_coroutine_threadsafe(_all_done(), loop).result(timeout=30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _all_done() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
