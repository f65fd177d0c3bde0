"""The decoders, in this process and isolated, and the folder of the files that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from esv_ray.decoding import Decoder, Every, Request, VideoFrame, VideoSummary, open_decoder
from esv_ray.decoding.frames import Sizes


@pytest.fixture(scope="session")
def decoders() -> Iterator[dict[str, Decoder]]:
    """One decoder of each kind."""
    opened = {"in process": open_decoder(isolated=False), "isolated": open_decoder(isolated=True)}
    yield opened
    for each in opened.values():
        each.close()


@pytest.fixture(params=["in process", "isolated"])
def decoder(request: pytest.FixtureRequest, decoders: dict[str, Decoder]) -> Decoder:
    """A decoder."""
    return decoders[request.param]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that several tests read."""
    return tmp_path_factory.mktemp("videos")


def decoded(
    decoder: Decoder,
    path: Path | str,
    request: Request | None = None,
    *,
    start: float | None = None,
    end: float | None = None,
    resize: Sizes = None,
) -> tuple[list[VideoFrame], VideoSummary]:
    """The frames of a video, and what came out."""
    with decoder.open(str(path)) as video:
        frames = list(video.frames(request or Every(), start=start, end=end, resize=resize))
        return frames, video.summary()
