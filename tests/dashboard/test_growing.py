"""An unfinished output on object storage that grows while it is looked at."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from playwright.sync_api import Browser, expect

from tests.analysis.test_database import copy_to
from tests.support.dashboards import looked_at, served
from tests.support.s3_server import S3Server, client

pytestmark = pytest.mark.xdist_group("s3")


@pytest.mark.slow
def test_grows_on_object_storage_while_it_is_looked_at(
    browser: Browser, output: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says how much is there, offers what is new, and does not change what is read until then."""
    url = f"s3://{s3.bucket}/growing/esv"
    store: fsspec.AbstractFileSystem = client(s3)
    copy_to(store, output, url)
    late = sorted((output / "videos").iterdir())[3:]
    for path in late:
        store.rm(f"{url}/videos/{path.name}")
    store.rm(f"{url}/_SUCCESS")
    with served(url) as running, looked_at(browser, running) as opened:
        page = opened.page
        expect(page.locator("#notice")).to_contain_text("unfinished: 3 of 5 units are committed")
        expect(page.locator(".count")).to_contain_text("192 videos")
        store.pipe(f"{url}/videos/{late[0].name}", late[0].read_bytes())
        update = page.get_by_role("button", name="4 units indexed: update the list")
        expect(update).to_be_visible(timeout=30_000)  # the index and the page look every few seconds
        expect(page.locator(".count")).to_contain_text("192 videos")
        update.click()
        expect(page.locator(".count")).to_contain_text("256 videos")
        expect(page.locator("#notice")).to_contain_text("unfinished: 4 of 5 units are committed")
        store.pipe(f"{url}/videos/{late[1].name}", late[1].read_bytes())
        page.get_by_role("button", name="update the list").click()
        expect(page.locator(".count")).to_contain_text("300 videos")
        expect(page.locator("#notice")).to_be_hidden()
        page.get_by_role("link", name="Figures").click()
        expect(page.locator("#support .wide a").first).to_be_visible(timeout=60_000)
        page.locator("#support .wide a").first.click()
        expect(page.locator(".tag")).to_contain_text("supporting elements")
        page.locator(".videos tbody a").first.click()
        expect(page.locator("svg.bars").first).to_be_visible()
