"""The findings of a report: which are shown, and that those of noise are not said to be clear of chance."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.tables import chosen, tables_of_facets
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.report.build import content_of
from esv_ray.report.findings import MOST, Findings, findings_of
from esv_ray.report.page import page
from tests.conftest import make_table
from tests.report.opening import Opened, opened
from tests.support.jobs import run
from tests.support.noise import TABLES, noise

MARKS = ("Clear of chance", "Not clear of chance")


def of_output(output: Path, names: list[str] | None = None) -> tuple[Findings, int]:
    """The findings, and how many tables are clear of chance if each is taken alone."""
    analyzed = open_output(str(output))
    with tables_of_facets(analyzed, chosen(analyzed, names)) as made:
        alone = [each.facet.finding(each.table, analyzed) for each in made if each.facet.finding is not None]
        return findings_of([(analyzed, each) for each in made]), sum(
            found is not None and found.clear for found in alone
        )


def of_noise(folder: Path, shape: Shape, outputs: int) -> tuple[int, int]:
    """In how many outputs of noise a finding is clear of chance: as a report says it, and for each table alone."""
    marked = alone = 0
    for seed in range(outputs):
        write_output(str(folder / str(seed)), shape, seed=seed, tables_of=noise)
        found, single = of_output(folder / str(seed))
        assert len(found.shown) == MOST
        marked += any(finding.clear for finding in found.shown)
        alone += single > 0
    return marked, alone


def test_noise_is_not_clear_of_chance(tmp_path: Path) -> None:
    """Labels, predictions, ESVs and curves at random: three findings, none of them marked as clear."""
    marked, _ = of_noise(tmp_path, Shape(40, 4, 3, sampled=False, tables=TABLES), 4)
    assert marked == 0


@pytest.mark.slow
@pytest.mark.parametrize(("videos", "elements", "classes"), [(40, 4, 3), (5, 3, 3)])
def test_one_output_of_noise_in_twenty_at_most_has_a_clear_finding(
    tmp_path: Path, videos: int, elements: int, classes: int
) -> None:
    """The mark holds for a whole report, not for each table: without the correction it would not."""
    outputs = 100
    shape = Shape(videos, elements, classes, sampled=False, tables=TABLES)
    marked, alone = of_noise(tmp_path, shape, outputs)
    assert marked <= 0.05 * outputs
    assert alone > marked


@pytest.mark.slow
def test_the_largest_are_shown(tmp_path: Path) -> None:
    """Three, the largest first, one per table, each with a figure; how many tables were compared is said."""
    write_output(str(tmp_path / "out"), Shape(300, 6, 5, tables=("discards", "replacements")))
    content = content_of(str(tmp_path / "out"))
    assert len(content.findings) == MOST
    sizes = [finding.effect for finding in content.findings]
    assert sizes == sorted(sizes, reverse=True)
    assert len({finding.facet for finding in content.findings}) == len(sizes)
    drawn = {section.name for section in content.sections if section.figure is not None}
    assert {finding.facet for finding in content.findings} <= drawn
    told = re.match(
        r"Of ([0-9]+) tables that can be compared with chance, ([0-9]+|none) (is|are) ", content.findings_note
    )
    assert told is not None
    clear = 0 if told[2] == "none" else int(told[2])
    assert min(clear, MOST) == sum(finding.clear for finding in content.findings) > 0
    assert int(told[1]) <= len(drawn)
    assert f"corrected for {told[1]} comparisons" in " ".join(each.sentence for each in content.findings)


@pytest.mark.slow
def test_those_that_are_not_clear_are_marked(tmp_path: Path) -> None:
    """What noise shows is by chance: still three findings, and the report says what they are."""
    write_output(str(tmp_path / "out"), Shape(40, 4, 3, sampled=False, tables=TABLES), tables_of=noise)
    content = content_of(str(tmp_path / "out"))
    assert [finding.clear for finding in content.findings] == [False] * MOST
    assert re.fullmatch(
        r"Of 1[0-9] tables that can be compared with chance, none is clear of it\. The intervals hold for all of them "
        r"together\. A finding that is not clear of chance describes these videos only: .* are shown\.",
        content.findings_note,
    )
    text = page(content).decode()
    assert text.count("Not clear of chance</p>") == MOST
    assert content.findings_note in text


def test_marks_are_words(report: Opened) -> None:
    """Not color alone: the words come first, also for screen readers; the signs before them are not read."""
    items = report.page.locator(".findings li")
    assert [item.locator("p").first.inner_text()[2:] for item in items.all()] == [MARKS[0], MARKS[0], MARKS[1]]
    assert items.locator("p:first-child [aria-hidden=true]").all_inner_texts() == ["●", "●", "○"]
    for item, mark in zip(items.all(), (MARKS[0], MARKS[0], MARKS[1]), strict=True):
        assert item.locator("p").first.aria_snapshot() == f"- paragraph: {mark}"
    assert items.evaluate_all("all => all.map(each => getComputedStyle(each).borderTopStyle)") == [
        "solid", "solid", "dashed"]  # fmt: skip


def test_few_tables(features: str, bundle: str, tmp_path: Path) -> None:
    """Fewer tables than findings: the report says why. Of several lengths a finding is of the main one."""
    run(features, bundle, tmp_path / "out", "frames=[2,3]", "short=skip")
    videos = open_output(str(tmp_path / "out")).census.videos_of
    assert len(videos) == 2
    main = max(videos, key=lambda n: (videos[n], n))
    found, _ = of_output(tmp_path / "out", ["support", "positions"])
    assert len(found.shown) == 2
    assert found.note.endswith("Fewer than 3 findings are shown: no other table can be compared with chance.")
    for finding in found.shown:
        assert finding.sentence.endswith(f" This is of the {videos[main]} sequences with {main} elements.")


@pytest.mark.parametrize("videos", [1, 2])
def test_too_few_videos(bundle: str, tmp_path: Path, videos: int) -> None:
    """One or two videos give no interval, so no finding; the report says so."""
    pq.write_table(make_table([4] * videos), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    found, _ = of_output(tmp_path / "out")
    assert found.shown == []
    assert found.note.endswith(
        "none is clear of it. No finding is shown: there is no interval, which would need 3 videos that differ."
    )


def test_no_table_at_all(bundle: str, tmp_path: Path, browser: Browser) -> None:
    """All failed: no findings, and no heading without any."""
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    assert of_output(tmp_path / "out")[0] == Findings([], "")
    (tmp_path / "r.html").write_bytes(page(content_of(str(tmp_path / "out"))))
    with opened(browser, tmp_path / "r.html") as report:
        assert report.page.locator("#findings").count() == 0
        assert "there are no findings" in report.page.locator(".notice").inner_text()
