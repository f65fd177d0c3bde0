"""Ray's job client: making it leaves this process's environment as it was."""

from __future__ import annotations

import os
import socket

import pytest

from esv_ray.submit.polling import UnreachableError
from esv_ray.submit.ray_jobs import client


def test_the_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reads its token's mode and its address from variables, which are changed only while the client is made."""
    monkeypatch.setattr(client, "_TIMEOUT_S", (1.0, 0.5))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    before = {name: os.environ.get(name) for name in names}
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UnreachableError):
        client.connect(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert {name: os.environ.get(name) for name in names} == before


def test_a_token_is_used_unless_the_mode_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert client._token_mode() == {}
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/token")
    assert client._token_mode() == {"RAY_AUTH_MODE": "token"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert client._token_mode() == {}
