"""Locations: every read and write of the project goes through here, over fsspec.

A location is an fsspec URL: a plain path, ``s3://bucket/prefix``, ``gs://``, ``memory://``, ... Credentials come from
the environment of the store's own client and never stand in a URL.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError, EsvError, SpecError

# user:password@ after ://, whatever signs the password holds. A host of the web may have a port instead, and an
# access point of S3 is an ARN.
_CREDENTIALS = re.compile(
    r"(?:(?<=http)|(?<=https)|(?<=ftp))://[^/@:]*:(?!\d+(?:/|$))[^@]*@"
    r"|(?<!http)(?<!https)(?<!ftp)://(?!arn:)[^/@:]*:[^@]*@"
)


def open_location(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a location, and its path there. Listings are never served from a cache.

    Raises:
        SpecError: no such protocol, or its client is not installed.
    """
    try:
        if _CREDENTIALS.search(url):
            raise SpecError(
                f"a location holds no credentials, got {without_credentials(url)}: give them through the "
                "environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise SpecError(f"{url}: {error}") from error
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise SpecError(
            f"{url}: expected a path or an fsspec URL such as s3://bucket/prefix, got: {_short(error)}"
        ) from error
    return fs, path


def without_credentials(url: str) -> str:
    """The URL as it may be printed."""
    return _CREDENTIALS.sub("://***@", url)


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether the file system is a disk of this machine (or one mounted on it)."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


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


@contextmanager
def locating(url: str, doing: str) -> Iterator[None]:
    """Turn whatever a store's client raises into one `DataError` that says what was done where.

    Args:
        url: the location.
        doing: what is being done, e.g. "read the model".
    """
    from botocore.exceptions import BotoCoreError, ClientError  # heavy; a dependency of s3fs

    try:
        yield
    except EsvError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"cannot {doing}: {url} was not found; check the location") from error
    except PermissionError as error:
        raise DataError(
            f"cannot {doing}: access to {url} was denied ({_short(error)}); check the credentials and permissions"
        ) from error
    except OSError as error:
        hint = "; free some room" if error.errno == errno.ENOSPC else ""
        raise DataError(f"cannot {doing}: {url}: {_short(error)}{hint}") from error
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"cannot {doing}: {url}: {_short(error)}; check the endpoint, the credentials and the network"
        ) from error


def _short(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def read_bytes(url: str, doing: str) -> bytes:
    """The whole content of one object.

    Raises:
        DataError: it is not there or cannot be read.
    """
    fs, path = open_location(url)
    with locating(url, doing):
        data: bytes = fs.cat_file(path)
        return data


def exists(url: str) -> bool:
    """Whether an object is there.

    Raises:
        DataError: the store refuses to say.
    """
    fs, path = open_location(url)
    with locating(url, "look up"):
        # fs.exists() answers "no" to every error; a wrong key must not look like an empty folder.
        try:
            fs.info(path)
        except FileNotFoundError:
            return False
        return True


def list_names(url: str, doing: str) -> list[str]:
    """Names of the objects directly in a folder, sorted; none where there is no such folder.

    Raises:
        DataError: the store refuses to list.
    """
    fs, path = open_location(url)
    with locating(url, doing):
        try:
            entries = fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
    # A file is given as its own content, and so is a folder whose last object was deleted.
    inside = [entry.rstrip("/") for entry in entries if entry.rstrip("/").lstrip("/") != path.strip("/")]
    return sorted({entry.rpartition("/")[2] for entry in inside} - {""})


def commit_new(url: str, data: bytes, doing: str) -> bool:
    """Publish one object whole, or leave what is there.

    Never streams to the final name: an exception inside a streamed write publishes a truncated object that reads as
    valid Parquet. Object stores: one conditional put; a disk: a synced temporary sibling that is linked into place.

    Returns:
        True if this call published it, False if it was there already (somebody else won; contents are deterministic).

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    with locating(url, doing):
        if is_local(fs):
            return _link_new(Path(path), data)
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except (NotImplementedError, OSError) as error:
            if isinstance(error, NotImplementedError) or error.errno == errno.ENOSYS:
                # A store without a conditional put. Should another driver be quicker in between, it is replaced by
                # the same content.
                if fs.exists(path):
                    return False
                fs.pipe_file(path, data)
                return True
            # Some servers' refusal of a second create lacks its reason and arrives as a bare "invalid argument".
            if error.errno != errno.EINVAL or not fs.exists(path):
                raise
            return False
    return True


def replace(url: str, data: bytes, doing: str) -> None:
    """Publish one object whole, in place of what may be there.

    Raises:
        DataError: it cannot be written.
    """
    fs, path = open_location(url)
    with locating(url, doing):
        if not is_local(fs):
            fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            _write_synced(temporary, data)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link_new(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without hard links: the rename is atomic; should another driver be quicker in between, it
            # is replaced by the same content.
            if path.exists():
                return False
            temporary.rename(path)
        return True
    finally:
        temporary.unlink(missing_ok=True)
