"""Measure when a report is first seen: `python -m tests.support.first_paint FILE.html`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_RUNS = 5
_PAINT = "performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)[0] ?? null"


def first_paints(file: Path, runs: int = _RUNS) -> list[float]:
    """Return the milliseconds to the first contentful paint, of a new page each time."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        times = []
        for _ in range(runs):
            page = browser.new_page()
            page.goto(file.resolve().as_uri())
            page.wait_for_function(f"({_PAINT}) !== null")
            times.append(float(page.evaluate(_PAINT)))
            page.close()
        browser.close()
    return times


if __name__ == "__main__":
    milliseconds = sorted(first_paints(Path(sys.argv[1])))
    print(
        f"first contentful paint: median {milliseconds[len(milliseconds) // 2]:.0f} ms, most {milliseconds[-1]:.0f} ms"
    )
