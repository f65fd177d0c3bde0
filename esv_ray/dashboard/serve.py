"""Start the server of a dashboard."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from esv_ray.analysis.analyzed import ClassName, open_output
from esv_ray.errors import SpecError
from esv_ray.media import open_media

if TYPE_CHECKING:
    import uvicorn

    from esv_ray.dashboard.app import Dashboard
    from esv_ray.dashboard.guard import Access

_WAITING = 128  # connections that the system holds until they are accepted
_MOST_AT_ONCE = 64  # connections
_MOST_HEADERS = 64 * 1024  # bytes of a request: cursors and ids are in its address
_GRACE_S = 2  # for answers in flight, at the end


def serve(
    output: str,
    *,
    media: str | None = None,
    compare: str | None = None,
    class_: ClassName | None = None,
    host: str = "127.0.0.1",
    port: int = 8050,
    token: str | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve a dashboard until the process is interrupted.

    Args:
        output: location of a job's output, finished or not.
        media: location of pictures, videos or a table with thumbnails (`media.open_media`); None: the thumbnails of
            the output's feature table, if it has some.
        compare: location of a second output; None: none.
        class_: whose ESVs order the videos: `label` or `predicted`; None: the label where there are labels.
        host, port: to listen on; port 0: a free one.
        token: that each request must bring; needed unless only this machine can reach the host.
        announce: called with lines for people.

    Raises:
        SpecError: starlette or uvicorn is not installed, the token is missing or too short, or the port is in use.
        DataError: there is no output, no unit is committed yet, or a table or the media cannot be read.
        JobError: a file is of another job.
    """
    check_installed()
    from esv_ray.dashboard.app import application
    from esv_ray.dashboard.guard import access_of

    access_of(host, port, token)
    with listening(host, port) as door:
        access = access_of(host, door.getsockname()[1], token)
        with opened(output, media=media, compare=compare, class_=class_) as shown:
            announce(address_of(access))
            server(application(shown, access)).run(sockets=[door])


def check_installed() -> None:
    """Check that the libraries of the server are installed.

    Raises:
        SpecError: one is not.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SpecError(
            f"the dashboard needs {error.name}, which is not installed: pip install 'esv-ray[dashboard]'"
        ) from None


@contextmanager
def opened(
    output: str, *, media: str | None = None, compare: str | None = None, class_: ClassName | None = None
) -> Iterator[Dashboard]:
    """Open what a dashboard shows, and begin to index it; arguments and errors as for `serve`."""
    from esv_ray.dashboard.app import Dashboard
    from esv_ray.dashboard.films import Films
    from esv_ray.dashboard.frames import Frames
    from esv_ray.dashboard.index import Index

    pictures = open_media(media, output)
    indexes = [Index(open_output(each, class_)) for each in (output, compare) if each is not None]
    frames = None if pictures is None else Frames(indexes[0], pictures)
    films = None if pictures is None else Films(indexes[0], pictures)
    try:
        for index in indexes:
            index.start()
        yield Dashboard(indexes[0], frames, films, indexes[1] if compare is not None else None)
    finally:
        for index in indexes:
            index.close()
        if pictures is not None:
            pictures.close()


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on an address.

    Raises:
        SpecError: it is not one of this machine, or it is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SpecError(f"--host: expected a name or an address of this machine, got {host!r:.100}: {error}") from None
    with door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(address)
            door.listen(_WAITING)
        except OSError as error:
            raise SpecError(
                f"--host {host} --port {port}: cannot listen there: {error.strerror or error}; --port 0 takes a free "
                "port"
            ) from None
        yield door


def server(app: object) -> uvicorn.Server:
    """Return the server of an application; it writes no log of requests, which could hold tokens and ids."""
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        h11_max_incomplete_event_size=_MOST_HEADERS,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        proxy_headers=False,
    )

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Answers in flight are cancelled, and each would leave a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    return Server(config)


def address_of(access: Access) -> str:
    """Return where the dashboard is, in words; never with the token."""
    name = f"[{access.host}]" if ":" in access.host else access.host
    url = f"http://{name}:{access.port}/"
    if access.token is None:
        return f"dashboard: {url} (Ctrl-C stops it)"
    return f"dashboard: {url}?token=TOKEN, with your token, the first time; then {url} (Ctrl-C stops it)"
