"""Who may ask: names of this machine, tokens, and GET; and what browsers are told of every answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from esv_ray.dashboard.guard import LEAST_TOKEN, access_of
from esv_ray.dashboard.serve import address_of
from esv_ray.errors import SpecError
from tests.support.dashboards import Served, served

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def locked(output: Path) -> Iterator[Served]:
    with served(str(output), token=TOKEN) as running:
        yield running


@pytest.mark.parametrize(
    "path", ["/", "/static/main.js", "/api/videos", "/api/video?video=none", "/frame", "/media?video=none", "/none"]
)
def test_every_answer_has_the_headers(dashboard: Served, path: str) -> None:
    headers = dashboard.ask(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "media-src 'self';" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "", "["]
)
def test_other_names_are_refused(dashboard: Served, host: str) -> None:
    """A page elsewhere may have its name lead to this machine; its requests then have its name as host."""
    answer = dashboard.ask("/api/videos", headers={"Host": host})
    assert answer.status == 421
    assert b"video-" not in answer.body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8050", "[::1]"])
def test_names_of_this_machine_are_not(dashboard: Served, host: str) -> None:
    assert dashboard.ask("/api/videos", headers={"Host": host}).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(dashboard: Served, method: str) -> None:
    answer = dashboard.ask("/api/videos", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-wrong-wrong-wrong"},
        {"Authorization": f"Basic {base64.b64encode(TOKEN.encode()).decode()}"},
        {"Authorization": TOKEN},
        {"Cookie": f"esv={TOKEN}"},
        {"Cookie": "=;;;\x01"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/static/main.js",
        "/api/videos",
        "/frame?video=video-00000010&element=0",
        "/media?video=video-00000010",
        "/api/film?video=video-00000010",
        "/api/near?video=video-00000010&element=0",
        "/api/further?video=video-00000010&name=interactions",
        "/api/adjacent?video=video-00000010&length=6",
    ],
)
def test_without_the_token_nothing_is_told(locked: Served, path: str, headers: dict[str, str]) -> None:
    answer = locked.ask(path, headers=headers)
    assert answer.status == 401
    assert b"video-" not in answer.body
    assert "set-cookie" not in answer.headers


def test_the_token_in_a_header(locked: Served) -> None:
    assert locked.ask("/api/videos", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_the_token_leaves_the_address(locked: Served) -> None:
    """A first visit sets a cookie and leads to the address without the token, with all else that it asked for."""
    answer = locked.ask(f"/?video=a%2Fb&token={TOKEN}&element=3")
    assert answer.status == 303
    assert answer.headers["location"] == "/?video=a%2Fb&element=3"
    cookie = answer.headers["set-cookie"]
    assert f"esv-{locked.port}=" in cookie
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert locked.ask("/api/videos", headers={"Cookie": cookie.partition(";")[0]}).status == 200
    other = cookie.partition(";")[0][:-1]
    assert locked.ask("/api/videos", headers={"Cookie": other}).status == 401
    assert locked.ask("/?token=wrong-wrong-wrong").status == 401
    assert locked.ask(f"/?token=wrong&token={TOKEN}").status == 401
    assert locked.ask(f"//evil.example/?token={TOKEN}").headers["location"] == "/"


def test_tokens_are_compared_in_constant_time(locked: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request brings as a token or as a session is compared by `hmac.compare_digest`, and by nothing else."""
    compared: list[bytes] = []

    def spy(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return False

    monkeypatch.setattr("esv_ray.dashboard.guard.hmac.compare_digest", spy)
    cookie = hmac.new(TOKEN.encode(), b"esv dashboard", hashlib.sha256).hexdigest()
    for path, headers in (
        (f"/?token={TOKEN}", {}),
        ("/", {"Authorization": f"Bearer {TOKEN}"}),
        ("/", {"Cookie": f"esv-{locked.port}={cookie}"}),
    ):
        assert locked.ask(path, headers=headers).status == 401, "equal, but not by the comparison"
    assert compared == [TOKEN.encode(), TOKEN.encode(), cookie.encode()]


def test_the_token_is_never_logged(
    locked: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    locked.ask(f"/?token={TOKEN}")
    locked.ask("/api/videos", headers={"Authorization": f"Bearer {TOKEN}"})
    access = access_of("0.0.0.0", 8050, TOKEN)
    printed = capfd.readouterr()
    assert TOKEN not in caplog.text + printed.out + printed.err + address_of(access)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", "2130706433"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(SpecError, match=r"expected --token TOKEN too"):
        access_of(host, 8050, None)
    assert access_of(host, 8050, TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert access_of(host, 8050, None).token is None


@pytest.mark.parametrize("token", ["", "short", "x" * (LEAST_TOKEN - 1), "with a \x00 in its middle", "schlüssel" * 3])
def test_weak_tokens_are_refused(token: str) -> None:
    with pytest.raises(SpecError, match="--token: expected 16 or more") as refused:
        access_of("127.0.0.1", 8050, token)
    assert len(token) < 2 or token not in str(refused.value)
