"""Make the README's picture of the dashboard: a real page of a real output in Chromium.

Run ``python -m tests.support.screenshot`` in a checkout after ``esv demo shapes``. It rewrites
``esv_ray/docs/pictures/dashboard.png``; `tests/dashboard/test_screenshot.py` makes one of another output.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.dashboards import looked_at, served

PICTURE = Path(__file__).parents[2] / "esv_ray" / "docs" / "pictures" / "dashboard.png"
MOST_BYTES = 200_000
"""Most bytes of the picture."""
_WIDTH = 1000  # pixels; a README shows it somewhat smaller
_MARGIN = 16


def screenshot(browser: Browser, output: str, media: str, video_id: str) -> bytes:
    """Return a PNG of the page of a video, from its top to the frames around its most supporting element.

    Args:
        browser: of Playwright.
        output: location of an output.
        media: location of its videos.
        video_id: the video.
    """
    with (
        served(output, media=media) as running,
        looked_at(browser, running, f"/?{urlencode({'video': video_id})}", width=_WIDTH) as opened,
    ):
        page = opened.page
        expect(page.locator(".waiting, [aria-busy]")).to_have_count(0)
        expect(page.get_by_role("button", name="Play the video")).to_be_visible()
        page.locator(".film li").nth(int(page.locator("#near-h").inner_text().split()[3].rstrip(","))).click()
        expect(page.locator("#near-h")).to_contain_text("the most supporting one")
        page.mouse.move(0, 0)
        page.evaluate("() => Promise.all([...document.images].map((image) => image.decode()))")
        page.locator("#where").evaluate("(place, text) => { place.textContent = text; }", Path(output).name)
        box = page.locator(".near").bounding_box()
        assert box is not None, "the section is there"
        bottom = box["y"] + box["height"] + _MARGIN
        data = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": _WIDTH, "height": bottom})
    sink = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(sink, "PNG", optimize=True)
    return sink.getvalue()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.screenshot", description="Make the README's picture."
    )
    parser.add_argument("demo", nargs="?", type=Path, default=Path("esv-shapes"), help="output of esv demo shapes")
    parser.add_argument("--video", default="test-0078", help="video (default: test-0078)")
    parser.add_argument("--output", type=Path, default=PICTURE, help="PNG file to write")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        data = screenshot(browser, str(options.demo / "esv"), str(options.demo / "videos" / "test.csv"), options.video)
        browser.close()
    options.output.write_bytes(data)
    print(f"{options.output}: {len(data)} bytes")


if __name__ == "__main__":
    main()
