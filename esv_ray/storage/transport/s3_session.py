"""The connections of the S3 client, kept from sending a request twice, and from receiving without end.

aiohttp repeats a PUT, GET or DELETE by itself, once, when its connection breaks (RFC 9112, 9.3.1). For a conditional
put that is wrong: where the first one was done and its answer was lost, the second is refused, and the caller learns
that somebody else was first. Whether to try again is decided in `faults`, which knows that it did.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from esv_ray.storage.transport.bounds import counted_response


@lru_cache
def s3_sessions() -> dict[str, Any]:
    """Settings of aiobotocore that make such connections; none where its version does not offer that.

    There a lost answer to a create-only write may pass for a lost race, which is harmless: contents are deterministic.
    And what arrives is not counted (`bounds`): the bound of a request's time holds, its size is looked at afterwards.
    """
    from aiobotocore.config import AioConfig  # a dependency of s3fs, which is imported for S3 alone
    from aiobotocore.httpsession import AIOHTTPSession

    if "http_session_cls" not in inspect.signature(AioConfig.__init__).parameters:
        return {}

    class Once(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: Any) -> Any:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False
            session._response_class = counted_response()
            return session

    return {"http_session_cls": Once}
