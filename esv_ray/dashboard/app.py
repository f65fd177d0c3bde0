"""Routes of the dashboard: pages, their scripts, and the queries that they send."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from esv_ray import storage
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.dashboard.browse import ORDERS, adjacent, page_of
from esv_ray.dashboard.figures import NAMES, Figures, matrix_of
from esv_ray.dashboard.films import Films
from esv_ray.dashboard.filters import number_of
from esv_ray.dashboard.frames import Frames
from esv_ray.dashboard.further import further_of, kept_tables
from esv_ray.dashboard.guard import Access, Guard
from esv_ray.dashboard.index import Index
from esv_ray.dashboard.video import Asked, video_of
from esv_ray.errors import EsvError, SpecError
from esv_ray.show.text import printable
from esv_ray.show.theme import css_variables

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = "index.html"
_MOST_ID = 10_000  # characters
_AN_HOUR = {"Cache-Control": "private, max-age=3600"}


@dataclass(frozen=True)
class Dashboard:
    """The content of a dashboard.

    Attributes:
        index: of the output.
        frames: pictures of its elements; None where there are none.
        films: files of its videos; None without media.
        other: index of a second output, shown beside the first; None without `--compare`.
    """

    index: Index
    frames: Frames | None = None
    films: Films | None = None
    other: Index | None = None


def application(shown: Dashboard, access: Access) -> Guard:
    """Return the application of a dashboard, guarded."""
    texts, figures = _texts(), Figures(shown.index)

    def text(request: Request) -> Response:
        name = request.path_params.get("name", _PAGE)
        if name not in texts:
            return _refusal("no such file", 404)
        return Response(texts[name], media_type=_TYPES[f".{name.rpartition('.')[2]}"])

    routes = [
        Route("/", text),
        Route("/static/{name}", text),
        Route("/api/output", _answered(lambda request: JSONResponse(_output(shown)))),
        Route("/api/videos", _answered(lambda request: JSONResponse(_videos(shown, request.query_params)))),
        Route("/api/video", _answered(lambda request: JSONResponse(_video(shown, request.query_params)))),
        Route("/api/adjacent", _answered(lambda request: JSONResponse(_adjacent(shown, request.query_params)))),
        Route("/api/further", _answered(lambda request: JSONResponse(_further(shown, request.query_params)))),
        Route("/api/film", _answered(lambda request: JSONResponse(_film(shown, request.query_params)))),
        Route("/api/near", _answered(lambda request: JSONResponse(_near(shown, request.query_params)))),
        Route("/api/figure", _answered(lambda request: JSONResponse(_figure(figures, request.query_params)))),
        Route("/api/matrix", _answered(lambda request: JSONResponse(matrix_of(shown.index, request.query_params)))),
        Route("/frame", _answered(lambda request: _frame(shown, request.query_params))),
        Route("/media", _answered(lambda request: _media(shown, request))),
    ]
    return Guard(Starlette(routes=routes), access)


def _texts() -> dict[str, bytes]:
    """Return the files that pages are made of, by name: no path of a request leads to a file."""
    named = {each.name: each.read_bytes() for each in files("esv_ray.dashboard").joinpath("static").iterdir()}
    report = files("esv_ray.report").joinpath("style.css").read_bytes()
    return named | {"report.css": report, "theme.css": css_variables().encode()}


def _answered(work: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return an endpoint, run in a thread, whose errors for users are answers."""

    def endpoint(request: Request) -> Response:
        try:
            return work(request)
        except EsvError as error:
            return _refusal(str(error), 400 if isinstance(error, SpecError) else 404)

    return endpoint


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"error": printable(text)}, status)


def _output(shown: Dashboard) -> dict[str, Any]:
    """Return what pages need to know of the output."""
    index = shown.index
    analyzed = index.analyzed
    manifest, spec = analyzed.manifest, analyzed.manifest.spec
    lengths = index.query("SELECT DISTINCT n_elements FROM listed WHERE status = 'ok' ORDER BY n_elements")
    return {
        "output": _place(analyzed.output),
        "model": _place(spec["model"]),
        "features": _place(spec["features"]),
        "estimator": spec["estimator"]["kind"],
        "explained": analyzed.explained,
        "unit": "logit" if analyzed.in_logits else "probability",
        "videos": manifest.rows,
        "n_classes": manifest.model["n_classes"],
        "names": manifest.model["classes"],
        "kept": [str(each) for each in spec["classes"]],
        "lengths": [row["n_elements"] for row in lengths],
        "labeled": bool(analyzed.census.labelled),
        "orders": list(ORDERS),
        "figures": [name for name in NAMES if analyzed.census.labelled or not FACETS[name].labelled],
        "media": shown.frames is not None,
        "tables": kept_tables(index),
        "other": None if shown.other is None else _place(shown.other.analyzed.output),
        "progress": asdict(index.progress) | {"done": index.progress.done},
        "version": version("esv-ray"),
    }


