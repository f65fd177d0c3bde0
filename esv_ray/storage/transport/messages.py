"""One-line messages about faults of stores: what was being done, where, the fault, and what to do."""

from __future__ import annotations

import errno

from esv_ray.errors import DataError, StorageError, short_text
from esv_ray.storage.transport.answers import (
    CLOCK_CODES,
    DENIED_CODES,
    InvalidResponseError,
    RefusedError,
    answer,
    is_full,
    is_transient,
    is_unsigned,
    region_of,
)
from esv_ray.storage.transport.clients import how_to_sign_in


def data_error(url: str, doing: str, error: Exception, tries: int = 1, seconds: float = 0.0) -> DataError:
    """Return the error that a user reads.

    Args:
        url: the location.
        doing: what was being done, e.g. "read the model".
        error: what the store or its client raised.
        tries: how often it was tried.
        seconds: for how long.

    Returns:
        A `DataError` if an object is missing or of another kind than expected; a `StorageError` for everything else.
    """
    text = _text(error)
    cannot = f"cannot {doing}: {url}: {text}"
    if isinstance(error, FileNotFoundError):
        return DataError(f"cannot {doing}: {url} was not found; check the location")
    if isinstance(error, InvalidResponseError):
        message = f"{cannot}; check the location, the endpoint and any proxy"
        return StorageError(message, transient=False)
    if is_transient(error):
        times = f"{tries} tries in {seconds:.0f} s" if tries > 1 else "1 try"
        advice = "check the endpoint and the network"
        return StorageError(f"{cannot} ({times}); {advice}", transient=True)
    if is_full(error):
        too_large = getattr(error, "errno", None) == errno.EFBIG
        advice = "raise the limit of a file's size (ulimit -f, or the disk's own)" if too_large else "free some space"
        return StorageError(f"{cannot}; {advice}", transient=False, full=True)
    refusal = _refusal(url, doing, error)
    if refusal is not None:
        return StorageError(refusal, transient=False)
    if (answer(error) or (0, ""))[0] in (404, 410):
        return DataError(f"cannot {doing}: {url} was not found ({text}); check the location")
    return _other_error(url, doing, error)


def _refusal(url: str, doing: str, error: Exception) -> str | None:
    """Return the line for a request that the store refused and will refuse again; None for another error."""
    text, sign_in = _text(error), how_to_sign_in(url)
    cannot = f"cannot {doing}: {url}"
    status, code = answer(error) or (0, "")
    region = region_of(error)
    if region is not None:
        advice = f"set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION, and check the endpoint"
        return f"{cannot}: the bucket is in another region ({text}); {advice}"
    if is_unsigned(error):
        return f"{cannot}: {text}; set the credentials{sign_in or ' of the client'}"
    if code in CLOCK_CODES:
        return f"cannot {doing}: access to {url} was denied ({text}); set the clock of this machine"
    if status == 405:
        return f"{cannot}: {text}; check the endpoint: it does not support this request"
    if status == 407:
        return f"{cannot}: {text}; check the proxy (HTTPS_PROXY) and its credentials"
    # gcsfs says so in the text only.
    denied = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
    if denied or status in (401, 403) or code in DENIED_CODES:
        check = "the permissions" if _is_of_system(error) else f"the credentials and permissions{sign_in}"
        return f"cannot {doing}: access to {url} was denied ({text}); check {check}"
    if status == 400 and code in ("", "400"):  # an answer to HEAD has no body, and so no reason
        return (
            f"{cannot}: {text}, without a reason; check the credentials{sign_in}, since an expired or malformed "
            "token may be the cause, then the endpoint and the region"
        )
    return None


def _other_error(url: str, doing: str, error: Exception) -> DataError:
    """Return the error for a fault that is neither transient nor a refusal."""
    cannot = f"cannot {doing}: {url}"
    message = f"{cannot}: {_text(error)}"
    if isinstance(error, RefusedError):
        advice = f"the client needs it: check the credentials{how_to_sign_in(url)}"
        return StorageError(f"{message}; {advice}", transient=False)
    if not isinstance(error, OSError):
        return StorageError(f"{message}; check the endpoint, the credentials and the network", transient=False)
    if isinstance(error, IsADirectoryError):
        return DataError(f"{cannot}: expected a file, got a folder; give the location of a file in it")
    if isinstance(error, NotADirectoryError):
        return DataError(f"{cannot}: expected a folder above it, got a file; check the location")
    if error.errno == errno.EROFS:
        return StorageError(f"{message}; give a location that can be written", transient=False)
    # Arrow's errors about broken data have no number; some numbers mean that the location is another thing.
    if error.errno in (None, errno.ENAMETOOLONG):
        return DataError(message)
    return StorageError(message, transient=False)


def _is_of_system(error: Exception) -> bool:
    """Return whether an error is of this machine's file system, which names a file; those of stores do not."""
    return isinstance(error, OSError) and error.filename is not None and error.strerror is not None


def _text(error: Exception) -> str:
    """Return the text of an error without the name of a temporary file: the message has the user's location."""
    return str(error.strerror) if isinstance(error, OSError) and _is_of_system(error) else short_text(error)
