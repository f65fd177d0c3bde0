"""Reports and pages of videos with thumbnails: from the table of an extraction, and from the videos themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from esv_ray.cli import cli
from tests.report.opening import opened
from tests.support.videos import write_video

pytestmark = pytest.mark.slow

N = 4
LOADED = "images => images.every(image => image.complete && image.naturalWidth > 8) && images.length"


def esv(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, a table of them with thumbnails and one without, and the ESVs of both."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "clips").mkdir()
    rows = []
    for number in range(8):
        write_video(folder / "clips" / f"clip-{number}.mp4", frames=12 + 3 * number, size=(180, 320))
        rows.append(f"clip-{number},{'up' if number % 2 else 'down'}")
    (folder / "labels.csv").write_text("\n".join(["video_id,label", *rows, ""]))
    for table, options in (("with", ["--thumbnails"]), ("without", [])):
        esv("extract", folder / "clips", "--backbone", "pooled", "--labels", folder / "labels.csv", "--out",
            folder / table, "--frames", N, "--actors", 0, *options)  # fmt: skip
    esv("train", "--features", folder / "with", "--output", folder / "model", "--set", "n_max=2", "--set", "epochs=2",
        "--set", "validation=0.25")  # fmt: skip
    for table in ("with", "without"):
        esv("attribute", "--features", folder / table, "--model", folder / "model", "--output",
            folder / f"esv-{table}", "--set", "cluster.actors=0")  # fmt: skip
    return folder


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize(
    ("output", "media"), [("esv-with", []), ("esv-without", ["--media", "with"]), ("esv-without", ["--media", "clips"])]
)
def test_a_report_has_a_picture_of_each_element(
    output: str, media: list[str], width: int, folder: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    esv("report", output, "--out", "r.html", *media)
    with opened(browser, folder / "r.html", width=width) as seen:
        films = seen.page.locator("ol.film")
        shown = seen.page.locator("article.video").count()
        assert films.count() == shown >= 8
        seen.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        films.last.scroll_into_view_if_needed()
        assert seen.page.locator("ol.film img").evaluate_all(LOADED) == N * shown
        assert_in_time_order(seen.page)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def assert_in_time_order(page: Page) -> None:
    """The pictures of the first video stand beside each other, in the order of the bars."""
    film = page.locator("ol.film").first
    film.scroll_into_view_if_needed()
    boxes = [image.bounding_box() for image in film.locator("img").all()]
    lefts = [box["x"] for box in boxes if box is not None and box["width"] > 8]
    assert len(lefts) == N
    assert lefts == sorted(set(lefts))


@pytest.mark.parametrize(("output", "media"), [("esv-with", []), ("esv-without", ["--media", "clips"])])
def test_a_page_of_a_video_has_a_picture_of_each_element(
    output: str, media: list[str], folder: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert "no picture" not in esv("show", output, "clip-3", "--out", "v.html", *media)
    with opened(browser, folder / "v.html") as seen:
        images = seen.page.locator(".figure.light image")
        assert images.count() == N
        for image in images.all():
            box = image.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 8
    plain = esv("show", "esv-without", "clip-3", "--out", "plain.svg")
    assert "<image" not in (folder / "plain.svg").read_text()
    assert plain == "written: plain.svg\n"
