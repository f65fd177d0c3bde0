"""A server that speaks enough S3 to be believed, and lies: it drips, never ends, or says what is not so."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PIECE = bytes(2**16)
_PAGE = 50


class Lie(Enum):
    """What the server does in place of what it was asked."""

    NONE = "the truth"
    DRIP = "one byte, and again"
    NEVER_CLOSES = "a right head and the right bytes, all but the last, and then nothing"
    ENDLESS = "a body in chunks that does not end"
    RANGE_IGNORED = "the whole object, whatever part was asked for, and then more"
    TOO_LONG = "a Content-Length of twice the bytes"
    TOO_SHORT = "a Content-Length of half the bytes"
    HUGE = "a Content-Length of 2 ** 50"
    SAME_PAGE = "a listing that goes on with the same token"
    NEW_PAGES = "a listing that goes on with new tokens"
    NO_TOKEN = "a listing that goes on, without a token"
    ETAG = "another ETag at every look"
    IGNORES_CONDITIONS = "writes whatever the condition"


class LyingServer:
    """A running server.

    Attributes:
        endpoint: where it listens.
        lie: what it does to each request for an object's content, or a listing.
        stored: objects by path.
        seen: how often each method came.
        refusal: status, body and headers with which every request is answered; None: it is not.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.lie = Lie.NONE
        self.stored: dict[str, bytes] = {}
        self.seen: Counter[str] = Counter()
        self.refusal: tuple[int, bytes, dict[str, str]] | None = None
        self.over = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lying: LyingServer

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.lying.refusal is None:
            return True
        status, body, headers = self.lying.refusal
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":  # an answer to which has no body, and so no reason
            self.wfile.write(body)
        self.wfile.flush()
        return False

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.lying.seen["PUT"] += 1
        conditional = "If-None-Match" in self.headers and self.lying.lie is not Lie.IGNORES_CONDITIONS
        if conditional and self._key() in self.lying.stored:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code><Message>there</Message></Error>")
            return
        self.lying.stored[self._key()] = data
        self._answer(200, b"")

    def do_DELETE(self) -> None:
        self.lying.stored.pop(self._key(), None)
        self._answer(204, b"")

    def do_HEAD(self) -> None:
        self.lying.seen["HEAD"] += 1
        data = self.lying.stored.get(self._key())
        if data is None:
            self._answer(404, b"")
        else:
            self._answer(200, data)

    def do_GET(self) -> None:
        self.lying.seen["GET"] += 1
        with suppress(ConnectionError):
            if "list-type" in urlsplit(self.path).query:
                self._list()
                return
            data = self.lying.stored.get(self._key())
            if data is None:
                self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
                return
            status = 200
            if "Range" in self.headers and self.lying.lie is not Lie.RANGE_IGNORED:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                data, status = data[int(first) : int(last) + 1], 206
            self._answer(status, data)

    def _key(self) -> str:
        return urlsplit(self.path).path

    def _list(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        prefix = query.get("prefix", [""])[0]
        bucket = self._key().rstrip("/")
        keys = sorted(name.removeprefix(f"{bucket}/") for name in self.lying.stored)
        keys = [key for key in keys if key.startswith(prefix)]
        rest = ""
        if self.lying.lie in (Lie.SAME_PAGE, Lie.NEW_PAGES, Lie.NO_TOKEN):
            page = int(query.get("continuation-token", ["0"])[0] or 0) + 1
            token = 1 if self.lying.lie is Lie.SAME_PAGE else page
            keys = [f"{prefix}{page:09d}-{number}" for number in range(_PAGE)]
            rest = f"<NextContinuationToken>{token}</NextContinuationToken>" * (self.lying.lie is not Lie.NO_TOKEN)
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for key in keys
        )
        truncated = "false" if self.lying.lie in (Lie.NONE, Lie.DRIP, Lie.ENDLESS, Lie.NEVER_CLOSES) else "true"
        head = f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>{truncated}</IsTruncated>"
        self._answer(200, f"<ListBucketResult>{head}{rest}{entries}</ListBucketResult>".encode())

    def _answer(self, status: int, body: bytes) -> None:
        lie = self.lying.lie if status < 300 and self.command in ("GET", "HEAD") else Lie.NONE
        sent = body if self.command != "HEAD" else b""
        factor = {Lie.TOO_LONG: 2.0, Lie.TOO_SHORT: 0.5, Lie.HUGE: 2.0**50 / max(1, len(body))}.get(lie, 1.0)
        etag = hashlib.md5(body).hexdigest()
        if lie is Lie.ETAG:
            etag = f"{sum(self.lying.seen.values())}"
        self.send_response(status)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Last-Modified", formatdate(1_700_000_000, usegmt=True))
        endless = lie in (Lie.ENDLESS, Lie.RANGE_IGNORED) and self.command == "GET"
        if endless:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(int(len(body) * factor)))
        self.end_headers()
        if lie is Lie.DRIP and self.command == "GET":
            self._drip(sent)
        elif lie is Lie.NEVER_CLOSES:
            self.wfile.write(sent[:-1])
            self._until_left()
        elif endless:
            self._chunks(sent)
        else:
            self.wfile.write(sent[: int(len(body) * factor)])
            if lie in (Lie.TOO_LONG, Lie.HUGE):
                self.close_connection = True

    def _drip(self, body: bytes) -> None:
        for place in range(len(body)):
            self.wfile.write(body[place : place + 1])
            if self.lying.over.wait(0.05):
                return

    def _chunks(self, first: bytes) -> None:
        for data in (first, *[_PIECE] * 2**20):
            if self.lying.over.is_set():
                return
            if data:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _until_left(self) -> None:
        """Until the client closes the connection, or the server is ended."""
        self.connection.settimeout(0.05)
        while not self.lying.over.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is what these tests are about."""


@contextmanager
def lying_server() -> Iterator[LyingServer]:
    """Run such a server in a thread."""
    lying = LyingServer()
    handler = type("Handler", (_Handler,), {"lying": lying})
    with _Server(("127.0.0.1", 0), handler) as server:
        lying.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield lying
        finally:
            lying.over.set()
            server.shutdown()
            thread.join()
