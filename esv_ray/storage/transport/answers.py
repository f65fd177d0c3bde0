"""Classify exceptions of stores and their clients: by status and code of an answer, or that no request was sent."""

from __future__ import annotations

import errno
from collections.abc import Iterator

# Exceptions of a store's client come from one of these packages, or are OSErrors.
_CLIENTS = {
    "adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "httpx", "huggingface_hub",
    "requests", "s3fs", "urllib3",
}  # fmt: skip

# By name, because a store's client need not be installed, and because botocore takes a while to import.
_PASSING = {
    "ChecksumError",  # gcsfs: the bytes do not have the announced hash
    "ChunkedEncodingError",
    "ClientConnectionError",
    "ClientPayloadError",  # aiohttp: a body ended too early
    "ConnectionError",  # of botocore and requests, beside the built-in one
    "CredentialRetrievalError",  # botocore: the metadata service of a machine, or STS, did not answer
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ProxyError",  # gcsfs: a 502
    "ProtocolError",
    "ResponseParserError",  # an overloaded server's answer that is not XML
    "ServiceRequestError",  # azure: the request did not arrive
    "ServiceResponseError",  # azure: the answer did not arrive
    "Timeout",
    "TransportError",
}
_LASTING = {"ClientConnectorCertificateError", "ClientSSLError", "SSLError", "InvalidURL"}
_PASSING_NUMBERS = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENOBUFS,
    errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT, getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip
# Codes with status 400 that mean that the request arrived damaged or late.
_PASSING_CODES = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentSHA256Mismatch",
}  # fmt: skip
# Exceptions that mean that the client found no usable credentials.
_UNSIGNED = {
    "ClientAuthenticationError",  # azure
    "ConfigNotFound",  # botocore: of ~/.aws
    "ConfigParseError",
    "CredentialUnavailableError",  # azure
    "DefaultCredentialsError",  # google
    "InvalidConfigError",
    "MalformedError",  # google: a file without credentials
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshError",  # google
    "SSOError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
# Codes, with any status, about credentials, the signature, or the clock that the request was signed with.
DENIED_CODES = {
    "AccessDenied", "AuthFailure", "AuthenticationFailed", "ExpiredToken", "ExpiredTokenException",
    "InvalidAccessKeyId", "InvalidAuthenticationInfo", "InvalidClientTokenId", "InvalidSecurity", "InvalidToken",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
    "UnrecognizedClientException",
}  # fmt: skip
CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired"}
_FULL_CODES = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "storageQuotaExceeded"}
_REGION_CODES = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_NAME_UNKNOWN = {"gaierror"}
_NAME_SERVER_BUSY = -3  # EAI_AGAIN; every other answer of the resolver is permanent


class RefusedError(OSError):
    """Raised if a client says "not found" for another reason: a refusal, or a missing file of credentials."""


class InvalidResponseError(OSError):
    """Raised if a store sends more than was requested, sends without end, or sends a malformed answer."""


def is_store_error(error: BaseException) -> bool:
    """Return whether an exception comes from a store or its client; other exceptions are not translated."""
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__
    )


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed: a server was overloaded or restarted, a connection or a body was cut."""
    if is_full(error) or is_unsigned(error):
        return False
    status_and_code = answer(error)
    if status_and_code is not None:
        status, code = status_and_code
        return status in (408, 409, 429) or (status >= 500 and status not in (501, 505)) or code in _PASSING_CODES
    for cause in _causes(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _LASTING:
            return False
        if names & _NAME_UNKNOWN:  # an unknown host is misspelled, but the name server may be busy
            return getattr(cause, "errno", None) == _NAME_SERVER_BUSY
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_NUMBERS
    return bool({kind.__name__ for kind in type(error).__mro__} & _PASSING)


def is_unsigned(error: BaseException) -> bool:
    """Return whether a client found no usable credentials and so sent no request."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    return bool(names & _UNSIGNED) and answer(error) is None


def is_full(error: BaseException) -> bool:
    """Return whether a disk or a store is full, or a quota or a limit of file sizes is reached."""
    status, code = answer(error) or (0, "")
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or status == 507 or code in _FULL_CODES


def is_absence(error: FileNotFoundError, path: str) -> bool:
    """Return whether a client that says "not found" means the object.

    Clients also say so for a web server's refusal, and for a missing file of credentials on this machine.

    Args:
        error: raised by a client of a store, not by a disk.
        path: the requested path.
    """
    status = status_of(error)
    if status:
        return status in (404, 410)
    named = str(error.filename or "")
    return not named.startswith("/") or path.strip("/").startswith(named.strip("/"))


def answer(error: BaseException) -> tuple[int, str] | None:
    """Return HTTP status and code of the answer, if there was one; s3fs keeps botocore's error as the cause."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = str(response.get("Error", {}).get("Code", ""))
            if isinstance(status, int) or code:
                return status if isinstance(status, int) else 0, code
        # azure, aiohttp, gcsfs; the "code" of aiohttp's errors about unreadable answers is not the server's.
        client = type(cause).__module__.partition(".")[0]
        status = getattr(cause, {"azure": "status_code", "aiohttp": "status", "gcsfs": "code"}.get(client, ""), None)
        if client in ("huggingface_hub", "httpx", "requests"):
            status = getattr(response, "status_code", None)
        if isinstance(status, int | str) and str(status).isdecimal() and int(status) >= 400:
            reason = getattr(cause, "error_code", None) if client == "azure" else None
            return int(status), str(getattr(reason, "value", reason) or "")
    return None


def status_of(error: BaseException) -> int:
    """Return the HTTP status of the answer, or 0."""
    return (answer(error) or (0, ""))[0]


def region_of(error: BaseException) -> str | None:
    """Return the region of an S3 bucket that was requested in another one; empty if the store does not say which."""
    status, code = answer(error) or (0, "")
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = str(headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region") or "")
            if status == 301 or code in _REGION_CODES or (region and status == 400):
                return region
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, also those that botocore and aiohttp keep as attributes."""
    waiting: list[object] = [error]
    visited: list[BaseException] = []
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or any(cause is earlier for earlier in visited):
            continue
        visited.append(cause)
        yield cause
        arguments = getattr(cause, "kwargs", None)
        waiting += [
            cause.__cause__,
            getattr(cause, "os_error", None),
            arguments.get("error") if isinstance(arguments, dict) else None,
        ]
