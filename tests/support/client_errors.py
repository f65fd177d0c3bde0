"""Errors as clients of stores raise them."""

from __future__ import annotations

import botocore.exceptions
from s3fs.errors import translate_boto_error


def client_error(status: int, code: str) -> Exception:
    """What s3fs makes of an answer of S3."""
    answer = {"Error": {"Code": code, "Message": "says the server"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = translate_boto_error(botocore.exceptions.ClientError(answer, "PutObject"))
    return error


def of(module: str, name: str, base: type[Exception] = Exception, **attributes: object) -> Exception:
    """An exception of a client that need not be installed."""
    kind: type[Exception] = type(name, (base,), {"__module__": module, **attributes})
    return kind("says the client")
