"""Advice on what the clients of stores need from the user: their packages, an account, credentials."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from functools import cache

from fsspec.core import split_protocol
from fsspec.registry import known_implementations, registry

from esv_ray.errors import SpecError, short_text

# Protocols that a client registers with fsspec when it is installed.
_REGISTERED = {"abfss": "abfs", "dav": "webdav"}
# Clients that are part of fsspec, and the packages on PyPI that they need. Any other client is a package itself.
_NEEDED = {
    "dask": "dask distributed",
    "dbfs": "requests",
    "gist": "requests",
    "git": "pygit2",
    "github": "requests",
    "http": "aiohttp requests",
    "jupyter": "requests",
    "libarchive": "libarchive-c",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "webhdfs": "requests",
}
_PACKAGES = {
    "dropboxdrivefs": "dropboxdrivefs dropbox requests",
    "fsspec_xrootd": "fsspec-xrootd",
    "lakefs_spec": "lakefs-spec",
}  # where it differs from the module's name
_OF_BUCKETS = {"s3fs", "gcsfs", "adlfs", "ossfs", "ocifs", "tosfs"}
_OF_S3 = "s3://, with AWS_ENDPOINT_URL"
# Other names of stores, and the protocol to write instead.
_MEANT = {
    "adl": "az:// or abfss://, since Data Lake Storage Gen1 is retired",
    **dict.fromkeys(("wasb", "wasbs"), "abfss://"),
    **dict.fromkeys(("s3n", "aws"), "s3://"),
    **dict.fromkeys(("r2", "b2", "minio", "ceph", "cos", "cosn", "obs", "spaces"), _OF_S3),
    "swebhdfs": "webhdfs://",
    "viewfs": "hdfs://",
}
_ACCOUNT = (
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CLIENT_ID, "
    "AZURE_STORAGE_CLIENT_SECRET and AZURE_STORAGE_TENANT_ID; or AZURE_STORAGE_CONNECTION_STRING"
)
_CREDENTIALS = {
    "s3fs": (
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN where they are temporary, or AWS_PROFILE"
    ),
    "gcsfs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "adlfs": _ACCOUNT,
    "huggingface_hub": "HF_TOKEN, or `hf auth login`",
}
_LIBRARIES = {"libjvm": "JAVA_HOME", "libhdfs": "HADOOP_HOME or ARROW_LIBHDFS_DIR"}
# Clients that also log the errors they raise; without a logging configuration that prints a traceback.
_TALKATIVE = ("adlfs", "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "huggingface_hub", "s3fs")


@cache
def quieten() -> None:
    """Keep clients' logs off standard error unless the user configures logging: errors are reported in one line."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())


def client_of(protocol: str) -> str:
    """Return the module of a protocol's client: ``s3fs``, or ``http`` within fsspec; the protocol if it is unknown."""
    implementation = known_implementations.get(protocol) or known_implementations.get(_REGISTERED.get(protocol, ""))
    if implementation is None:
        return protocol
    return str(implementation["class"]).removeprefix("fsspec.implementations.").partition(".")[0]


def has_buckets(protocol: str) -> bool:
    """Return whether the first part of a protocol's locations is a bucket or container, and so never empty."""
    return client_of(protocol) in _OF_BUCKETS


def not_installed(url: str, error: ImportError) -> SpecError:
    """Name the packages that a location's client needs.

    Args:
        url: the location, as it may be printed.
        error: raised by importing the client.
    """
    protocol = _protocol(url, _NEEDED | _PACKAGES | dict.fromkeys(_own_packages(), ""))
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    return _missing(url, protocol, f" ({short_text(cause)})")


def not_known(url: str) -> SpecError | None:
    """Return the error for an unknown protocol, with the client to install or the nearest name; None if it is known."""
    for protocol in _protocols(url):
        if protocol in registry or (protocol in known_implementations and protocol not in _MEANT):
            continue
        return _missing(url, protocol, "") if protocol in _REGISTERED else _other(url, protocol)
    return None


def no_java(url: str, error: Exception) -> SpecError | None:
    """Return the error that names the library that Hadoop's client lacks; None for an error about something else."""
    missing = next((name for name in _LIBRARIES if f"Unable to load {name}" in str(error)), None)
    if missing is None:
        return None
    return SpecError(
        f"{url}: expected Java and Hadoop, which the client of hdfs:// locations loads, found no {missing}; on every "
        f"machine of the job set {_LIBRARIES[missing]}, and CLASSPATH to what `hadoop classpath --glob` prints; or use "
        "webhdfs://, which needs neither"
    )


def no_account(url: str, error: Exception) -> SpecError | None:
    """Return the error that names the variables for Azure's account; None for an error about something else."""
    if "account_name" not in str(error) and "connection_string" not in str(error):
        return None
    return SpecError(
        f"{url}: expected the account of Azure in the environment, found none or a malformed one; set {_ACCOUNT}"
    )


def how_to_sign_in(url: str) -> str:
    """Return where credentials of a location come from, as a part of a line; empty if unknown."""
    variables = _CREDENTIALS.get(client_of(_protocol(url, _CREDENTIALS)))
    return "" if variables is None else f" ({variables})"


def _missing(url: str, protocol: str, cause: str) -> SpecError:
    client = client_of(protocol)
    packages = _NEEDED.get(client) or _PACKAGES.get(client) or client
    return SpecError(
        f"{url}: the client of {protocol}:// locations is not installed{cause}; pip install {packages}, on every "
        "machine of the job"
    )


def _other(url: str, protocol: str) -> SpecError:
    near = difflib.get_close_matches(protocol.lower(), known_implementations, n=1)
    suggestion = _MEANT.get(protocol.lower()) or (f"{near[0]}://" if near else "")
    return SpecError(
        f"{url}: expected a path or an fsspec URL such as s3://bucket/prefix, got {protocol}://, which no client "
        f"serves; {f'use {suggestion}' if suggestion else 'check its spelling'}"
    )


def _protocols(url: str) -> list[str]:
    return [split_protocol(link)[0] or "file" for link in url.split("::")]


def _protocol(url: str, clients: Mapping[str, str]) -> str:
    """Return the protocol of a location; of a chain the first whose client is given."""
    protocols = _protocols(url)
    return next((each for each in protocols if client_of(each) in clients), protocols[-1])


def _own_packages() -> set[str]:
    """Return the clients that are separate packages."""
    return {
        client_of(name)
        for name, implementation in known_implementations.items()
        if not str(implementation["class"]).startswith("fsspec.")
    }
