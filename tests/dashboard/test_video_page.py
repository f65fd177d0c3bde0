"""The page of one video in a browser: playing it, frames around an element, neighbors in the list, further tables."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.dashboards import ELEMENTS, FAILED, FRAMES, RATE, Filmed, Served, looked_at, served
from tests.support.slow import slow_tuples_unless, slow_unless

pytestmark = pytest.mark.xdist_group("browser")
TIMES = [(2 * element + 1) * FRAMES // (2 * ELEMENTS) / RATE for element in range(ELEMENTS)]
SHOW = """([time]) => new Promise((resolve) => {
  const video = document.querySelector("video");
  video.pause();
  video.requestVideoFrameCallback((now, frame) => requestAnimationFrame(() => resolve(frame.mediaTime)));
  video.currentTime = time;
})"""


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def of(video_id: str, **parameters: object) -> str:
    more = "".join(f"&{name}={value}" for name, value in parameters.items())
    return f"/?video={quote(video_id, safe='')}&length={ELEMENTS}{more}"


@pytest.mark.parametrize("video_id", slow_unless(lambda each: each == "two", ["one", "two"]))
def test_the_mark_follows_the_video(browser: Browser, cinema: Served, video_id: str) -> None:
    """At the time of an element its middle is marked; between two elements, the nearer one is looked at."""
    with looked_at(browser, cinema, of(video_id)) as opened:
        page = opened.page
        page.get_by_role("button", name="Play the video").click()
        expect(page.locator("video")).to_be_focused()
        expect(page.locator(".readout")).to_contain_text("element 1")
        assert not page.locator("video").evaluate("video => video.error")
        for wanted in (*TIMES, 0.8, 2.6, 3.9):
            shown = page.evaluate(SHOW, [wanted + 0.5 / RATE])
            assert shown == pytest.approx(wanted, abs=0.02), "a browser may show the frame before, or the one after"
            nearest = min(range(ELEMENTS), key=lambda element: abs(TIMES[element] - shown))
            expect(page.locator(".readout")).to_contain_text(f"element {nearest}")
            marks = page.locator(".plot .now").evaluate_all(
                "all => all.map(each => parseFloat(each.getAttribute('x1')))"
            )
            assert len(set(marks)) == 1
            if wanted in TIMES:
                assert marks[0] == pytest.approx(100 * (TIMES.index(wanted) + 0.5) / ELEMENTS, abs=1)
            else:
                assert 100 * nearest / ELEMENTS - 10 < marks[0] < 100 * (nearest + 1) / ELEMENTS + 10
            expect(page.locator("img.frame")).to_have_attribute("alt", f"frame {round(RATE * TIMES[nearest])}")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("video")).to_be_visible()


@pytest.mark.slow
def test_a_part_of_a_file_is_played(browser: Browser, filmed: Filmed, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"video_id,path,start,end\none,{filmed.videos}/one.mp4,1.0,2.0\n")
    with served(filmed.output, media=str(listed)) as running, looked_at(browser, running, of("one")) as opened:
        page = opened.page
        page.get_by_role("button", name="Play the video").click()
        expect(page.locator("video")).to_have_js_property("paused", value=False)
        expect(page.locator("video")).to_have_js_property("paused", value=True)
        first, last = page.locator("video").evaluate("video => [video.played.start(0), video.currentTime]")
        assert first == pytest.approx(1.0, abs=0.05)
        assert last == pytest.approx(2.0, abs=0.3)
        expect(page.locator("img.frame")).to_have_attribute("alt", re.compile("frame (16|23)"))


def test_what_a_browser_cannot_play_is_said(browser: Browser, cinema: Served) -> None:
    """The pictures of the frames stay."""
    for video_id, clicks, text in (
        ("more/three", 0, "Browsers cannot play .avi files"),
        ("four", 1, "This browser cannot play the video (video/mp4)"),
    ):
        with looked_at(browser, cinema, of(video_id, element=2)) as opened:
            page = opened.page
            for _ in range(clicks):
                page.get_by_role("button", name="Play the video").click()
            expect(page.locator(".player")).to_contain_text(text)
            expect(page.locator("video")).to_have_count(0)
            large = page.locator("img.frame")
            expect(large).to_have_attribute("alt", "frame 16")
            expect(page.locator(".film img")).to_have_count(ELEMENTS)
            assert large.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_frames_around_an_element_by_keyboard(browser: Browser, cinema: Served) -> None:
    with looked_at(browser, cinema, of("one")) as opened:
        page = opened.page
        told = cinema.api("video", video="one", n=ELEMENTS)
        esv = told["classes"][0]["esv"]
        best = max(range(ELEMENTS), key=lambda element: esv[element])
        expect(page.locator("#near-h")).to_have_text(f"Frames around element {best}, the most supporting one")
        expect(page.locator("img.frame")).to_have_attribute("alt", f"frame {told['frames'][best]}")
        page.locator(".film li").nth(2).click()
        expect(page.locator("#near-h")).to_contain_text("Frames around element 2")
        expect(page.locator(".strip li span")).to_have_text([str(frame) for frame in range(12, 21)])
        large = page.locator("img.frame")
        page.keyboard.press(".")
        expect(large).to_have_attribute("alt", "frame 17, 1 after element 2")
        page.keyboard.press(",")
        page.keyboard.press(",")
        expect(large).to_have_attribute("alt", "frame 15, 1 before element 2")
        page.locator(".strip button").first.focus()
        page.keyboard.press("Enter")
        expect(large).to_have_attribute("alt", "frame 12, 4 before element 2")
        assert large.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160
        page.get_by_label("Frames from one to the next").select_option("5")
        expect(page.locator(".strip li span")).to_have_text([str(frame) for frame in range(1, 40, 5)])
        assert asked(page)["stride"] == "5"
        page.reload()
        expect(page.locator(".strip li span")).to_have_text([str(frame) for frame in range(1, 40, 5)])
        expect(page.locator("#near-h")).to_contain_text("Frames around element 2")


@pytest.mark.slow
def test_a_video_without_pictures_has_no_frames_around(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?video=video-00000020") as opened:
        expect(opened.page.locator(".near")).to_contain_text("There are no pictures of frames around it.")
        expect(opened.page.locator(".player")).to_contain_text("There is no video file of this video below --media.")


def test_from_video_to_video_in_the_list(browser: Browser, dashboard: Served) -> None:
    """Keys and links lead along the filtered and sorted list, whose filter and order stay."""
    asks = {"outcome": "wrong", "order": "misled", "descending": 1}
    rows = dashboard.api("videos", **asks, rows=200)["rows"]
    ids = [row["video_id"] for row in rows]
    with looked_at(
        browser,
        dashboard,
        f"/?outcome=wrong&order=misled&descending=1&video={ids[1]}&element=3&classes={rows[1]['label']}",
    ) as opened:
        page = opened.page
        expect(page.locator(".adjacent")).to_contain_text(f"of {len(ids)} videos")
        page.keyboard.press("]")
        expect(page.locator("h1")).to_have_text(ids[2])
        assert asked(page) == {"outcome": "wrong", "order": "misled", "descending": "1", "video": ids[2], "length": "6"}
        page.locator("#next").click()
        expect(page.locator("h1")).to_have_text(ids[3])
        for expected in (ids[2], ids[1], ids[0]):
            expect(page.locator("#previous")).to_be_visible()
            page.keyboard.press("[")
            expect(page.locator("h1")).to_have_text(expected)
        expect(page.locator(".adjacent .none")).to_contain_text("Previous [")
        page.keyboard.press("[")
        expect(page.locator("h1")).to_have_text(ids[0])
        page.go_back()
        expect(page.locator("h1")).to_have_text(ids[1])
        page.get_by_text("← Videos").click()
        expect(page.locator(".count")).to_contain_text(f"{len(ids)} videos")


@pytest.mark.slow
def test_a_video_without_esvs_is_passed_by(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?video=video-00000062") as opened:
        page = opened.page
        for video_id in (FAILED, "video-00000064"):
            expect(page.locator("#next")).to_be_visible()
            page.keyboard.press("]")
            expect(page.locator("h1")).to_have_text(video_id)
        expect(page.locator(".panels svg.bars").first).to_be_visible()


def test_further_tables_of_a_video(browser: Browser, cinema: Served) -> None:
    with looked_at(browser, cinema, of("one", classes="0,1")) as opened:
        page = opened.page
        for name in ("Interactions of pairs", "Marginals by length"):
            section = page.get_by_role("region", name=name)
            expect(section.locator("svg.grid")).to_have_count(2)
        pairs = cinema.api("further", name="interactions", video="one", n=ELEMENTS, classes="0,1")["classes"]
        cells = page.get_by_role("region", name="Interactions of pairs").locator("svg.grid").first.locator(".s, .d")
        assert cells.count() == ELEMENTS * (ELEMENTS - 1), "each pair twice, none with itself"
        shares = cells.evaluate_all(
            "all => all.map(each => [each.classList.contains('s'), Number(each.getAttribute('fill-opacity'))])"
        )
        most = max(abs(value) for each in pairs for value in each["values"])
        first = pairs[0]["values"][: ELEMENTS - 1]
        assert [supports for supports, _ in shares[: ELEMENTS - 1]] == [value > 0 for value in first]
        assert [share for _, share in shares[: ELEMENTS - 1]] == pytest.approx(
            [abs(value) / most for value in first], abs=0.001
        )
        box = page.get_by_role("region", name="Interactions of pairs").locator("svg.grid").first
        box.hover(position={"x": 3, "y": 3 + 24})
        expect(
            page.get_by_role("region", name="Interactions of pairs").locator("figure .reading").first
        ).to_contain_text("Elements 1 and 0:")
        expect(page.locator(".readout")).to_contain_text("element 0")
        taken = page.get_by_role("region", name="Elements taken away")
        enough = cinema.api("further", name="discards", video="one", n=ELEMENTS)["enough"]
        names = cinema.api("output")["names"]
        expect(taken.locator(".says")).to_contain_text(names[enough["predicted"]])
        expect(taken.locator(".says")).to_contain_text(names[enough["without"]])
        expect(taken.locator(".chip")).to_have_text([str(element) for element in enough["elements"]])
        expect(taken.locator("polyline")).to_have_count(6)
        taken.locator(".chip").last.click()
        expect(page.locator(".readout")).to_contain_text(f"element {enough['elements'][-1]}")
        of_methods = page.get_by_role("region", name="Methods")
        expect(of_methods.locator(".heat-row")).to_have_count(2 * 3)
        assert [each.split(",")[0] for each in of_methods.locator(".heat-row .class").all_inner_texts()[:3]] == [
            "ESV",
            "occlusion",
            "random",
        ]
        assert page.locator("#lacking-h").count() == 0


@pytest.mark.slow
def test_a_missing_table_says_how_to_make_it(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?video=video-00000010") as opened:
        section = opened.page.get_by_role("region", name="Further tables")
        expect(section).to_contain_text("--set 'tables=[interactions,marginals,discards]'")
        expect(section).to_contain_text("--set estimator.kind=exact")
        expect(section).to_contain_text("--set 'methods=[esv,occlusion,integrated_gradients]'")


@pytest.mark.slow
def test_classes_and_lengths(browser: Browser, cinema: Served) -> None:
    """A click among the scores adds a class, and the slider leads to another length of the same video."""
    with looked_at(browser, cinema, of("one")) as opened:
        page = opened.page
        shown = [each["class"] for each in cinema.api("video", video="one", n=ELEMENTS)["classes"]]
        page.locator(".top-scores a.class").first.click()
        expect(page.locator(".panels svg.bars")).to_have_count(len(shown) + 1)
        assert asked(page)["classes"].split(",")[:-1] == [str(each) for each in shown]
        page.locator("#lengths").press("ArrowLeft")
        expect(page.locator(".film img")).to_have_count(ELEMENTS - 2)
        assert asked(page)["length"] == str(ELEMENTS - 2)
        expect(page.locator(".panels svg.bars")).to_have_count(len(shown) + 1)


@pytest.mark.slow
def test_two_outputs_have_both_values(browser: Browser, filmed: Filmed) -> None:
    with (
        served(filmed.output, media=filmed.videos, compare=filmed.output) as running,
        looked_at(browser, running, of("one", beside=1, element=1)) as opened,
    ):
        told: dict[str, Any] = running.api("video", video="one", n=ELEMENTS, beside=1)
        value = f"{told['other']['classes'][0]['esv'][1]:+.4f}".replace("-", "\N{MINUS SIGN}")
        expect(opened.page.locator(".readout")).to_contain_text("B: ")
        assert opened.page.locator(".readout").inner_text().count(value) == 2
        opened.page.get_by_role("button", name="Play the video").click()
        expect(opened.page.locator(".readout")).to_contain_text("element 3")


SCREENS = [(width, scheme) for width in (1280, 360) for scheme in ("light", "dark")]


@pytest.mark.parametrize(("width", "scheme"), slow_tuples_unless(lambda *each: each == (360, "light"), SCREENS))
def test_screens(browser: Browser, cinema: Served, width: int, scheme: Literal["light", "dark"]) -> None:
    """With everything that a page can have: nothing is wider than the screen, and axe finds nothing."""
    with looked_at(
        browser, cinema, of("one", element=2, classes="0,1,2", contrast="0,1"), width=width, scheme=scheme
    ) as opened:
        page = opened.page
        page.get_by_role("button", name="Play the video").click()
        page.evaluate(SHOW, [TIMES[3]])
        expect(page.locator("#near-h")).to_contain_text("element 3")
        expect(page.locator(".further .waiting, .strip[aria-busy]")).to_have_count(0)
        expect(page.locator(".strip img")).to_have_count(9)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
        levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(each => Number(each.tagName[1]))")
        assert all(after <= before + 1 for before, after in pairwise(levels))
        image = Image.open(BytesIO(page.screenshot())).convert("L")
        dark = sum(image.histogram()[:96]) / (image.width * image.height)
        assert dark > 0.5 if scheme == "dark" else dark < 0.4
