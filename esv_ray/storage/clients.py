"""What the clients of stores need from the user: their packages, an account, credentials. One line for each."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fsspec.core import split_protocol

from esv_ray.errors import SpecError

# The packages to install for each protocol that fsspec knows, as pip names them.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
    "hf": "huggingface_hub",
    "oss": "ossfs",
    **dict.fromkeys(("oci", "ocilake"), "ocifs"),
    **dict.fromkeys(("webdav", "dav"), "webdav4"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
    **dict.fromkeys(("github", "gist", "dbfs", "webhdfs", "jupyter", "jlab"), "requests"),
    "git": "pygit2",
    "box": "boxfs",
    "dropbox": "dropboxdrivefs dropbox requests",
    "lakefs": "lakefs-spec",
    "root": "fsspec-xrootd",
}
_ACCOUNT = (
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CLIENT_ID, "
    "AZURE_STORAGE_CLIENT_SECRET and AZURE_STORAGE_TENANT_ID; or AZURE_STORAGE_CONNECTION_STRING"
)
_CREDENTIALS = {
    **dict.fromkeys(
        ("s3", "s3a"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN where they are temporary, or AWS_PROFILE",
    ),
    **dict.fromkeys(("gs", "gcs"), "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), _ACCOUNT),
    "hf": "HF_TOKEN, or `hf auth login`",
}
# Clients that write what they raise to their log too, as a traceback where nobody has set up logging.
_TALKATIVE = ("adlfs", "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "huggingface_hub", "s3fs")


def quieten() -> None:
    """Keep clients' logs off standard error, unless the user sets up logging: errors are reported in one line."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())


def not_installed(url: str, error: ImportError) -> SpecError:
    """Name the packages that a location's client needs.

    Args:
        url: the location, as it may be printed.
        error: what importing the client raised.
    """
    protocol = _protocol(url, _PACKAGES)
    packages = _PACKAGES.get(protocol)
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    missing = f" ({' '.join(str(cause).split())})"
    if packages is None:
        return SpecError(f"{url}: the client of {protocol}:// locations is not installed{missing}")
    return SpecError(
        f"{url}: the client of {protocol}:// locations is not installed{missing}; pip install {packages}, on every "
        "machine of the job"
    )


def no_account(url: str, error: Exception) -> SpecError | None:
    """Name the variables where the client of Azure knows no account; None where an error says something else."""
    if "account_name" not in str(error) and "connection_string" not in str(error):
        return None
    return SpecError(
        f"{url}: expected the account of Azure in the environment, found none or a malformed one; set {_ACCOUNT}"
    )


def how_to_sign_in(url: str) -> str:
    """Say where credentials of a location come from; empty where this is not known."""
    variables = _CREDENTIALS.get(_protocol(url, _CREDENTIALS))
    return "" if variables is None else f" ({variables})"


def _protocol(url: str, known: Mapping[str, str]) -> str:
    """The protocol of a location; of a chained one the first that is known."""
    protocols = [split_protocol(link)[0] or "file" for link in url.split("::")]
    return next((each for each in protocols if each in known), protocols[-1])
