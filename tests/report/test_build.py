"""Reports of outputs: what they say equals what esv analyze, verify and compare say; odd and hostile outputs."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.compare import compare
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.tables import analyze
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.errors import DataError, EsvError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.output.manifest import Manifest, existing_manifest
from esv_ray.output.verify.output import verify_output
from esv_ray.report.build import content_of, report
from esv_ray.report.content import Fact, Report
from esv_ray.report.facts import _lengths
from esv_ray.report.page import page
from esv_ray.report.sections import MOST_ROWS, READING, of_few_lengths
from esv_ray.report.videos import video_html
from tests.conftest import make_heads, make_prior, make_table
from tests.support.facet_tables import HOSTILE
from tests.support.jobs import run


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.ids: set[str | None] = set()
        self.text = ""
        self.feed(data.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        self.text += data


def check_inert(data: bytes) -> Tags:
    """One script, no handlers, no control characters."""
    tags = Tags(data)
    assert tags.names.count("script") == 1
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert not set(data) & {*range(9), 11, 12, *range(14, 32), 127}
    return tags


def fact(content: Report, term: str) -> Fact:
    (found,) = (each for each in content.facts if each.term == term)
    return found


pytestmark = pytest.mark.xdist_group("report")  # they share two outputs and a report


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two outputs of the same videos, all of four elements: exact and sampled."""
    folder = tmp_path_factory.mktemp("outputs")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    pq.write_table(make_table([4 + index % 6 for index in range(40)]), folder / "f.parquet", row_group_size=16)
    run(str(folder / "f.parquet"), str(folder / "model"), folder / "a", "frames=4")
    more = ("estimator.kind=adjusted", "estimator.m=4", "estimator.seed=5", "frames=4")
    run(str(folder / "f.parquet"), str(folder / "model"), folder / "b", *more)
    return {name: folder / name for name in ("a", "b")}


@pytest.fixture(scope="module")
def compared(outputs: dict[str, Path]) -> Report:
    return content_of(str(outputs["b"]), compare=str(outputs["a"]))


@pytest.mark.slow
def test_numbers_are_those_of_the_analysis(outputs: dict[str, Path], compared: Report) -> None:
    tables = analyze(str(outputs["b"]))
    assert [each.name for each in compared.sections] == [name for name in READING if name in tables]
    for section in compared.sections:
        table = tables[section.name]
        assert section.rows == table.num_rows
        assert section.csv_rows == min(section.rows, section.csv_rows)
        assert section.table.num_rows == min(MOST_ROWS, section.rows)
        assert section.location == f"{outputs['b']}/analysis/{section.name}.parquet"
        if section.name == "contrasts":
            table = table.sort_by([(name, "ascending") for name in ("difference", "video_id", "n_elements", "element")])
        rows = list(csv.DictReader(io.StringIO(section.csv.decode())))
        assert len(rows) == section.csv_rows
        for row, expected, shown in zip(rows, table.to_pylist(), section.table.to_pylist(), strict=False):
            for name, value in expected.items():
                if isinstance(value, float):
                    assert float(row[name]) == pytest.approx(value, rel=1e-6)
                    assert shown[name] == value
                if name in ("class", "label", "predicted") and value is not None:
                    assert shown[name] == ("one", "two", "three")[value]
                    assert row[name] == str(value)
    (summary,) = (row for row in tables["summary"].to_pylist() if row["n_elements"] == 4)
    assert f"{100 * summary['accuracy']:.1f} % of {summary['labelled']} labeled" in (fact(compared, "Accuracy").text)


@pytest.mark.slow
def test_what_is_compared(compared: Report, outputs: dict[str, Path]) -> None:
    part, told = compared.comparison, compare(str(outputs["b"]), str(outputs["a"]))
    assert part is not None
    rows = part.table.to_pylist()
    of_main = {row["measure"]: row["mean"] for row in rows if row["elements"] == 4}
    (main,) = (row for row in told.compare.to_pylist() if row["n_elements"] == 4)
    assert of_main["mean |B - A| of an ESV"] == f"{main['difference']:.3f}"
    assert rows[0]["elements"] == 4  # that of most videos first
    largest = max(told.changes.to_pylist(), key=lambda row: row["difference"])
    first = part.changed[0]
    assert first.before is not None
    assert (first.video.video_id, first.video.n) == (largest["video_id"], largest["n_elements"])
    assert first.before.video_id == first.video.video_id
    assert first.before.exact
    of_a = first.video.classes[0].esv.astype(np.float64) - first.before.classes[0].esv
    assert np.abs(of_a).mean() == pytest.approx(largest["difference"], rel=1e-4)
    assert "B: esv of" in " ".join(part.sentences)