def _videos(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    page = page_of(shown.index, asked)
    rows = [{name: _plain(value) for name, value in row.items()} for row in page.rows]
    return {"rows": rows, "total": page.total, "before": page.before, "after": page.after}


def _video(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    beside = asked.get("beside") == "1"
    if beside and shown.other is None:
        raise SpecError("beside: there is no second output; start the dashboard with --compare OUTPUT_B")
    contrast = _classes("contrast", asked)
    if len(contrast) not in (0, 2):
        raise SpecError(f"contrast: expected two classes, such as 3,7, got {len(contrast)}")
    return video_of(
        shown.index,
        Asked(
            video_id=_id(asked),
            n_elements=_length(asked),
            classes=_classes("classes", asked),
            contrast=(contrast[0], contrast[1]) if contrast else None,
        ),
        shown.other if beside else None,
    )


def _figure(figures: Figures, asked: Mapping[str, str]) -> dict[str, Any]:
    return figures.figure(asked.get("name", ""), asked)


def _adjacent(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    # `length` is that of the video; `n` is a filter.
    before, after = adjacent(shown.index, asked, _id(asked), number_of("length", asked.get("length", "")))
    places = {name: page.rows[0] if page.rows else None for name, page in (("previous", before), ("next", after))}
    return {
        name: None if row is None else {"video": row["video_id"], "length": row["n_elements"]}
        for name, row in places.items()
    } | {"total": before.total}


def _further(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    return further_of(shown.index, asked.get("name", ""), _id(asked), _length(asked), _classes("classes", asked))


def _film(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    frames, films = _pictures(shown)
    if asked.get("times") == "1":
        return {"times": frames.times(_id(asked), _length(asked))}
    return films.facts(_id(asked))


def _near(shown: Dashboard, asked: Mapping[str, str]) -> dict[str, Any]:
    frames, _ = _pictures(shown)
    element, stride = number_of("element", asked.get("element", "")), number_of("stride", asked.get("stride") or "1")
    found = frames.near(_id(asked), _length(asked), element, stride)
    return {"frames": [{"step": step, "frame": each.number, "time": each.time} for step, each in found.items()]}


def _frame(shown: Dashboard, asked: Mapping[str, str]) -> Response:
    frames, _ = _pictures(shown)
    step = asked.get("step") or "0"
    data = frames.picture(
        _id(asked),
        _length(asked),
        number_of("element", asked.get("element", "")),
        asked.get("size") or "large",
        (-1 if step.startswith("-") else 1) * number_of("step", step.removeprefix("-")),
        number_of("stride", asked.get("stride") or "1"),
    )
    if data is None:  # not 404, which browsers report as an error of the page
        return Response(status_code=204)
    return Response(data, media_type="image/webp", headers=_AN_HOUR)


def _media(shown: Dashboard, request: Request) -> Response:
    _, films = _pictures(shown)
    part = films.part(_id(request.query_params), request.headers.get("range"), request.headers.get("if-range"))
    return Response(part.data, part.status, part.headers)


def _pictures(shown: Dashboard) -> tuple[Frames, Films]:
    if shown.frames is None or shown.films is None:
        raise SpecError(
            "there are no pictures: start the dashboard with --media LOCATION (pictures, videos, or a table with "
            "thumbnails)"
        )
    return shown.frames, shown.films


def _length(asked: Mapping[str, str]) -> int | None:
    return number_of("n", asked["n"]) if asked.get("n") else None


def _id(asked: Mapping[str, str]) -> str:
    video_id = asked.get("video", "")
    if not 0 < len(video_id) <= _MOST_ID:
        raise SpecError(f"video: expected an id of 1 to {_MOST_ID} characters, got {len(video_id)}")
    return video_id


def _classes(name: str, asked: Mapping[str, str]) -> list[int]:
    """Return the ids of classes in a parameter, each once."""
    return list(dict.fromkeys(number_of(name, each) for each in (asked.get(name) or "").split(",")[:100] if each))


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _place(location: object) -> str:
    return printable(storage.without_credentials(str(location)))
