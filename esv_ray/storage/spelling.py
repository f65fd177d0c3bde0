"""The spelling of locations: never empty; a ``file://`` URL becomes the path that it names, percent-decoded.

``::`` joins the locations of a chain (``zip://a.parquet::s3://bucket/x.zip``); fsspec splits any location there. It
drops the part after ``::`` if the part before it does not open another location, so such a location is refused.
"""

from __future__ import annotations

import re
from os import PathLike, fspath
from urllib.parse import unquote_to_bytes

from esv_ray.errors import SpecError

# user:password@ after ://, whatever characters the password has. A web host may have a port instead, and an
# access point of S3 is an ARN.
_CREDENTIALS = re.compile(
    r"(?:(?<=http)|(?<=https)|(?<=ftp))://[^/@:]*:(?!\d+(?:/|$))[^@]*@"
    r"|(?<!http)(?<!https)(?<!ftp)://(?!arn:)[^/@:]*:[^@]*@"
)
# Protocols of fsspec that open the location after ``::``; `open_location` refuses reference.
_CHAINS = {"blockcache", "cached", "dir", "filecache", "libarchive", "reference", "simplecache", "tar", "zip"}
_DISK = re.compile(r"(?:file|local):")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/:]")
_KEPT_ESCAPES = re.compile(r"%(?:00|2[Ff])")


def given(value: object, name: str) -> str:
    """Return a location that a caller of the Python interface gives.

    Args:
        value: a text, or a path of this machine.
        name: of the argument, for the error.

    Raises:
        SpecError: it is neither.
    """
    location = fspath(value) if isinstance(value, str | PathLike) else None
    if not isinstance(location, str):
        raise SpecError(f"{name}: expected a location, as a text or a path, got {type(value).__name__}")
    return location


def spelled(url: str) -> str:
    """Return a location as the project uses it: a ``file:`` URL as a plain path, any other one unchanged.

    A chain (``simplecache::file:///a%20b``) stays as it is: it has no other spelling.

    Raises:
        SpecError: the location is empty, has spaces around it, has ``::`` but is not a chain, or is a ``file:`` URL
            that names no path of this machine.
    """
    check_text(url)
    path = decoded(url)
    if not _DISK.match(url) or "::" in url:
        return url
    path = path.removeprefix("file://")
    check_text(path)
    return path


def decoded(url: str) -> str:
    """Replace the percent escapes of ``file:`` URLs, also in a chain; fsspec takes them literally.

    Raises:
        SpecError: a URL names no path of this machine.
    """
    if not _DISK.search(url):
        return url
    return "::".join(_decoded(link) if _DISK.match(link) else link for link in url.split("::"))


def encoded(name: str, url: str) -> str:
    """Return a name as a part of a location: escaped in a ``file:`` URL."""
    return name.replace("%", "%25") if _DISK.match(url) else name


def local_path(text: str) -> str:
    """Return the path of a file or folder that can only be on this machine, given as a path or a ``file:`` URL.

    Raises:
        SpecError: the text is empty, or a location elsewhere.
    """
    path = spelled(text)
    if _ELSEWHERE.match(path):
        raise SpecError(
            f"{text}: expected a local file or folder, got a remote location; use a local path, and copy the files "
            "afterwards"
        )
    return path


def check_text(url: str) -> None:
    """Refuse an empty location, which is nearly always an unset variable, and ``::`` outside of a chain.

    Raises:
        SpecError: the location is empty, has spaces around it, or has ``::`` after a part that opens no other location.
    """
    if url != url.strip() or not url:
        raise SpecError(f"expected a location without spaces around it, got {url!r}; a variable in it may be empty")
    *outer, last = url.split("::")
    protocols = [link.partition("://")[0] for link in outer]
    if not _CHAINS.issuperset(protocols) or (outer and not last and "reference" not in protocols):
        raise SpecError(
            f"{without_credentials(url)}: expected a location without ::, which joins the locations of a chain such as "
            "zip://a.parquet::s3://bucket/x.zip; rename it"
        )


def has_credentials(url: str) -> bool:
    """Return whether a URL contains a password."""
    return _CREDENTIALS.search(url) is not None


def without_credentials(url: str) -> str:
    """Return the URL without its password, for printing."""
    return _CREDENTIALS.sub("://***@", url)


def _decoded(link: str) -> str:
    """Return a ``file:`` URL with its escapes decoded, as ``file://PATH``."""
    path = link.partition(":")[2]
    if path.startswith("//"):
        host, slash, remainder = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            host = host.rpartition("@")[2]  # no password is printed
            raise SpecError(
                f"file://{host}{slash}{remainder}: expected file:///PATH, an absolute path after three slashes, got "
                f"the host {host!r}; for a relative path leave file:// out"
            )
        path = slash + remainder
    if not path:
        raise SpecError(f"{link}: expected a path after {link.partition(':')[0]}:, got none; a variable may be empty")
    if _NO_ESCAPE.search(path):
        raise SpecError(
            f"{link}: expected two hexadecimal digits after %, as in %20; write %25 for a percent sign, or a plain path"
        )
    if escape := _KEPT_ESCAPES.search(path):
        raise SpecError(
            f"{link}: expected a path, got {escape[0]}, which no file name can contain; use / as the separator"
        )
    try:
        plain = unquote_to_bytes(path).decode()
    except UnicodeError:
        raise SpecError(f"{link}: expected escapes of UTF-8, got others; write the path without file://") from None
    if "::" in plain:
        raise SpecError(f"{link}: expected a path without ::, which joins locations, got {plain!r}")
    return f"file://{plain}"
