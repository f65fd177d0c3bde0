"""Dashboards for tests: a server in a thread, asked over a real socket."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from playwright.sync_api import Browser

import esv_ray
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.dashboard.app import Dashboard, application
from esv_ray.dashboard.guard import access_of
from esv_ray.dashboard.serve import listening, opened, server
from esv_ray.extraction.work import extract
from esv_ray.models.saving import save_heads
from esv_ray.output.manifest import checksum_of
from esv_ray.spec_extract import load_extract_spec
from tests.conftest import make_heads
from tests.report.opening import Opened
from tests.support.facet_tables import HOSTILE
from tests.support.videos import write_video

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A dashboard that is served.

    Attributes:
        shown: what it shows.
        port: of the server on this machine.
    """

    shown: Dashboard
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, **asked: object
    ) -> Answer:
        """Ask for an address as it is: nothing in it is tidied up, as clients do."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return found

    def api(self, question: str, /, **asked: object) -> Any:
        """Ask a question that must be answered."""
        answer = self.ask(f"/api/{question}?{urlencode(asked)}")
        assert answer.status == 200, answer.body
        return answer.json()

    def wait(self) -> None:
        """Wait until everything committed is indexed."""
        until = time.monotonic() + _PATIENCE_S
        while self.shown.index.progress.units < self.shown.index.progress.committed:
            assert time.monotonic() < until, self.shown.index.progress
            time.sleep(0.01)


@contextmanager
def served(
    output: str,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    media: str | None = None,
    compare: str | None = None,
) -> Iterator[Served]:
    """Serve a dashboard in a thread, indexed as far as the output is there."""
    with opened(output, media=media, compare=compare) as shown, listening(host, 0) as door:
        port = door.getsockname()[1]
        running = server(application(shown, access_of(host, port, token)))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        try:
            found = Served(shown, port)
            found.wait()
            yield found
        finally:
            running.should_exit = True
            thread.join(_PATIENCE_S)


def made_up(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write a made-up output whose first ids are hostile, with one failed video, and names of classes that are too."""
    write_output(str(folder), shape, seed=seed)
    first, *_ = sorted((folder / "videos").iterdir())
    for table in ("videos", "attributions"):
        path = folder / table / first.name
        rows = pq.read_table(path)
        ids = pa.array([NEW_IDS.get(each, each) for each in rows.column("video_id").to_pylist()])
        rows = rows.set_column(0, rows.schema.field("video_id"), ids)
        pq.write_table(_with_a_failure(rows) if table == "videos" else rows, path)
    run = folder / "run.json"
    content = json.loads(run.read_text())
    names = [name or "-" for name in HOSTILE] + [f"class of things {number}" for number in range(shape.n_classes)]
    content["model"]["classes"] = names[: shape.n_classes]
    run.write_text(json.dumps(content | {"checksum": checksum_of(content)}))
    return folder


FAILED = "video-00000063"
NEW_IDS = {
    "video-00000000": HOSTILE[0],
    "video-00000001": "../../../etc/passwd",
    "video-00000002": HOSTILE[6],
    "video-00000003": "/etc/hostname",
    "video-00000004": HOSTILE[3],
    "video-00000005": "a/b c?d=e&f#g%2e",
}
"""Ids of made-up outputs, by those that they replace."""


def _with_a_failure(rows: pa.Table) -> pa.Table:
    """Return videos of which one has no ESVs."""
    values = rows.to_pylist()
    for row in values:
        if row["video_id"] == FAILED:
            row |= {"status": "failed", "reason": "<b>NaN</b> in its features", "predicted": None, "scores": None}
    return pa.Table.from_pylist(values, schema=rows.schema)


@contextmanager
def looked_at(
    browser: Browser, served: Served, path: str = "/", *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Opened]:
    """Open an address in a browser; it must ask for nothing elsewhere, and complain of nothing until it is closed."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(1000 * _PATIENCE_S)
    seen = Opened(page)
    page.on("request", lambda each: None if each.url.startswith(served.url) else seen.requests.append(each.url))
    page.on("console", lambda each: seen.complaints.append(each.text))
    page.on("pageerror", lambda each: seen.complaints.append(str(each)))
    page.on("dialog", seen.dismiss)
    page.goto(served.url + path)
    page.wait_for_selector("h1")
    try:
        yield seen
        assert seen.requests == []
        assert seen.complaints == []
    finally:
        context.close()


FRAMES, RATE, ELEMENTS = 40, 10, 6
"""Of the videos of `filmed_videos`: frames in each, frames per second, and elements."""


@dataclass(frozen=True)
class Filmed:
    """Videos that were extracted and attributed.

    Attributes:
        videos: folder with `one.mp4`, `two.webm`, `more/three.avi`, and `four.mp4`, whose codec browsers lack.
        output: location of an exact output of their 6 elements and 4 of them, with all classes and further tables.
        table: feature table with thumbnails.
    """

    videos: str
    output: str
    table: str


def filmed_videos(folder: Path) -> Filmed:
    """Write videos, extract their features, and attribute a random model's scores to them."""
    videos = folder / "videos"
    (videos / "more").mkdir(parents=True)
    write_video(videos / "one.mp4", frames=FRAMES, rate=RATE, size=(120, 160), container={"movflags": "faststart"})
    write_video(videos / "two.webm", frames=FRAMES, rate=RATE, size=(120, 160), codec="libvpx")
    write_video(videos / "more" / "three.avi", frames=FRAMES, rate=RATE, codec="mpeg4")
    write_video(videos / "four.mp4", frames=FRAMES, rate=RATE, codec="mpeg4")
    labels = folder / "labels.csv"
    labels.write_text("video_id,label\none,up\ntwo,down\nmore/three,left\nfour,up\n")
    found = Filmed(str(videos), str(folder / "esv"), str(folder / "table"))
    asked = [f"videos={videos}", f"labels={labels}", "backbone=pooled", f"output={found.table}", f"frames={ELEMENTS}"]
    extract(load_extract_spec(None, [*asked, "thumbnails=true", "cluster.actors=0"]))
    features = pq.read_table(Path(found.table) / "features").schema.field("features").type
    heads = make_heads(feature_dim=features.value_type.list_size, n_max=ELEMENTS, gain=20.0)
    save_heads(
        str(folder / "model"), heads, torch.full((3,), 1 / 3, dtype=torch.float64), classes=("down", "left", "up")
    )
    spec = {
        "features": found.table,
        "model": str(folder / "model"),
        "output": found.output,
        "frames": [ELEMENTS, ELEMENTS - 2],
        "estimator": {"kind": "exact"},
        "classes": ["all"],
        "methods": ["esv", "occlusion", "random"],
        "tables": ["interactions", "marginals", "discards"],
        "cluster": {"actors": 0},
    }
    assert esv_ray.run(esv_ray.load_spec(spec)).exit_code == 0
    return found
