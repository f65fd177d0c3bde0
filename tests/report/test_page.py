"""A report in a browser: nothing from a network, all marks, keyboard, screen readers, phones, dark screens, paper."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from io import BytesIO
from itertools import pairwise, product
from pathlib import Path

import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

from esv_ray.report.content import ComparisonPart, Report, ShownVideo
from esv_ray.report.page import page
from tests.report.opening import Opened, opened
from tests.support import reports
from tests.support.facet_tables import HOSTILE
from tests.support.slow import slow_tuples_unless

pytestmark = pytest.mark.xdist_group("browser")
FACETS = ("support", "positions", "classes")
UNKNOWN = "\N{EN DASH}"


def save(tmp_path: Path, report: Report) -> Path:
    path = tmp_path / "report.html"
    path.write_bytes(page(report))
    return path


def test_opens_from_disk_without_a_request(report: Opened) -> None:
    assert report.page.title() == reports.report().title
    policy = report.page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert report.page.locator("[style], [onclick], link, iframe, object").count() == 0


def test_the_policy_stops_other_scripts_and_styles(report: Opened) -> None:
    ran = """() => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      document.body.setAttribute('style', 'display: none');
      return [window.ran === true, getComputedStyle(document.body).display];
    }"""
    assert report.page.evaluate(ran) == [False, "block"]
    assert len(report.complaints) == 2
    report.complaints.clear()


def test_every_figure_has_its_marks(report: Opened) -> None:
    for facet in FACETS:
        drawn = report.page.locator(f"#facet-{facet} .drawn")
        figure = reports.figure(facet)
        assert figure.marks > 5
        assert drawn.locator(".wide svg .mark > *").count() == figure.marks
        assert drawn.get_attribute("data-marks") == str(figure.marks)
        assert drawn.locator(".wide svg").get_attribute("aria-label") == figure.alt
        boxes = drawn.locator(".wide svg .mark > *").evaluate_all(
            "marks => marks.filter(mark => mark.getBoundingClientRect().height > 0.5).length"
        )
        assert boxes > figure.marks / 2


def test_every_video_has_its_bars(report: Opened) -> None:
    for number, shown in enumerate(reports.some_videos()):
        article = report.page.locator(f"article[aria-labelledby=video-{number}]")
        classes, n = len(shown.video.classes), shown.video.n
        assert article.locator("svg.bars").count() == classes
        assert article.locator("svg.bars .s, svg.bars .d").count() == classes * n
        assert article.locator("svg.waterfall .s, svg.waterfall .d").count() == classes * n
        bands = sum(0 if each.stderr is None else n for each in shown.video.classes)
        assert article.locator("svg.bars .e").count() == bands
        assert article.locator("details tbody tr").count() == n


def test_bars_have_the_heights_of_their_values(report: Opened) -> None:
    shown = reports.some_videos()[0].video.classes[0]
    bars = report.page.locator("article[aria-labelledby=video-0] svg.bars").first.locator(".s, .d")
    heights = bars.evaluate_all("all => all.map(bar => [bar.classList.contains('s'), bar.height.baseVal.value])")
    largest = max(height for _, height in heights)
    for value, (supports, height) in zip(shown.esv.tolist(), heights, strict=True):
        assert supports == (value > 0)
        assert height / largest == pytest.approx(abs(value) / abs(shown.esv).max(), abs=0.02)


def test_frame_numbers_do_not_overlap(browser: Browser, file: Path) -> None:
    overlapping = """svgs => svgs.filter(svg => {
      const boxes = Array.from(svg.querySelectorAll('.f'), text => text.getBoundingClientRect());
      const shown = boxes.filter(box => box.width > 0);
      return shown.some((box, at) => at && box.left < shown[at - 1].right);
    }).length"""
    for width in (1280, 720, 360):
        with opened(browser, file, width=width) as report:
            assert report.page.locator("svg.plot").evaluate_all(overlapping) == 0


def test_tables_sort_by_keyboard(report: Opened) -> None:
    section = report.page.locator("#facet-classes")
    section.locator("summary").press("Enter")
    head = section.locator("th", has_text="videos").first
    column = 1 + section.locator("th").all_inner_texts().index(head.inner_text())
    head.locator("button").focus()
    for order in ("descending", "ascending"):
        report.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        cells = section.locator(f"tbody td:nth-child({column})").all_inner_texts()
        numbers = [float(cell.replace(",", "")) for cell in cells]
        assert numbers == sorted(numbers, reverse=order == "descending")
    assert section.locator("[aria-sort]").count() == 1


def with_table(tmp_path: Path, table: pa.Table) -> Path:
    """A report of one table, which is on the page."""
    section = replace(reports.section("support"), name="odd", figure=None, main=table)
    return save(tmp_path, replace(reports.report(["support"]), sections=[section]))


def test_numbers_are_sorted_as_numbers(browser: Browser, tmp_path: Path) -> None:
    """Separators, minus signs and powers; what is unknown comes last in either direction."""
    numbers = [9.0, 24_777.0, -0.5, None, 100.0, 1e-9, -1e-7, 0.0, 1e12]
    table = pa.table({"value": numbers, "count": [9, 10_000, 2, 1_000_000, 100, -30, 5, 0, 11]})
    with opened(browser, with_table(tmp_path, table)) as report:
        frame = report.page.locator("#facet-odd .measures")
        for name, column in (("value", 1), ("count", 2)):
            known = sorted(value for value in table.column(name).to_pylist() if value is not None)
            for expected in (known[::-1], known):
                frame.get_by_role("button", name=name).click()
                cells = frame.locator(f"tbody td:nth-child({column})").all_inner_texts()
                told = [cell.replace(",", "").replace("\N{MINUS SIGN}", "-") for cell in cells if cell != UNKNOWN]
                assert [*map(float, told)] == pytest.approx(expected, rel=1e-3)
                assert [cell == UNKNOWN for cell in cells] == [False] * len(known) + [True] * (len(cells) - len(known))


def test_a_number_finds_the_class_of_this_number(browser: Browser, tmp_path: Path) -> None:
    """Not each class with the digit in it; without such a class, each text that has it."""
    classes = [*map(str, range(20)), "pushing 21 things", "walking (2)", "class 3"]
    table = pa.table({"class": classes, "share": [0.1] * len(classes)})
    with opened(browser, with_table(tmp_path, table)) as report:
        frame = report.page.locator("#facet-odd .measures")
        field, rows = frame.get_by_label("Filter by class"), frame.locator("tbody tr:visible td:first-child")
        for typed, found in {"1": ["1"], "2": ["2", "walking (2)"], "3": ["3", "class 3"], "21": ["pushing 21 things"],
                             "WALK 2": ["walking (2)"], "99": []}.items():  # fmt: skip
            field.fill(typed)
            assert rows.all_inner_texts() == found


def test_a_table_without_a_figure_is_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """On screens and on paper; a table that only lies behind a figure is not printed."""
    table = pa.table({"n_elements": [4, 8], "accuracy": [0.5, 0.25]})
    with opened(browser, with_table(tmp_path, table), width=700) as report:
        report.page.emulate_media(media="print")
        assert Axe().run(report.page).response["violations"] == []
        section = report.page.locator("#facet-odd")
        assert section.locator("td:visible").all_inner_texts() == ["4", "0.5", "8", "0.25"]
        assert section.locator("details, .save").locator("visible=true").count() == 0
        frame = section.locator(".measures .scroll")
        assert frame.evaluate(
            "frame => frame.scrollWidth <= frame.clientWidth && frame.scrollHeight <= frame.clientHeight"
        )


def test_sentences_do_not_break_over_pages(browser: Browser, file: Path) -> None:
    with opened(browser, file) as report:
        report.page.emulate_media(media="print")
        texts = report.page.locator("main p:visible, main li:visible, main figcaption:visible, .facts > div")
        assert texts.count() > 30
        assert set(texts.evaluate_all("all => all.map(each => getComputedStyle(each).breakInside)")) == {"avoid"}
        assert report.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_ranking_says_which_of_its_videos_stand_above(browser: Browser, tmp_path: Path) -> None:
    """With links to them; also where all of them do. A filter that hides a video hides its ranking."""
    videos = [
        ShownVideo(reports.video("a"), ["most misled", "worst"], places={"most misled": 1, "worst": 1}),
        ShownVideo(reports.video("b"), ["best"], places={"best": 1}),
        ShownVideo(reports.video("c"), ["best", "most distracted"], places={"best": 2, "most distracted": 2}),
        ShownVideo(reports.video("d"), ["worst", "most distracted"], places={"worst": 2, "most distracted": 1}),
    ]
    rankings = ["most misled", "best", "worst", "most distracted", "most evenly supported"]
    content = replace(reports.report(["support"], videos), rankings=rankings)
    with opened(browser, save(tmp_path, content)) as report:
        groups = report.page.locator("#videos .group")
        assert groups.locator("h3").all_inner_texts() == ["Most misled", "Best", "Worst", "Most distracted"]
        assert report.page.locator(".earlier").all_inner_texts() == [
            "Shown above: 1st a (most misled).",
            "Shown above: 1st d (worst), 2nd c (best).",
        ]
        assert groups.nth(2).locator("h4").all_inner_texts() == ["d"]
        for link, name in zip(report.page.locator(".earlier a").all(), "adc", strict=True):
            assert report.page.locator(str(link.get_attribute("href"))).inner_text() == name
        assert report.page.locator(".why").all_inner_texts() == [
            "1st most misled; also 1st worst",
            "1st best",
            "2nd best; also 2nd most distracted",
            "2nd worst; also 1st most distracted",
        ]
        field = report.page.get_by_label("Filter by class or id")
        field.fill("pushing")
        assert groups.locator("h3:visible").count() == 3, "classes are found, too"
        field.fill("nothing has this")
        assert groups.locator("h3:visible").count() == 0
        field.fill("")
        assert groups.locator("h3:visible").count() == 4


def test_tables_filter_by_class_name(report: Opened) -> None:
    section = report.page.locator("#facet-classes")
    section.locator("summary").click()
    field = section.get_by_label("Filter by class")
    field.focus()
    report.page.keyboard.type("pushing Table")
    rows = section.locator("tbody tr:visible")
    wanted = [name for name in reports.NAMES if "pushing" in name.lower() and "table" in name.lower()]
    assert 0 < rows.count() == len(wanted) < len(reports.NAMES)
    assert section.locator("output").inner_text() == f"{len(wanted)} of {len(reports.NAMES)} rows"
    field.fill("")
    assert rows.count() == len(reports.NAMES)


def test_videos_filter_by_id(report: Opened) -> None:
    report.page.get_by_label("Filter by class or id").fill("000004")
    assert report.page.locator(".video:visible h4").all_text_contents() == ["video-000004"]
    assert report.page.locator(".group:visible").count() == 1


def test_elements_are_stepped_through_by_keyboard(report: Opened) -> None:
    article = report.page.locator("article[aria-labelledby=video-0]")
    slider = article.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext").startswith("element 0, frame 0"), "also before it has the focus"  # type: ignore[union-attr]
    slider.focus()
    for _ in range(3):
        report.page.keyboard.press("ArrowRight")
    text = article.locator(".readout").inner_text()
    esv = reports.some_videos()[0].video.classes[0].esv[3]
    assert "frame 9" in text
    assert f"{esv:+.4f}" in text
    assert slider.get_attribute("aria-valuetext").startswith("element 3, frame 9")  # type: ignore[union-attr]
    bands = article.locator(".plot .at").evaluate_all("all => all.map(each => each.getAttribute('x'))")
    assert set(bands) == {"37.5%"}
    report.page.keyboard.press("End")
    assert "element 7" in article.locator(".readout").inner_text()


def test_the_pointer_chooses_an_element_and_shows_values_of_marks(report: Opened) -> None:
    article = report.page.locator("article[aria-labelledby=video-1]")
    bar = article.locator("svg.bars .s, svg.bars .d").nth(5)
    bar.scroll_into_view_if_needed()
    bar.hover()
    assert "element 5" in article.locator(".readout").inner_text()
    mark = report.page.locator("#facet-positions .wide [data-tip]").nth(2)
    mark.scroll_into_view_if_needed()
    mark.hover()
    assert "share of videos" in report.page.locator(".tip").inner_text()


def test_tooltips_wrap_long_words(browser: Browser, file: Path) -> None:
    """An id or a name without a space stays within the tooltip, and the tooltip on the screen."""
    with opened(browser, file, width=360) as report:
        mark = report.page.locator("#facet-positions .narrow svg rect, #facet-positions .narrow svg path").last
        mark.evaluate("mark => { mark.dataset.tip = 'video: ' + 'x'.repeat(400); }")
        mark.scroll_into_view_if_needed()
        mark.dispatch_event("pointermove", {"bubbles": True, "clientX": 300, "clientY": 200})
        tip = report.page.locator(".tip")
        assert tip.inner_text().endswith("xxx")
        box = tip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert tip.evaluate("tip => tip.scrollWidth <= tip.clientWidth")


def test_csv_is_in_the_file(report: Opened) -> None:
    with report.page.expect_download() as download:
        report.page.locator("#facet-support a[download]").click()
    assert download.value.suggested_filename == "support.csv"
    assert Path(download.value.path()).read_bytes() == reports.section("support").csv


def test_findings_lead_to_their_figures(report: Opened) -> None:
    links = report.page.locator(".findings a")
    assert (
        links.evaluate_all("all => all.map(a => document.querySelector(a.getAttribute('href')) !== null)") == [True] * 3
    )
    assert report.page.locator("nav a").evaluate_all("all => all.every(a => document.querySelector(a.hash))")


@pytest.mark.parametrize("width", [1280, 360])
def test_links_go_where_they_say(browser: Browser, file: Path, width: int) -> None:
    """Sections of unknown height, or a smooth way there, would end somewhere else."""
    with opened(browser, file, width=width) as report:
        for link in report.page.locator("nav a:visible, .findings a").all():
            target = link.get_attribute("href")
            report.page.evaluate("window.scrollTo(0, 0)")
            link.click()
            top, left = report.page.evaluate(
                f"""[document.querySelector({target!r}).getBoundingClientRect().top,
                document.documentElement.scrollHeight - window.innerHeight - window.scrollY]"""
            )
            assert -2 <= top <= 120 or (left < 2 and 0 <= top <= 900), target


@pytest.mark.parametrize(
    ("width", "scheme"),
    slow_tuples_unless(
        lambda width, scheme: (width == 360) == (scheme == "dark"), product((1280, 360), ("light", "dark"))
    ),
)
def test_accessibility(browser: Browser, file: Path, scheme: str, width: int) -> None:
    with opened(browser, file, width=width, scheme=scheme) as report:  # type: ignore[arg-type]
        for summary in report.page.locator("summary").all()[:4]:
            summary.click()
        found = Axe().run(report.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_headings_are_in_order(report: Opened) -> None:
    levels = report.page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(each => Number(each.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_screens_are_not_blank_and_do_not_scroll_sideways(
    browser: Browser, file: Path, scheme: str, width: int
) -> None:
    with opened(browser, file, width=width, scheme=scheme) as report:  # type: ignore[arg-type]
        assert report.page.evaluate("document.documentElement.scrollWidth") == width
        shown = ".wide" if width >= 680 else ".narrow"
        assert report.page.locator(f".drawn {shown} svg:visible").count() == len(FACETS)
        assert report.page.locator(".drawn svg:visible").count() == len(FACETS)
        for anchor in ("#main", "#facet-support", "#videos"):
            report.page.evaluate("anchor => document.querySelector(anchor).scrollIntoView()", anchor)
            image = Image.open(BytesIO(report.page.screenshot())).convert("L")
            dark = sum(image.histogram()[:96]) / (image.width * image.height)
            assert len(image.getcolors(256) or []) > 50, "texts and marks"
            assert dark > 0.6 if scheme == "dark" else dark < 0.4


def test_is_readable_without_scripts(browser: Browser, file: Path) -> None:
    with opened(browser, file, scripts=False) as report:
        assert report.page.locator(".facet .wide svg").count() == len(FACETS)
        assert report.page.locator("input, th button").count() == 0, "nothing that does not work"
        assert "4.1 of 8 elements" in report.page.locator(".findings").inner_text()


def test_prints(report: Opened) -> None:
    pdf = report.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") <= 12
    report.page.emulate_media(media="print", color_scheme="dark")
    svg = report.page.locator(".drawn .wide svg").first
    svg.evaluate("svg => { svg.setAttribute('height', 4 * svg.getAttribute('height')); }")
    most = 170 / 25.4 * 96  # pixels: with its texts, a higher figure would begin on the page after them
    assert svg.bounding_box()["height"] <= most + 1  # type: ignore[index]
    assert report.page.locator(".facet").first.evaluate("each => getComputedStyle(each).breakInside") == "avoid"
    assert report.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert report.page.locator("nav, .tools, .scrub").evaluate_all("all => all.every(each => !each.checkVisibility())")


@pytest.mark.parametrize("pictures", [False, True])
def test_pages_of_paper_are_full(browser: Browser, tmp_path: Path, pictures: bool) -> None:
    """A4 has two videos of two classes below the heading of their ranking, or four of one class (three with pictures).

    A video is not torn, so one that does not fit leaves its place on the page before empty: less than half of it.
    """
    picture = BytesIO()
    Image.new("RGB", (96, 96)).save(picture, "PNG")
    film = [f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"] * 8 if pictures else []

    def some(reason: str, count: int, *, wrong: bool) -> list[ShownVideo]:
        made = [reports.video(f"{reason} {at}", wrong=wrong, seed=at) for at in range(count)]
        return [ShownVideo(each, [reason], film, places={reason: at}) for at, each in enumerate(made, 1)]

    videos = [*some("most misled", 2, wrong=True), *some("best", 3 if pictures else 4, wrong=False)]
    content = replace(reports.report(["support"], videos), rankings=["most misled", "best"])
    width, height = (round(millimeters / 25.4 * 96) for millimeters in (210 - 2 * 15, 297 - 2 * 16))
    with opened(browser, save(tmp_path, content), width=width) as report:
        report.page.emulate_media(media="print")
        for start, end in (("#videos", "#video-1"), ("#videos .group >> nth=1", f"#video-{len(videos) - 1}")):
            first = report.page.locator(start).bounding_box()
            last = report.page.locator("article", has=report.page.locator(end)).bounding_box()
            assert first is not None
            assert last is not None
            assert last["y"] + last["height"] - first["y"] <= height
        overlapping = report.page.locator("svg.plot").evaluate_all("""svgs => svgs.filter(svg => {
          const boxes = Array.from(svg.querySelectorAll('.f'), text => text.getBoundingClientRect());
          const shown = boxes.filter(box => box.width);
          return shown.some((box, at) => at && box.left < shown[at - 1].right);
        }).length""")
        assert overlapping == 0


def test_no_heading_stands_alone_at_the_end_of_a_page(browser: Browser, tmp_path: Path) -> None:
    """Nor does the line below it on videos that stand above, if a video follows; the notes follow the last video."""
    videos = [
        ShownVideo(reports.video("a"), ["best", "worst"], places={"best": 1, "worst": 1}),
        ShownVideo(reports.video("b"), ["worst"], places={"worst": 2}),
        ShownVideo(reports.video("c"), ["best", "odd"], places={"best": 2, "odd": 1}),
    ]
    content = replace(reports.report(["support"], videos), rankings=["best", "worst", "odd"])
    with opened(browser, save(tmp_path, content)) as report:
        report.page.emulate_media(media="print")
        after = "all => all.map(each => getComputedStyle(each).breakAfter)"
        assert report.page.locator(".earlier").evaluate_all(after) == ["avoid", "auto"]
        assert set(report.page.locator("h2, h3, h4").evaluate_all(after)) == {"avoid"}
        assert report.page.locator("#notes").evaluate("each => getComputedStyle(each).breakBefore") == "auto"


def test_hostile_texts_stay_text(browser: Browser, tmp_path: Path) -> None:
    names = [name or "-" for name in HOSTILE]
    base = reports.report(["support"])
    videos = [
        ShownVideo(reports.video(name, 4, names=names[at % 2 :], seed=at), [name, name])
        for at, name in enumerate(names)
    ]
    table = pa.table({"class": names, "videos": list(range(len(names)))})
    section = replace(
        base.sections[0], name=names[0], title=names[1], sentences=names, table=table, csv="\n".join(names).encode(),
        location=names[2], reading=names[7],
    )  # fmt: skip
    hostile = replace(
        base,
        title=names[0],
        notice=names[2],
        facts=[replace(base.facts[0], term=name, text=name) for name in names],
        findings=[replace(base.findings[0], sentence=names[0], facet=names[0])],
        sections=[section],
        videos=videos,
        notes=names,
        comparison=ComparisonPart(names[0], names, table, videos[:1]),
        version=names[0],
    )
    with opened(browser, save(tmp_path, hostile)) as report:
        assert report.page.title() == names[0]
        assert report.page.locator("script").count() == 1
        assert report.page.locator("img").count() == 0
        assert report.page.locator(".video h4").first.text_content() == names[0]
        text = report.page.content()
        assert "\x1b" not in text
        assert "\u202e" not in text
        report.page.locator("summary").first.click()
        assert report.page.locator("tbody td").first.inner_text() == names[0]
        with report.page.expect_download() as download:
            report.page.locator("a[download]").click()
        assert Path(download.value.path()).read_bytes() == "\n".join(names).encode()
        report.page.get_by_label("Filter by class or id").fill("<script>")
        report.page.get_by_role("slider").first.focus()


def test_a_comparison_shows_both_outputs(browser: Browser, tmp_path: Path) -> None:
    changed = ShownVideo(reports.video("v", 8), ["changed"], (), reports.video("v", 8, seed=7))
    table = pa.table({"measure": ["pearson"], "mean": [0.9]})
    part = ComparisonPart("A and B", ["They differ."], table, [changed])
    with opened(browser, save(tmp_path, reports.report(["support"], comparison=part))) as report:
        article = report.page.locator("#comparison article")
        assert article.locator("svg.bars").count() == 4
        assert article.locator(".verdict").count() == 2, "each side has its own"
        article.get_by_role("slider").press("ArrowRight")
        text = article.locator(".readout").inner_text()
        assert "A, this output, " in text
        assert "B, the other output, " in text


def test_an_empty_report(browser: Browser, tmp_path: Path) -> None:
    empty = Report("Nothing", "All videos failed.", [], [], [], [])
    with opened(browser, save(tmp_path, empty)) as report:
        assert "All videos failed." in report.page.locator("main").inner_text()
        assert Axe().run(report.page).response["violations"] == []


def test_pages_have_the_same_bytes() -> None:
    assert page(reports.report(["support"])) == page(reports.report(["support"]))
