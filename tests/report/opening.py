"""Open a report from disk, and note what it asks for and complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Dialog, Page


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: of Playwright.
        requests: URLs that it asked for, but its own file and data in it.
        complaints: console messages, violations of the policy, and errors of scripts.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Dialog) -> None:
        """Close what a script opened, and note it."""
        self.complaints.append(dialog.message)
        dialog.dismiss()


@contextmanager
def opened(
    browser: Browser,
    file: Path,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> Iterator[Opened]:
    """Open a file; it must ask for nothing and complain of nothing until it is closed."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    seen = Opened(page)
    own = file.as_uri()
    page.on("request", lambda each: None if each.url.startswith((own, "data:")) else seen.requests.append(each.url))
    page.on("console", lambda each: seen.complaints.append(each.text))
    page.on("pageerror", lambda each: seen.complaints.append(str(each)))
    page.on("dialog", seen.dismiss)
    page.goto(own)
    try:
        yield seen
        assert seen.requests == []
        assert seen.complaints == []
    finally:
        context.close()
