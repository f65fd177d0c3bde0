"""Access control of the server: hosts, tokens, methods, and headers that restrict what a browser does with answers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from esv_ray.errors import SpecError

LEAST_TOKEN = 16
"""Fewest characters of a token."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every answer: nothing inline, and nothing from another origin."""
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NAMES = ("localhost", "127.0.0.1", "::1")
_TOKEN = "token"  # noqa: S105 (the name of a parameter)
_LOCKED = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Token needed</title>'
    "<h1>Token needed</h1><p>This dashboard was started with <code>--token</code>. Open its address with "
    "<code>?token=TOKEN</code> at the end, once; the browser then remembers it.</p></html>"
)


@dataclass(frozen=True)
class Access:
    """Access to the server.

    Attributes:
        host: name or address that the server listens on.
        port: port that the server listens on.
        token: token that each request must have; None: none is needed, and only this machine can connect.
    """

    host: str
    port: int
    token: str | None

    @property
    def cookie(self) -> str:
        """Name of the cookie: browsers send the cookies of a host to all of its ports."""
        return f"esv-{self.port}"


def access_of(host: str, port: int, token: str | None) -> Access:
    """Return the access that a host, a port and a token give.

    Raises:
        SpecError: other machines could connect without a token, or the token is too short or has characters other than
            visible ASCII.
    """
    if token is None and not is_loopback(host):
        raise SpecError(
            f"--host {host}: expected --token TOKEN too, since other machines can reach this address; or leave --host "
            "out and forward the port: ssh -L 8050:localhost:8050 MACHINE"
        )
    if token is not None and not (len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable()):
        raise SpecError(
            f"--token: expected {LEAST_TOKEN} or more visible ASCII characters, got {len(token)} characters; openssl "
            "rand -hex 16 makes one"
        )
    return Access(host, port, token)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Answers instead of an application where a request must not reach it, and adds headers to all answers.

    - Only GET and HEAD: nothing can be changed.
    - On a loopback address, only names of this machine are accepted as host: a page of another site whose name resolves
      to this machine (DNS rebinding) is refused. On other addresses the token protects; its cookie belongs to one host.
    - With a token, each request brings it in a header (``Authorization: Bearer TOKEN``) or its cookie. A link with
      ``?token=TOKEN`` sets the cookie and leads to the address without it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Guard an application."""
        self._app, self._access = app, access
        self._session = _session_of(access.token or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer(scope)
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """Return the answer to a request that must not reach the application; None for others."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET: nothing can be changed here", 405, {"Allow": "GET, HEAD"})
        if is_loopback(self._access.host) and _name_of(headers.get("host", "")) not in (*_NAMES, self._access.host):
            return PlainTextResponse("expected a name of this machine as host, such as localhost", 421)
        if self._access.token is None:
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == _TOKEN]
        if given and self._is_token(given[0]):
            return self._entered(scope, [(name, value) for name, value in asked if name != _TOKEN])
        bearer = headers.get("authorization", "").partition(" ")
        if (bearer[0].lower() == "bearer" and self._is_token(bearer[2].strip())) or self._has_cookie(headers):
            return None
        if scope["path"] == "/":
            return HTMLResponse(_LOCKED, 401)
        return PlainTextResponse("token needed", 401)

    def _entered(self, scope: Scope, asked: Sequence[tuple[str, str]]) -> Response:
        """Return the way to the same page without the token, with its cookie."""
        answer = RedirectResponse(f"/?{urlencode(asked)}" if asked else "/", 303)
        answer.set_cookie(
            self._access.cookie, self._session, httponly=True, samesite="lax", secure=scope["scheme"] == "https"
        )
        return answer

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._access.token or "").encode())

    def _has_cookie(self, headers: Headers) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self._access.cookie)
        return found is not None and hmac.compare_digest(found.value.encode(), self._session.encode())


def _session_of(token: str) -> str:
    """Return the value of the cookie, from which the token cannot be recovered."""
    return hmac.new(token.encode(), b"esv dashboard", hashlib.sha256).hexdigest()


def _name_of(host: str) -> str:
    """Return the name in a header Host, without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
