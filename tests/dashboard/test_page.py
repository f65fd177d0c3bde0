"""The dashboard in a browser: finding videos, looking at one, addresses, keyboard, screens, hostile data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from esv_ray.bench.outputs import Shape, write_output
from tests.dashboard.conftest import SHAPE
from tests.report.opening import Opened
from tests.support.dashboards import FAILED, NEW_IDS, Served, looked_at, made_up, served
from tests.support.facet_tables import HOSTILE
from tests.support.slow import slow_tuples_unless, slow_unless

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def videos(browser: Browser, dashboard: Served) -> Iterator[Opened]:
    """The list of videos."""
    with looked_at(browser, dashboard) as opened:
        yield opened


@pytest.fixture(scope="module")
def wrong(dashboard: Served) -> dict[str, Any]:
    """The row of the most misled video."""
    row: dict[str, Any] = dashboard.api("videos", outcome="wrong", order="misled", descending=1)["rows"][0]
    return row


def ids(page: Page) -> list[str]:
    links = page.locator(".videos tbody a").evaluate_all("links => links.map(link => link.href)")
    return [parse_qs(urlsplit(link).query)["video"][0] for link in links]


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_finds_videos(videos: Opened, dashboard: Served) -> None:
    page = videos.page
    expect(page.locator(".count")).to_contain_text("300 videos")
    assert len(ids(page)) == 50
    page.keyboard.press("/")
    page.keyboard.type("0012")
    expect(page.locator(".count")).to_contain_text("11 videos")
    assert ids(page) == [f"video-{number:08d}" for number in (12, *range(120, 130))]
    assert page.locator("#search").evaluate("field => field === document.activeElement"), "typing can go on"
    page.get_by_label("Outcome").select_option("wrong")
    wanted = dashboard.api("videos", q="0012", outcome="wrong")
    expect(page.locator(".count")).to_contain_text(f"{wanted['total']} video")
    assert ids(page) == [row["video_id"] for row in wanted["rows"]]
    assert asked(page) == {"q": "0012", "outcome": "wrong"}
    page.go_back()
    expect(page.locator(".count")).to_contain_text("11 videos")
    page.get_by_text("Remove all filters").click()
    expect(page.locator(".count")).to_contain_text("300 videos")


@pytest.mark.slow
def test_filters_by_class_name(videos: Opened, dashboard: Served) -> None:
    page = videos.page
    field = page.get_by_label("Class", exact=True)
    field.fill("class of things 1")
    field.press("Enter")
    wanted = dashboard.api("videos", **{"class": 11})
    expect(page.locator(".count")).to_contain_text(f"{wanted['total']} videos")
    page.get_by_label("Class is the").select_option("predicted")
    wanted = dashboard.api("videos", predicted=11)
    expect(page.locator(".count")).to_contain_text(f"{wanted['total']} videos")
    assert page.get_by_label("Class", exact=True).input_value() == "class of things 1"
    field.fill("no such class")
    field.press("Enter")
    assert page.locator("input:invalid").count() == 1
    assert asked(page) == {"predicted": "11"}


def test_sorts_and_pages(videos: Opened, dashboard: Served) -> None:
    page = videos.page
    page.get_by_role("button", name="Misled").click()
    head = page.locator("th", has_text="Misled")
    expect(head).to_have_attribute("aria-sort", "descending")
    order = dashboard.api("videos", order="misled", descending=1, rows=100)["rows"]
    assert ids(page) == [row["video_id"] for row in order[:50]]
    page.get_by_text("Next").click()
    expect(page.locator(".videos tbody a").first).to_have_text(order[50]["video_id"])
    assert ids(page) == [row["video_id"] for row in order[50:]]
    page.get_by_text("Previous").click()
    expect(page.locator(".videos tbody a").first).to_have_text(order[0]["video_id"])
    page.get_by_role("button", name="Misled").click()
    expect(head).to_have_attribute("aria-sort", "ascending")


def test_the_whole_way_by_keyboard(videos: Opened, wrong: dict[str, Any]) -> None:
    page = videos.page
    page.get_by_role("button", name="Misled").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th", has_text="Misled")).to_have_attribute("aria-sort", "descending")
    page.locator(".videos tbody a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(wrong["video_id"])
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".readout")).to_contain_text("element 2")
    expect(page).to_have_url(re.compile("element=2$"))
    bands = page.locator(".plot .at").evaluate_all("all => all.map(each => each.getAttribute('x'))")
    assert len(bands) == 6, "two bars, two waterfalls, two rows of the map"
    assert len(set(bands)) == 1
    page.keyboard.press("End")
    expect(page.locator(".readout")).to_contain_text("element 5")
    page.get_by_text("← Videos").press("Enter")
    expect(page.locator("th", has_text="Misled")).to_have_attribute("aria-sort", "descending")


def test_a_video_has_its_bars(browser: Browser, dashboard: Served, wrong: dict[str, Any]) -> None:
    with looked_at(browser, dashboard, f"/?video={wrong['video_id']}") as opened:
        page = opened.page
        told = dashboard.api("video", video=wrong["video_id"])
        for place, each in enumerate(told["classes"]):
            bars = page.locator("svg.bars").nth(place).locator(".s, .d")
            drawn = bars.evaluate_all("all => all.map(bar => [bar.classList.contains('s'), bar.height.baseVal.value])")
            assert [supports for supports, _ in drawn] == [value > 0 for value in each["esv"]]
            assert page.locator("svg.bars").nth(place).locator(".e").count() == 6
        expect(page.locator(".verdict")).to_have_text("✗ Misclassified")
        page.locator("svg.bars").first.hover(position={"x": 5, "y": 40})
        expect(page.locator(".readout")).to_contain_text("element 0")
        value, error = told["classes"][0]["esv"][0], told["classes"][0]["stderr"][0]
        expect(page.locator(".readout")).to_contain_text(f"{value:+.4f} ± {error:.4f}".replace("-", "\N{MINUS SIGN}"))


@pytest.mark.slow
def test_contrast_and_classes_are_in_the_address(browser: Browser, dashboard: Served, wrong: dict[str, Any]) -> None:
    with looked_at(browser, dashboard, f"/?video={wrong['video_id']}") as opened:
        page = opened.page
        page.get_by_role("button", name="Show the contrast").click()
        expect(page.locator(".contrast svg.bars")).to_be_visible()
        assert asked(page)["contrast"] == f"{wrong['label']},{wrong['predicted']}"
        assert page.locator(".contrast .e").count() == 6
        page.locator(".remove").last.click()
        expect(page.locator(".panels svg.bars")).to_have_count(1)
        assert asked(page)["classes"] == str(wrong["label"])
        page.locator(".heat-row a").click()
        expect(page.locator(".panels svg.bars")).to_have_count(2)
        assert asked(page)["classes"] == f"{wrong['label']},{wrong['predicted']}"
        link = page.url
        page.go_back()
        expect(page.locator(".panels svg.bars")).to_have_count(1)
        page.go_forward()
        expect(page.locator(".panels svg.bars")).to_have_count(2)
    with looked_at(browser, dashboard, link.removeprefix(dashboard.url)) as opened:
        expect(opened.page.locator(".panels svg.bars")).to_have_count(2)
        expect(opened.page.locator(".contrast svg.bars")).to_have_count(1)


@pytest.mark.slow
def test_frames_are_in_step(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?video=video-00000010&element=4") as opened:
        page = opened.page
        expect(page.locator(".film img")).to_have_count(6)
        large = page.locator("img.frame")
        expect(large).to_have_attribute("alt", "frame 4")
        page.locator(".film li").nth(1).click()
        expect(large).to_have_attribute("alt", "frame 1")
        assert "element=1&size=large" in (large.get_attribute("src") or "")
        assert large.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.slow
def test_a_video_without_pictures_says_so(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?video=video-00000020&element=0") as opened:
        expect(opened.page.locator(".large")).to_contain_text("No picture of frame 0.")


@pytest.mark.slow
def test_what_is_missing_is_said(browser: Browser, dashboard: Served) -> None:
    for path, text in (
        ("/?video=none", "expected a video of the output, got 'none'"),
        (f"/?video={FAILED}", "Status: failed. <b>NaN</b> in its features"),
        ("/?q=nothing+has+this+id", "No videos match"),
        ("/?order=none", "order: expected one of"),
    ):
        with looked_at(browser, dashboard, path) as opened:
            expect(opened.page.locator("main")).to_contain_text(text)
            opened.complaints.clear()  # Chromium tells of answers that refuse


@pytest.mark.parametrize("video_id", slow_unless(lambda video_id: video_id == HOSTILE[0], NEW_IDS.values()))
def test_hostile_data_stays_text(browser: Browser, dashboard: Served, video_id: str) -> None:
    with looked_at(browser, dashboard, f"/?q={quote(video_id)}") as opened:
        page = opened.page
        page.locator(".videos a").click()
        expect(page.locator(".facts")).to_be_visible()
        assert asked(page)["video"] == video_id
        assert page.locator("main script, main img[onerror], main b > img").count() == 0
        text = page.content()
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_the_policy_stops_other_scripts(videos: Opened) -> None:
    ran = """() => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      document.body.setAttribute('style', 'display: none');
      document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2:1/x' }));
      return [window.ran === true, getComputedStyle(document.body).display];
    }"""
    assert videos.page.evaluate(ran) == [False, "block"]
    assert len(videos.complaints) == 3
    videos.complaints.clear()
    videos.requests.clear()


@pytest.mark.slow
def test_the_token_is_not_in_the_address(browser: Browser, output: Path) -> None:
    token = "0123456789abcdef-secret"
    with served(str(output), token=token) as running:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{running.url}/?outcome=wrong&token={token}")
        expect(page.locator(".videos tbody tr").first).to_be_visible()
        assert page.url == f"{running.url}/?outcome=wrong"
        page.reload()
        expect(page.locator(".videos tbody tr").first).to_be_visible()
        context.clear_cookies()
        page.reload()
        expect(page.locator("h1")).to_have_text("Token needed")
        context.close()


@pytest.mark.slow
def test_an_output_that_grows(browser: Browser, output: Path, tmp_path: Path) -> None:
    growing = tmp_path / "esv"
    shutil.copytree(output, growing)
    (growing / "_SUCCESS").unlink()
    late = sorted((growing / "videos").iterdir())[3:]
    for path in late:
        path.rename(tmp_path / path.name)
    with served(str(growing)) as running, looked_at(browser, running) as opened:
        page = opened.page
        expect(page.locator("#notice")).to_contain_text("unfinished: 3 of 5 units are committed")
        expect(page.locator(".count")).to_contain_text("192 videos")
        for path in late:
            (tmp_path / path.name).rename(path)
        page.get_by_role("button", name="update the list").click()
        expect(page.locator(".count")).to_contain_text("300 videos")
        expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.slow
def test_two_outputs_beside_each_other(browser: Browser, output: Path, tmp_path: Path) -> None:
    other = made_up(tmp_path / "other", SHAPE, seed=1)
    with served(str(output), compare=str(other)) as running:
        video_id = "video-00000030"
        with looked_at(browser, running, f"/?video={video_id}") as opened:
            page = opened.page
            page.get_by_text(f"Show beside {other}").click()
            expect(page.locator(".side")).to_have_text([f"A, {output}", f"B, {other}"])
            told = running.api("video", video=video_id, beside=1)
            assert page.locator("svg.bars").count() == len(told["classes"]) + len(told["other"]["classes"])
            page.keyboard.press("ArrowRight")
            bands = page.locator("svg.bars .at").evaluate_all("all => all.map(each => each.getAttribute('width'))")
            assert None not in bands


@pytest.mark.slow
def test_slides_through_lengths(browser: Browser, tmp_path: Path) -> None:
    """The slider is there if there are several lengths."""
    write_output(str(tmp_path / "esv"), Shape(videos=3, elements=4, n_classes=3))
    with served(str(tmp_path / "esv")) as running:
        index = running.shown.index
        index._con.execute("INSERT INTO listed SELECT * REPLACE (2 AS n_elements) FROM listed")
        with looked_at(browser, running, "/?video=video-00000001") as opened:
            slider = opened.page.get_by_label("Number of elements")
            assert slider.get_attribute("max") == "1"
            assert slider.input_value() == "1"
            expect(opened.page.locator(".lengths output")).to_have_text("4 elements")


@pytest.mark.slow
def test_figures_lead_to_videos(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard, "/?outcome=wrong") as opened:
        page = opened.page
        page.get_by_role("link", name="Figures").click()
        expect(page.locator("main [aria-busy]")).to_have_count(0, timeout=120_000)
        assert asked(page) == {"outcome": "wrong", "view": "figures"}
        expect(page.locator("section.facet .wide svg")).to_have_count(7, timeout=120_000)
        wanted = dashboard.api("figure", name="support", outcome="wrong")
        assert page.locator("#support .says").inner_text() == wanted["sentences"][0]
        bar = page.locator("#support .wide a").first
        shown = _videos_of(bar)
        bar.click()
        expect(page.locator("h1")).to_have_text("Videos")
        expect(page.locator(".count")).to_contain_text(f"{shown} video")
        expect(page.locator(".tag")).to_contain_text("supporting elements")
        page.go_back()
        expect(page.locator("h1")).to_have_text("Figures")
        cell = page.locator(".matrix td a").first
        count = cell.inner_text()
        cell.click()
        expect(page.locator(".count")).to_contain_text(f"{count} video")
        assert {"label", "predicted"} <= set(asked(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("positions", "most supporting element"),
        ("profiles", "with ESVs"),
        ("pairs", "ESV of element 0 > element 1"),
        ("classes", "class explained"),
        ("confusions", "predicted"),
    ],
)
def test_marks_lead_to_as_many_videos_as_they_tell(browser: Browser, dashboard: Served, name: str, tag: str) -> None:
    """The filters of the page stay, and back and forward lead from the videos to the figure and to the videos."""
    with looked_at(browser, dashboard, "/?view=figures&over=1,2&supporting=1..4") as opened:
        page = opened.page
        bar = page.locator(f"#{name} .wide a").first
        shown = _videos_of(bar)
        bar.scroll_into_view_if_needed()
        bar.click(force=True)  # another mark of its row, which leads to the same videos, may lie above its middle
        expect(page.locator(".count")).to_contain_text(f"{shown} video")
        expect(page.locator(".tags")).to_contain_text(tag)
        expect(page.locator(".tags")).to_contain_text("ESV of element 1 > element 2")
        expect(page.locator(".tags")).to_contain_text("supporting elements: 1–4")  # noqa: RUF001
        there = asked(page)
        page.go_back()
        expect(page.locator("h1")).to_have_text("Figures")
        page.go_forward()
        expect(page.locator(".count")).to_contain_text(f"{shown} video")
        assert asked(page) == there


@pytest.mark.slow
def test_a_bar_of_a_misled_video_leads_to_its_element(
    browser: Browser, dashboard: Served, wrong: dict[str, Any]
) -> None:
    with looked_at(browser, dashboard, "/?view=figures&outcome=wrong") as opened:
        page = opened.page
        expect(page.locator("#contrasts .wide a").nth(3)).to_be_visible(timeout=120_000)
        page.locator("#contrasts .wide a").nth(3).focus()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(wrong["video_id"])
        expect(page.locator(".readout")).to_contain_text("element 3")
        page.go_back()
        expect(page.locator("h1")).to_have_text("Figures")
        assert asked(page) == {"view": "figures", "outcome": "wrong"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
def test_marks_by_keyboard(browser: Browser, dashboard: Served, width: int) -> None:
    """Tab leads to one mark of a figure, arrow keys to all others, each of which has a name; Enter shows its videos."""
    with looked_at(browser, dashboard, "/?view=figures&outcome=wrong", width=width) as opened:
        page = opened.page
        expect(page.locator("main [aria-busy]")).to_have_count(0, timeout=120_000)
        for section in ("support", "positions", "profiles", "pairs", "classes", "confusions"):
            svg = page.locator(f"#{section} svg:visible")
            assert svg.get_attribute("role") == "group"
            links = svg.locator("a:not([aria-hidden])")
            assert svg.locator("a[tabindex='0']").count() == 1
            names = [each.get_attribute("aria-label") or "" for each in links.all()]
            assert len(set(names)) == len(names) > 4
            assert all("videos: " in name for name in names)
            svg.locator("a[tabindex='0']").focus()
            reached = {_focused(page)}
            down = {"support": "ArrowRight", "positions": "ArrowRight", "profiles": "ArrowRight"}.get(
                section, "ArrowDown"
            )
            for _ in names:
                page.keyboard.press(down)
                reached.add(_focused(page))
                if section == "pairs":
                    for key in (*["ArrowRight"] * 5, "Home"):
                        page.keyboard.press(key)
                        reached.add(_focused(page))
                    for _ in range(len(reached) // 5):
                        page.keyboard.press("ArrowDown")
            assert reached <= set(names)
            assert len(reached) >= (len(names) if section != "pairs" else 25)
            assert page.locator(f"#{section} .tip:visible").count() == 1
            page.keyboard.press("End")
            assert _focused(page) == names[-1]
            assert svg.locator("a[tabindex='0']").count() == 1
        name = _focused(page)
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Videos")
        expect(page.locator(".count")).to_contain_text(f"{name.split(', videos: ')[1].split(', ')[0]} video")


@pytest.mark.slow
def test_filters_by_what_led_to_scores(browser: Browser, dashboard: Served) -> None:
    with looked_at(browser, dashboard) as opened:
        page = opened.page
        page.get_by_text("More filters").click()
        for label, value in (("Misled from", "0.05"), ("Distracted to", "0.15"), ("Evidential from", "-0.1")):
            page.get_by_label(label).fill(value)
            page.get_by_label(label).press("Enter")
            expect(page.get_by_label(label)).to_have_value(value)
        want = {"misled": "0.05..", "distracted": "..0.15", "evidential": "-0.1.."}
        assert asked(page) == want
        total = dashboard.api("videos", **want)["total"]
        assert 0 < total < 300
        expect(page.locator(".count")).to_contain_text(f"{total} video")
        expect(page.get_by_label("Misled to")).to_be_visible()
        page.reload()
        expect(page.locator(".count")).to_contain_text(f"{total} video")
        expect(page.get_by_label("Misled from")).to_have_value("0.05")
        page.get_by_label("Frames from").fill("-1")
        page.get_by_label("Frames from").press("Enter")
        assert page.locator("input:invalid").count() == 1
        assert asked(page) == want


def _videos_of(mark: Locator) -> str:
    """The number of videos that a mark tells."""
    found = re.search(r", videos: ([0-9,]*[0-9])", mark.get_attribute("aria-label") or "")
    assert found is not None
    return found[1]


def _focused(page: Page) -> str:
    name: str = page.evaluate("document.activeElement.getAttribute('aria-label')")
    return name


PATHS = ("/", "/?video=WRONG&element=1&contrast=CLASSES", "/?video=video-00000010", "/?view=figures&outcome=wrong")
SCREENS = list(product(PATHS, (1280, 768, 360), ("light", "dark")))
KEPT = [(PATHS[0], 1280, "light"), (PATHS[1], 360, "dark")]


@pytest.mark.parametrize(("path", "width", "scheme"), slow_tuples_unless(lambda *each: each in KEPT, SCREENS))
def test_screens(
    browser: Browser, dashboard: Served, wrong: dict[str, Any], path: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Nothing is wider than the screen, headings are in order, and axe finds nothing."""
    path = path.replace("WRONG", wrong["video_id"]).replace("CLASSES", f"{wrong['label']},{wrong['predicted']}")
    with looked_at(browser, dashboard, path, width=width, scheme=scheme) as opened:
        page = opened.page
        expect(page.locator("main [aria-busy]")).to_have_count(0, timeout=120_000)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
        levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(each => Number(each.tagName[1]))")
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        image = Image.open(BytesIO(page.screenshot())).convert("L")
        dark = sum(image.histogram()[:96]) / (image.width * image.height)
        assert dark > 0.6 if scheme == "dark" else dark < 0.4


@pytest.mark.slow
def test_names_are_text_everywhere(browser: Browser, dashboard: Served) -> None:
    """Class names with markup are shown as they are, in the list and on the page of a video."""
    row = dashboard.api("videos", label=0)["rows"][0]
    with looked_at(browser, dashboard, f"/?label=0&video={quote(row['video_id'])}") as opened:
        page = opened.page
        expect(page.locator(".facts dd").first).to_have_text(HOSTILE[0])
        page.get_by_text("← Videos").click()
        expect(page.locator(".videos tbody td").first).to_have_text(HOSTILE[0])
