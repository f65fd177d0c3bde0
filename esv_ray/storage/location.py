"""Locations, and the client of the store of each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.spec import AbstractFileSystem

from esv_ray.errors import EsvError, SpecError, short_text
from esv_ray.storage.spelling import check_text, decoded, encoded, has_credentials, without_credentials
from esv_ray.storage.transport.answers import is_transient, is_unsigned
from esv_ray.storage.transport.bounds import web_session
from esv_ray.storage.transport.clients import (
    client_of,
    has_buckets,
    no_account,
    no_java,
    not_installed,
    not_known,
    quieten,
)
from esv_ray.storage.transport.faults import retry_policy
from esv_ray.storage.transport.messages import data_error
from esv_ray.storage.transport.s3_session import s3_sessions

_PROTOCOL = re.compile(r"(?:^|::)([a-z][a-z0-9+.-]*)(?=:)")
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")
_DISKS = {"file", "local"}
_WEB = {"http", "https"}  # a web address may contain another one


def open_location(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a location, and its path there. Listings are never cached.

    Clients of S3 do not retry: 5 tries of s3fs, times up to 5 of botocore, times 2 of aiohttp, would multiply with
    those of `faults.attempt`. The user's configuration of fsspec takes precedence (``~/.config/fsspec``,
    ``FSSPEC_S3``).

    Raises:
        SpecError: the protocol is unknown, its client is not installed or has no account, the location could run code
            (``reference::``), has a part that is empty, ``.``, ``..`` or a variable, or is a ``file:`` URL without a
            path on this machine.
        DataError: the client finds no credentials.
    """
    try:
        if has_credentials(url):
            raise SpecError(
                f"a location holds no credentials, got {without_credentials(url)}: give them through the "
                "environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        _check_runs_nothing(url)
        url = decoded(url)
        _check_parts(url)
        quieten()
        options = {protocol: _options(protocol) for protocol in _PROTOCOL.findall(url)}
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except EsvError:
        raise
    except ImportError as error:
        raise (not_known(url) or not_installed(url, error)) from error
    except Exception as error:
        lacking = not_known(url) or no_account(url, error) or no_java(url, error)
        if lacking is not None:
            raise lacking from error
        if is_unsigned(error) or is_transient(error):
            raise data_error(url, "open", error, 1, 0.0) from error
        if not isinstance(error, ValueError | TypeError | OSError | EOFError):
            raise
        raise SpecError(
            f"{url}: expected a path or an fsspec URL such as s3://bucket/prefix, got: {short_text(error)}"
        ) from error
    for client in (fs, getattr(fs, "fs", fs)):  # also the client below a cache
        if _protocols(client) & {"s3", "s3a"}:
            client.retries = 1
    return fs, path


def _check_runs_nothing(url: str) -> None:
    """Refuse ``reference::``: older supported versions of fsspec run code in its templates."""
    links = url.split("::")
    named = {link.partition("://")[0] for link in links if "://" in link or len(links) > 1}
    if "reference" in named:
        raise SpecError(
            f"{without_credentials(url)}: reference:: locations are not opened, since their templates can run code; "
            "give the location of the files themselves"
        )


def _check_parts(url: str) -> None:
    """Refuse a location with a part that is nearly always a mistake, before anything is written to it.

    An object store keeps `a//b`, `a/../b` and `a/$RUN/b` as different names, which listings of `a/b` do not contain; a
    disk reads the first two as `a/b` and `b`.
    """
    check_text(url)
    for link in url.split("::"):
        protocol, colon, remainder = link.partition("://")
        if protocol in _WEB:
            continue
        parts = (remainder if colon else link).split("/")
        named = next((part for part in parts if _VARIABLE.fullmatch(part)), None)
        if named is not None:
            raise SpecError(
                f"{url}: expected a location without variables, got {named}, which is not expanded; write its value"
            )
        if not colon or protocol in _DISKS:
            continue
        first = parts[:1] if parts[0] or has_buckets(protocol) else []  # hdfs:///a and memory:///a have no host
        inner = parts[1:] if parts[-1] else parts[1:-1]  # it may end with one slash
        invalid = next((part for part in (*first, *inner) if part in ("", ".", "..")), None)
        if invalid is not None:
            problem = f"the part {invalid!r}" if invalid else "an empty part (a variable in it may be empty)"
            raise SpecError(
                f"{url}: expected a name between any two slashes of a {protocol}:// location, got {problem}"
            )


def _options(protocol: str) -> dict[str, Any]:
    """Return the options of a protocol's client: timeouts, counted answers; the user's settings take precedence."""
    if protocol in ("s3", "s3a"):
        return {"config_kwargs": _s3_settings()}
    name = {"http": "client_kwargs", "https": "client_kwargs", "gs": "session_kwargs", "gcs": "session_kwargs"}
    if protocol not in name:
        return {}
    return {name[protocol]: web_session() | _configured((protocol,), name[protocol])}


def _configured(protocols: tuple[str, ...], name: str) -> dict[str, Any]:
    """Return the value that the user's configuration of fsspec gives an option of a client."""
    values: dict[str, Any] = {}
    for protocol in protocols:
        value = fsspec.config.conf.get(protocol, {}).get(name, {})
        values |= value if isinstance(value, Mapping) else {}
    return values


def _s3_settings() -> dict[str, Any]:
    """Return the settings of botocore's client: one try, timeouts; the user's settings take precedence."""
    user_settings = _configured(("s3", "s3a"), "config_kwargs")
    policy = retry_policy()
    defaults = {"connect_timeout": policy.connect, "read_timeout": policy.read, "retries": {"total_max_attempts": 1}}
    defaults |= s3_sessions()
    # A copy: botocore changes the mapping.
    return defaults | user_settings | {"retries": dict(user_settings.get("retries", defaults["retries"]))}


def _protocols(fs: object) -> set[str]:
    protocol = getattr(fs, "protocol", ())
    return {protocol} if isinstance(protocol, str) else set(protocol)


def protocol_of(url: str) -> str:
    """Return the kind of store of a location, by its spelling; ``file`` for a path; all kinds for a chained URL."""
    kinds = []
    for link in url.split("::"):
        protocol, _ = fsspec.core.split_protocol(link)
        kind = {None: "file", "local": "file"}.get(protocol, str(protocol))
        kinds.append(client_of(kind) if has_buckets(kind) else kind)  # s3 and s3a, gs and gcs, abfs and az are the same
    return "::".join(kinds)


def is_local(fs: AbstractFileSystem) -> bool:
    """Return whether the file system is a disk of this machine, or one mounted on it."""
    return "file" in _protocols(fs)


def in_memory(fs: AbstractFileSystem) -> bool:
    """Return whether the file system is memory of this process."""
    return "memory" in _protocols(fs)


def lists_flat(fs: AbstractFileSystem) -> bool:
    """Return whether the client lists everything below a folder page by page, and raises if a page fails."""
    return bool(_protocols(fs) & {"s3", "gs"})


def in_this_process(url: str) -> bool:
    """Return whether the location is in the memory of one process, where no actor can read it."""
    return url.startswith("memory:")


def absolute(url: str) -> str:
    """Return the location in a form that does not depend on the working folder: a local path made absolute."""
    fs, path = open_location(url)
    # POSIX allows two slashes at the beginning; here they are one.
    return "/" + str(Path(os.path.normpath(path))).lstrip("/") if is_local(fs) else url.rstrip("/")


def identity(url: str) -> str:
    """Return a key that is equal for all names of a file, symbolic and hard links on a disk included."""
    fs, path = open_location(url)
    if not is_local(fs):
        return f"{type(fs).__name__}:{path.strip('/')}"
    real = os.path.realpath(path)
    with suppress(OSError):
        status = Path(real).stat()
        if status.st_nlink > 1:
            return f"inode {status.st_dev}:{status.st_ino}"
    return real


def without_links(url: str) -> str:
    """Return the location with the links of a disk resolved."""
    fs, path = open_location(url)
    return os.path.realpath(path) if is_local(fs) else url


def in_archive(fs: AbstractFileSystem) -> bool:
    """Return whether the file system is the inside of an archive, as of ``zip://folder::s3://bucket/archive.zip``."""
    return isinstance(fs, AbstractArchiveFileSystem)


def split_archive(url: str) -> tuple[str, str]:
    """Return a location inside an archive without the archive, and ``::`` with that of the archive; else "" for it."""
    inside, link, archive = url.partition("::")
    protocol, colon, _ = inside.partition("://")
    return (inside, link + archive) if colon and protocol not in _WEB else (url, "")


def join(url: str, *names: str) -> str:
    """Return a location below another.

    Raises:
        SpecError: the location is empty: the result would lie below the root of this machine.
    """
    check_text(url)
    inside, archive = split_archive(url)
    # zip://::a.zip is the root of an archive.
    begin = inside if archive and inside.endswith("://") else inside.removesuffix("/") + "/" * bool(names)
    return begin + "/".join(encoded(name, url) for name in names) + archive
