"""What exceptions of stores and their clients say: an answer's status and code, or that nobody was asked."""

from __future__ import annotations

import errno
from collections.abc import Iterator

# What a client of a store raises comes from one of these packages, or is an OSError.
_CLIENTS = {
    "adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "httpx", "huggingface_hub",
    "requests", "s3fs", "urllib3",
}  # fmt: skip

# By name, because a store's client need not be installed, and because botocore takes a while to import.
_PASSING = {
    "ChecksumError",  # gcsfs: the bytes do not have the hash they were announced with
    "ChunkedEncodingError",
    "ClientConnectionError",
    "ClientPayloadError",  # aiohttp: a body ended too early
    "ConnectionError",  # of botocore and requests; not the built-in one alone
    "CredentialRetrievalError",  # botocore: the metadata service of a machine, or STS, did not answer
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ProxyError",  # gcsfs says so of a 502
    "ProtocolError",
    "ResponseParserError",  # a refusal of an overloaded server that is no XML
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
# Refusals with a status of 400 that say that the request arrived damaged or late.
_PASSING_CODES = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentSHA256Mismatch",
}  # fmt: skip
# Of an exception: its client found no credentials that it can use.
_UNSIGNED = {
    "ClientAuthenticationError",  # azure
    "ConfigNotFound",  # botocore: of ~/.aws
    "ConfigParseError",
    "CredentialUnavailableError",  # azure
    "DefaultCredentialsError",  # google
    "InvalidConfigError",
    "MalformedError",  # google: a file of credentials that holds none
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshError",  # google
    "SSOError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
# Of a refusal, whatever its status: of credentials, of the signature, and of the clock that it was made with.
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
_NAME_SERVER_BUSY = -3  # EAI_AGAIN; every other answer of the resolver lasts


class RefusedError(OSError):
    """A client says "not found", but its cause is another: a refusal, or a file of its own that is missing."""


class BeyondError(OSError):
    """A store sends more than was asked for, goes on without end, or says what no store says."""


def is_store_error(error: BaseException) -> bool:
    """Whether an exception is what a store, or the client of one, says; others are nobody's to translate."""
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__
    )


def is_transient(error: BaseException) -> bool:
    """Whether a fault may be gone at the next try: servers overloaded or restarted, connections and bodies cut."""
    if is_full(error) or is_unsigned(error):
        return False
    said = answer(error)
    if said is not None:
        status, code = said
        return status in (408, 409, 429) or (status >= 500 and status not in (501, 505)) or code in _PASSING_CODES
    for cause in _causes(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _LASTING:
            return False
        if names & _NAME_UNKNOWN:  # what is not in the name service is misspelled; but it may be busy
            return getattr(cause, "errno", None) == _NAME_SERVER_BUSY
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_NUMBERS
    return bool({kind.__name__ for kind in type(error).__mro__} & _PASSING)


def is_unsigned(error: BaseException) -> bool:
    """Whether a client found no credentials that it can use, and so asked nobody."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    return bool(names & _UNSIGNED) and answer(error) is None


def is_full(error: BaseException) -> bool:
    """Whether a disk or a store has no room left, or a user's share of it or limit of file sizes is used up."""
    status, code = answer(error) or (0, "")
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or status == 507 or code in _FULL_CODES


def is_absence(error: FileNotFoundError, path: str) -> bool:
    """Whether a client that says "not found" means the object.

    A web server's refusals come as that, too, and so does a file of credentials on this machine that is missing.

    Args:
        error: what a client of a store raised, not a disk.
        path: what was asked for.
    """
    status = status_of(error)
    if status:
        return status in (404, 410)
    named = str(error.filename or "")
    return not named.startswith("/") or path.strip("/").startswith(named.strip("/"))


def answer(error: BaseException) -> tuple[int, str] | None:
    """HTTP status and code of the refusal, where there was an answer: s3fs keeps botocore's error as the cause."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = str(response.get("Error", {}).get("Code", ""))
            if isinstance(status, int) or code:
                return status if isinstance(status, int) else 0, code
        # azure, aiohttp, gcsfs; the "code" that aiohttp gives an answer it could not read is its own.
        client = type(cause).__module__.partition(".")[0]
        status = getattr(cause, {"azure": "status_code", "aiohttp": "status", "gcsfs": "code"}.get(client, ""), None)
        if client in ("huggingface_hub", "httpx", "requests"):
            status = getattr(response, "status_code", None)
        if isinstance(status, int | str) and str(status).isdecimal() and int(status) >= 400:
            reason = getattr(cause, "error_code", None) if client == "azure" else None
            return int(status), str(getattr(reason, "value", reason) or "")
    return None


def status_of(error: BaseException) -> int:
    """HTTP status of the refusal, or 0."""
    return (answer(error) or (0, ""))[0]


def region_of(error: BaseException) -> str | None:
    """The region of a bucket of S3 that was asked for in another one; empty where the store does not say which."""
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
    """An exception and what it was made of: its cause, or what botocore and aiohttp keep of the connection's."""
    waiting: list[object] = [error]
    seen: list[BaseException] = []
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        told = getattr(one, "kwargs", None)
        waiting += [
            one.__cause__,
            getattr(one, "os_error", None),
            told.get("error") if isinstance(told, dict) else None,
        ]
