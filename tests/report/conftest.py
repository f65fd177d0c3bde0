"""Reports as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from esv_ray.report.page import page
from tests.report.opening import Opened, opened
from tests.support import reports


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
