"""Take the pages of the documentation apart: code blocks, commands, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "esv_ray" / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(DOCS.rglob("*.md")),
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("jobs/*/README.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .*\n)+", flags=re.MULTILINE)


def page_name(page: Path) -> str:
    """Return the name of a page for the ids of tests."""
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return [code for kind, code in _FENCE.findall(text) if kind == language]


def shell_lines(text: str) -> Iterator[str]:
    """Yield the commands of shell blocks, fenced with `sh` or indented by four spaces; continued lines are joined."""
    indented = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in _INDENTED.findall(_FENCE.sub("", text))]
    for block in [*blocks(text, "sh"), *(block for block in indented if not block.startswith("import "))]:
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.strip()


def inline_commands(text: str) -> Iterator[str]:
    """Yield the commands `esv ...` that a sentence or a table names."""
    yield from re.findall(r"`(esv [a-z][^`\n]*)`", _FENCE.sub("", text))


def links(text: str) -> Iterator[tuple[str, str]]:
    """Yield (target, anchor) of each relative link; the target is empty for the page itself."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", _FENCE.sub("", text)):
        if ":" not in target:
            yield target, anchor


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