@pytest.mark.slow
def test_a_comparison_has_figures(compared: Report, outputs: dict[str, Path]) -> None:
    """Those of esv compare, each with how it is read and its whole data."""
    part, told = compared.comparison, compare(str(outputs["b"]), str(outputs["a"])).tables
    assert part is not None
    assert [section.name for section in part.sections] == ["compare", "correlations"]
    for section in part.sections:
        assert section.figure is not None
        assert section.figure.marks > 1
        assert section.reading.endswith(".")
        rows = list(csv.DictReader(io.StringIO(section.csv.decode())))
        assert len(rows) == section.rows == told[section.name].num_rows
        assert [int(row["videos"]) for row in rows] == told[section.name].column("videos").to_pylist()
    tags = check_inert(page(compared))
    assert {"facet-compare", "facet-correlations"} <= tags.ids


@pytest.mark.slow
def test_a_comparison_opens_the_output_once(outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noting(output: str) -> Manifest:
        opened.append(output)
        return existing_manifest(output)

    monkeypatch.setattr("esv_ray.analysis.analyzed.existing_manifest", noting)
    content_of(str(outputs["b"]), compare=str(outputs["a"]))
    assert sorted(opened) == sorted(map(str, outputs.values()))


@pytest.mark.slow
def test_variations_are_in_the_report(features: str, bundle: str, tmp_path: Path) -> None:
    """Tables of esv smoothness, order and sanity; those of another model or features, or damaged, are left out."""
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    names = [section.name for section in content_of(str(out)).sections]
    assert {"order", "smoothness", "sanity"}.isdisjoint(names)
    for name in ("order", "smoothness"):
        more = (f"tables=[{name}]", "methods=[esv]", "frames=4")
        run(features, bundle, out / "variations" / name, *more)
    save_heads(str(tmp_path / "other"), make_heads(seed=9), make_prior(3))
    run(features, str(tmp_path / "other"), out / "variations" / "sanity", "tables=[sanity]", "frames=4")
    (out / "variations" / "smoothness" / "run.json").write_text("{")
    content = content_of(str(out))
    by_name = {section.name: section for section in content.sections}
    assert {*by_name} == {*names, "order"}
    assert [*by_name] == [name for name in READING if name in by_name]
    told = analyze(str(out / "variations" / "order"))["order"].to_pylist()
    shown = by_name["order"].table.to_pylist()
    assert [row["score"] for row in shown] == [row["score"] for row in told]
    assert by_name["order"].figure is not None
    assert by_name["order"].location == f"{out}/analysis/order.parquet"
    notes = " ".join(content.notes)
    assert "Without sanity: " in notes
    assert "expected the model of" in notes
    assert "Without smoothness: " in notes
    assert fact(content, "Verified").state == "good"


@pytest.mark.slow
def test_figures_of_many_lengths_show_few(bundle: str, tmp_path: Path) -> None:
    """Those of most videos; the tables have all."""
    lengths = [4] * 9 + [5] * 8 + [6] * 7 + [3] * 2 + [2, 7, 8]
    pq.write_table(make_table(lengths), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "frames=all")
    content = content_of(str(tmp_path / "out"))
    for section in content.sections:
        if section.name in ("support", "positions", "profiles", "pairs"):
            assert len(set(section.table.column("n_elements").to_pylist())) >= 6
            assert section.figure is not None
            assert "3 of " in section.figure.notes
            told = {n for n in range(1, 9) if f"{n} elements" in section.figure.alt}
            assert told == {4, 5, 6}, section.name
    text = fact(content, "Elements per video").text
    assert text == "2, 3, 4, 5, 6, 7, 8"


@pytest.mark.slow
def test_lengths_left_out_are_said_once(features: str, bundle: str, tmp_path: Path) -> None:
    """A figure that shows two of the three lengths that it gets, says so of all."""
    run(features, bundle, tmp_path / "out", "frames=all")
    content = content_of(str(tmp_path / "out"))
    count = len(content.sections[0].table.column("n_elements").unique())
    assert count > 3
    (classes,) = (section.figure for section in content.sections if section.name == "classes")
    assert classes is not None
    assert classes.notes.count("lengths: those with most videos.") == 1
    assert f"2 of {count} lengths: those with most videos. The table has all." in classes.notes


def test_tiny(bundle: str, tmp_path: Path) -> None:
    """Sentences about one video of one element read well."""
    pq.write_table(make_table([1]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    content = content_of(str(tmp_path / "out"))
    text = " ".join(
        [*(sentence for section in content.sections for sentence in section.sentences), content.findings_note]
    )
    assert content.findings == []
    assert content.findings_note.endswith(
        "No finding is shown: there is no interval, which would need 3 videos that differ."
    )
    assert "of 1 elements" not in text
    assert "1 classes" not in text
    assert "smallest at" not in text
    assert not any("1 videos" in section.figure.alt for section in content.sections if section.figure)


def test_rows_of_few_lengths() -> None:
    rows = [{"n_elements": n, "class": each, "videos": 1} for n in range(1, 6) for each in (None, 0, 1)]
    table = pa.Table.from_pylist(rows)
    videos = {1: 5, 2: 9, 3: 5, 4: 1, 5: 7}
    kept, note = of_few_lengths("support", table, videos)
    assert sorted(set(kept.column("n_elements").to_pylist())) == [2, 3, 5]  # of lengths with as many the longer
    assert kept.num_rows == 9
    assert note == "3 of 5 lengths: those with most videos. The table has all."
    kept, note = of_few_lengths("pairs", table, videos)
    assert [(row["n_elements"], row["class"]) for row in kept.to_pylist()] == [
        (2, None), (2, 0), (2, 1), (3, None), (5, None)]  # fmt: skip
    assert note.endswith("Classes: at 2 elements. The table has all.")
    one = table.filter(pc.equal(table.column("n_elements"), 2))
    assert of_few_lengths("pairs", one, videos) == (one, "")


def test_verified_and_complete(compared: Report) -> None:
    verified = fact(compared, "Verified")
    assert verified.state == "good"
    assert re.fullmatch(
        r"esv verify found no problems; the stored exact ESVs add up to the scores within [0-9.]+e-[0-9]+",
        verified.text,
    )
    assert fact(compared, "Complete").state == "good"
    assert compared.notice == ""
    assert any("need a job with tables" in note for note in compared.notes)
    check_inert(page(compared))


@pytest.mark.slow
def test_unfinished_swept_and_logit(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=[2,4]", "estimator.output=logit")
    for folder in ("videos", "attributions"):
        sorted((out / folder).iterdir())[1].unlink()
    (out / "_SUCCESS").unlink()
    content = content_of(str(out))
    assert content.notice.startswith("Unfinished: 4 of 5 units committed, 32 of 40 videos.")
    assert fact(content, "Unfinished").state == "warning"
    assert fact(content, "Verified").state == "good"  # what is there is right
    assert "logits" in fact(content, "Class explained").text
    assert fact(content, "Elements per video").text == "1, 2, 3, 4"
    assert {each.video.n for each in content.videos} <= {1, 2, 3, 4}
    assert all(each.video.in_logits for each in content.videos)
    assert "Unfinished: 4 of 5 units committed" in check_inert(page(content)).text


@pytest.mark.slow
def test_damaged(tmp_path: Path) -> None:
    """A fault that verify finds and that the tables do not notice is said first."""
    out = tmp_path / "out"
    write_output(str(out), Shape(20, 2, 3))
    (out / "videos" / "part-999999.parquet").write_bytes(b"not of this job")
    verified = fact(content_of(str(out)), "Verified")
    assert verified.state == "bad"
    assert verified.text == "1 problem: videos/part-999999.parquet: not in run.json"


def test_many_problems_are_one_line(tmp_path: Path) -> None:
    """The first, and how many; the others are there for who opens them."""
    out = tmp_path / "out"
    write_output(str(out), Shape(20, 2, 3))
    for number in range(70):
        (out / "videos" / f"part-9{number:05}.parquet").write_bytes(b"not of this job")
    content = content_of(str(out))
    assert content.notice == "esv verify found 70 problems: see “Verified” below."
    verified = fact(content, "Verified")
    assert verified.text == "70 problems; the first: videos/part-900000.parquet: not in run.json"
    assert len(verified.details) == 51
    assert verified.details[0] == "videos/part-900001.parquet: not in run.json"
    assert verified.details[-1] == "19 more: run esv verify"
    assert "videos/part-900050.parquet" in check_inert(page(content)).text


@pytest.mark.slow
def test_facts_read_well(outputs: dict[str, Path], compared: Report, tmp_path: Path) -> None:
    """Nothing is said twice; large numbers have separators; of many lengths the range."""
    assert fact(compared, "Estimator").text.startswith(
        "adjusted, m = 4, 4 iterations, seed 5; 40 sequences exact (largest efficiency gap "
    )
    assert fact(compared, "Elements per video").text == "4"
    exact = fact(content_of(str(outputs["a"])), "Estimator").text
    assert exact.count("exact") == 1
    out = str(tmp_path / "b" / "out")
    write_output(out, Shape(1200, 2, 3))
    content = content_of(out)
    assert content.title == "Element Shapley Values of b/out"
    assert fact(content, "Data").text.endswith(", 1,200 videos")
    assert fact(content, "Complete").text == "2 of 2 units committed; 1,200 rows: 1,200 ok, 0 skipped, 0 failed"
    assert "of 1,200 labeled videos" in fact(content, "Accuracy").text
    assert any("of 1,200 sequences" in note for note in content.notes)
    assert _lengths({n: 20 - n for n in range(2, 20)}) == (
        "2 to 19 (18 lengths); findings are of the most frequent, 2 (18 videos)"
    )


def test_figures_say_which_videos_they_leave_out(features: str, bundle: str, tmp_path: Path) -> None:
    """ESVs of the predicted class alone: those of the label are known where it is predicted."""
    run(features, bundle, tmp_path / "out", "frames=3", "classes=[top:1]")
    content = content_of(str(tmp_path / "out"), class_="label")
    analyzed = open_output(str(tmp_path / "out"), "label")
    (main,) = (
        n for n, videos in analyzed.census.videos_of.items() if videos == max(analyzed.census.videos_of.values())
    )
    missing = analyzed.without[main]
    assert missing > 1
    notes = {section.name: section.figure.notes for section in content.sections if section.figure is not None}
    for name in ("support", "positions", "pairs", "classes", "profiles"):
        told = re.search(r"Without ([0-9]+) videos that have no ESVs of their label\.", notes[name])
        assert told is not None, name
        assert missing <= int(told[1]) <= sum(analyzed.without.values())


def test_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), classes=("walking", "walking", "running"))
    pq.write_table(make_table([4] * 30), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(tmp_path / "m"), tmp_path / "out", "frames=4")
    content = content_of(str(tmp_path / "out"))
    (classes,) = (section.table for section in content.sections if section.name == "classes")
    assert sorted(classes.column("class").to_pylist()) == ["running", "walking (0)", "walking (1)"]
    both = {0, 1}
    wrong = [each for each in content.videos if {each.video.label, each.video.predicted} == both]
    text = Tags(video_html(wrong[0], "a", 4).encode()).text
    assert "walking (0)" in text
    assert "walking (1)" in text
    assert "Waterfall for walking (1)" in video_html(wrong[0], "a", 4)


@pytest.mark.slow
def test_unlabelled(bundle: str, tmp_path: Path) -> None:
    pq.write_table(make_table([3, 4], n_classes=None), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "classes=all", "estimator.kind=exact")
    content = content_of(str(tmp_path / "out"))
    assert not [each for each in content.facts if each.term.startswith("Accuracy")]
    assert "Left out, since videos have no labels: contrasts, confusions." in content.notes
    assert {each.name for each in content.sections}.isdisjoint({"contrasts", "confusions"})
    check_inert(page(content))
    with pytest.raises(EsvError, match="use --class predicted"):
        content_of(str(tmp_path / "out"), class_="label")


def test_all_failed(bundle: str, tmp_path: Path) -> None:
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    content = content_of(str(tmp_path / "out"))
    assert (content.findings, content.videos, content.sections, content.notes) == ([], [], [], [])
    assert content.findings_note == ""
    assert content.notice == "No video has ESVs, so there are no findings, tables, figures and videos."
    assert fact(content, "Complete").state == "bad"
    assert fact(content, "Failed").state == "bad"
    assert fact(content, "Failed").text.startswith("2: ")
    check_inert(page(content))


@pytest.mark.slow
def test_reasons_worst_first(bundle: str, tmp_path: Path) -> None:
    """Reasons that differ in numbers alone are one; the most frequent comes first."""
    rows = make_table([3] * 9).to_pylist()
    for row in rows[:3]:
        row["features"][1][0] = float("nan")
    rows[4]["label"] = 99
    rows[5]["label"] = 98
    pq.write_table(type(make_table([1])).from_pylist(rows, schema=make_table([1]).schema), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "classes=predicted", "max_failed=1")
    first, second = fact(content_of(str(tmp_path / "out")), "Failed").text.split("; 2: ")
    assert first.startswith("3: ")
    assert "98" in second or "99" in second


@pytest.mark.slow
def test_hostile_names_and_ids(tmp_path: Path) -> None:
    """Markup, formulas and escapes in class names, ids and locations are text."""
    names = tuple(name or "empty" for name in HOSTILE)
    save_heads(str(tmp_path / "m"), make_heads(n_classes=len(names)), make_prior(len(names)), classes=names)
    table = make_table([3] * 20, n_classes=len(names))
    ids = [f"{HOSTILE[index % len(HOSTILE)]}-{index}" for index in range(20)]
    pq.write_table(table.set_column(0, "video_id", [ids]), tmp_path / "f.parquet")
    out = tmp_path / "<img src=x onerror=alert(1)>"
    run(str(tmp_path / "f.parquet"), str(tmp_path / "m"), out, "frames=3")
    content = content_of(str(out), compare=None)
    assert len(content.videos) > 10
    data = page(content)
    tags = check_inert(data)
    assert "img" not in tags.names
    assert "<script>alert('x')</script>" in tags.text
    for section in content.sections:
        assert not set(section.csv) & {*range(9), *range(11, 32), 127}


@pytest.mark.slow
def test_file(outputs: dict[str, Path], tmp_path: Path) -> None:
    """The default place; an existing file is replaced; the output stays whole."""
    where = report(str(outputs["a"]))
    assert where == f"{outputs['a']}/report.html"
    assert Path(where).read_bytes().startswith(b"<!doctype html>")
    (tmp_path / "r.html").write_text("older")
    assert report(str(outputs["a"]), str(tmp_path / "r.html")) == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_bytes() == Path(where).read_bytes()  # the same output gives the same report
    assert not verify_output(str(outputs["a"])).problems


def test_every_section_says_how_it_is_read() -> None:
    assert set(READING) == {*FACETS}
    assert all(text.endswith(".") and "\n" not in text for text in READING.values())


@pytest.mark.slow
def test_all_tables(tmp_path: Path) -> None:
    tables = ("interactions", "discards", "replacements")
    write_output(str(tmp_path / "out"), Shape(20, 2, 2, sampled=False, tables=tables))
    content = content_of(str(tmp_path / "out"))
    names = [each.name for each in content.sections]
    assert names[:2] == ["discards", "support"]
    assert {"interactions", "areas", "replacements", "needed"} <= set(names)


def test_refused(outputs: dict[str, Path], tmp_path: Path) -> None:
    a = str(outputs["a"])
    with pytest.raises(DataError, match=r"found no run\.json"):
        report(str(tmp_path / "none"), str(tmp_path / "r.html"))
    with pytest.raises(SpecError, match=r"expected a file that ends in \.html, got"):
        report(a, str(tmp_path / "r.pdf"))
    with pytest.raises(SpecError, match="would be a file of the output"):
        report(a, f"{a}/videos/r.html")
    with pytest.raises(
        DataError,
        match=r"expected pictures VIDEO_ID/NUMBER\.jpg, videos VIDEO_ID\.mp4, or a table of .*, found nothing",
    ):
        report(a, str(tmp_path / "r.html"), media=str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"found no run\.json"):
        report(a, str(tmp_path / "r.html"), compare=str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"nothing\.parquet was not found; check the location"):
        report(a, str(tmp_path / "r.html"), features=str(tmp_path / "nothing.parquet"))
    with pytest.raises(SpecError, match="expected two outputs"):
        report(a, str(tmp_path / "r.html"), compare=a)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(DataError, match="expected a file or nothing, got a folder"):
        report(a, str(tmp_path / "folder.html"))
    assert not (tmp_path / "r.html").exists()
