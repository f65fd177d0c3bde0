"""Connections of the S3 client that never send a request twice and never receive without end.

aiohttp repeats a PUT, GET or DELETE once when its connection breaks (RFC 9112, 9.3.1). For a conditional put that is
wrong: if the first put succeeded and its answer was lost, the second is refused, and the caller learns that another
writer was first. `faults` decides whether to retry, and knows that it did.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from esv_ray.storage.transport.bounds import counted_response


@lru_cache
def s3_sessions() -> dict[str, Any]:
    """Return the settings of aiobotocore for such connections; empty if its version does not support them.

    In that case a lost answer to a create-only write may look like a lost race, which is harmless: contents are
    deterministic. And arriving bytes are not counted (`bounds`): the time limit of a request holds, its size is checked
    afterwards.
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
