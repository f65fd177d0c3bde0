"""A browser, one per process; reports as files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from esv_ray.report.page import page
from tests.report.opening import Opened, opened
from tests.support import reports


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of some figures and videos."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(page(reports.report()))
    return path


@pytest.fixture
def report(browser: Browser, file: Path) -> Iterator[Opened]:
    """The report in a browser, as a page of 1280 pixels in light colors."""
    with opened(browser, file) as page_opened:
        yield page_opened
