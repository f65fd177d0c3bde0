"""What a location is, and the client that serves it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from esv_ray.errors import SpecError
from esv_ray.storage.faults import patience, short
from esv_ray.storage.s3_session import s3_sessions

# user:password@ after ://, whatever signs the password holds. A host of the web may have a port instead, and an
# access point of S3 is an ARN.
_CREDENTIALS = re.compile(
    r"(?:(?<=http)|(?<=https)|(?<=ftp))://[^/@:]*:(?!\d+(?:/|$))[^@]*@"
    r"|(?<!http)(?<!https)(?<!ftp)://(?!arn:)[^/@:]*:[^@]*@"
)
_S3 = re.compile(r"(?:^|::)(s3a?)(?=:)")


def open_location(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a location, and its path there. Listings are never served from a cache.

    Clients of S3 are told not to retry: 5 tries of s3fs, each of up to 5 of botocore's, each of 2 of aiohttp's, would
    multiply with those of `faults.attempt`. What the user set in the configuration of fsspec (``~/.config/fsspec``,
    ``FSSPEC_S3``) stays.

    Raises:
        SpecError: no such protocol, or its client is not installed.
    """
    try:
        if _CREDENTIALS.search(url):
            raise SpecError(
                f"a location holds no credentials, got {without_credentials(url)}: give them through the "
                "environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        options = {protocol: {"config_kwargs": _s3_settings()} for protocol in _S3.findall(url)}
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except ImportError as error:
        raise SpecError(f"{url}: {error}") from error
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise SpecError(
            f"{url}: expected a path or an fsspec URL such as s3://bucket/prefix, got: {short(error)}"
        ) from error
    for client in (fs, getattr(fs, "fs", fs)):  # one behind a cache, too
        if _protocols(client) & {"s3", "s3a"}:
            client.retries = 1
    return fs, path


def _s3_settings() -> dict[str, Any]:
    """Settings of botocore's client: one try, bounded waits; the user's own win."""
    given: dict[str, Any] = {}
    for protocol in ("s3", "s3a"):
        found = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        given |= found if isinstance(found, Mapping) else {}
    waits = patience()
    ours = {"connect_timeout": waits.connect, "read_timeout": waits.read, "retries": {"total_max_attempts": 1}}
    ours |= s3_sessions()
    # A copy: botocore writes into what it is given.
    return ours | given | {"retries": dict(given.get("retries", ours["retries"]))}


def without_credentials(url: str) -> str:
    """The URL as it may be printed."""
    return _CREDENTIALS.sub("://***@", url)


def _protocols(fs: object) -> set[str]:
    protocol = getattr(fs, "protocol", ())
    return {protocol} if isinstance(protocol, str) else set(protocol)


def protocol_of(url: str) -> str:
    """The kind of store of a location, by its spelling alone; ``file`` for a path; of a chained URL all kinds."""
    kinds = []
    for link in url.split("::"):
        protocol, _ = fsspec.core.split_protocol(link)
        kinds.append({None: "file", "local": "file", "s3a": "s3", "gcs": "gs"}.get(protocol, str(protocol)))
    return "::".join(kinds)


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether the file system is a disk of this machine (or one mounted on it)."""
    return "file" in _protocols(fs)


def lists_flat(fs: AbstractFileSystem) -> bool:
    """Whether the client lists everything below a folder page by page, and raises where a page fails."""
    return bool(_protocols(fs) & {"s3", "gs"})


def in_this_process(url: str) -> bool:
    """Whether the location lives in the memory of one process, where no actor can see it."""
    return url.startswith("memory:")


def absolute(url: str) -> str:
    """The location spelled so that it means the same from any working folder: a local path made absolute."""
    fs, path = open_location(url)
    return str(Path(os.path.normpath(path))) if is_local(fs) else url.rstrip("/")


def join(url: str, *names: str) -> str:
    """A location below another."""
    return "/".join([url.rstrip("/"), *names])
