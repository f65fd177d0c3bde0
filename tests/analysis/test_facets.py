"""Every number of every facet against brute force over outputs of jobs; laws; batches; odd outputs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import esv_ray
from esv_ray.analysis import batches
from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.facets.words import of_main_length
from esv_ray.analysis.statistics import FEWEST, REPLICATES, resampling_weights
from esv_ray.analysis.student import small_sample_factor
from esv_ray.analysis.tables import analyze, tables_of_facets
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.errors import DataError, SpecError
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support import facet_oracle
from tests.support.jobs import run
from tests.support.slow import slow_tuples_unless

JOBS = {
    "exact": ["frames=4", "estimator.kind=exact"],
    "sampled": ["frames=all", "estimator.kind=adjusted", "estimator.m=20", "estimator.iterations=2"],
    "algorithm1": ["frames=6", "estimator.kind=algorithm1", "estimator.m=3", "estimator.iterations=2"],
    "swept": ["frames=[2,5,all]", "estimator.kind=exact"],
    "logit": ["frames=4", "estimator.kind=exact", "estimator.output=logit"],
    "all classes": ["frames=3", "classes=all"],
    "label alone": ["frames=3", "classes=[label]"],
    "predicted and 1": ["frames=3", "classes=[predicted,1]"],
}
TABLES = [*facet_oracle.KEYS]
BY_LENGTH = ("support", "positions", "pairs", "profiles", "classes")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Outputs of jobs over 40 videos of 1 to 9 frames, three classes."""
    folder = tmp_path_factory.mktemp("outputs")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    (folder / "features").mkdir()
    lengths = [1 + index % 9 for index in range(40)]
    pq.write_table(make_table(lengths), folder / "features" / "part-0.parquet", row_group_size=16)
    pq.write_table(make_table(lengths, n_classes=None), folder / "unlabelled.parquet", row_group_size=16)
    for name, overrides in JOBS.items():
        run(str(folder / "features"), str(folder / "model"), folder / name, *overrides)
    run(str(folder / "unlabelled.parquet"), str(folder / "model"), folder / "unlabelled", "classes=all", "frames=4")
    return {path.name: path for path in folder.iterdir() if (path / "run.json").exists()}


CASES = [(name, explained) for name in JOBS for explained in ("label", "predicted")]
CASES.remove(("label alone", "predicted"))


@pytest.mark.parametrize(
    ("name", "explained"),
    slow_tuples_unless(lambda name, explained: explained == "label", [*CASES, ("unlabelled", "predicted")]),
)
def test_against_brute_force(outputs: dict[str, Path], name: str, explained: Any) -> None:
    found = analyze(str(outputs[name]), class_=explained)
    expected = facet_oracle.read(outputs[name])
    assert list(found) == [
        table for table in TABLES if name != "unlabelled" or table not in ("contrasts", "confusions")
    ]
    for table, content in found.items():
        by_hand, keys = facet_oracle.KEYS[table]
        check_rows(content.to_pylist(), by_hand(expected, explained), keys)


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic output with all further tables, several methods, and marginals that are not known."""
    out = tmp_path_factory.mktemp("further") / "out"
    tables = ("marginals", "interactions", "discards", "replacements")
    write_output(str(out), Shape(60, 7, 4, sampled=False, tables=tables, rows=16))
    for path in (*(out / "discards").iterdir(), *(out / "replacements").iterdir()):
        table = pq.read_table(path)
        others = table.filter(pc.is_in(table.column("order"), pa.array(["descending", "ascending"])))
        score = pc.power(others.column("score"), 1.5).cast(pa.float32())
        others = others.set_column(others.column_names.index("score"), table.schema.field("score"), score)
        method = pa.array(["occlusion"] * others.num_rows)
        others = others.set_column(others.column_names.index("method"), table.schema.field("method"), method)
        pq.write_table(pa.concat_tables([table, others]), path)
    path = next((out / "marginals").iterdir())
    table = pq.read_table(path)
    unknown = pc.and_(pc.equal(table.column("scale"), 3), pc.less(table.column("element"), 2))
    marginal = pc.if_else(unknown, None, table.column("marginal"))
    pq.write_table(table.set_column(table.column_names.index("marginal"), "marginal", marginal), path)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("explained", ["label", "predicted"])
def test_further_tables_against_brute_force(further: Path, explained: Any) -> None:
    found = analyze(str(further), list(facet_oracle.FURTHER), explained)
    expected = facet_oracle.read(further)
    for table, (by_hand, keys) in facet_oracle.FURTHER.items():
        check_rows(found[table].to_pylist(), by_hand(expected, explained), keys)
    unknown = [row for row in found["marginals"].to_pylist() if row["low"] is None]
    assert [row["scale"] for row in unknown] == [3]


def test_laws_of_further_tables(further: Path) -> None:
    """Marginals' mean over lengths is the ESV; discards begin at the score and end at the prior; differences pair."""
    found = {name: table.to_pylist() for name, table in analyze(str(further)).items()}
    assert list(found) == made_of("marginals", "interactions", "discards", "replacements")
    (summary,) = found["summary"]
    known = [row for row in found["marginals"] if row["low"] is not None]
    esv = (summary["support"] + summary["distract"]) / 7
    assert np.mean([row["mean"] for row in known]) == pytest.approx(esv, abs=0.02)  # one length is partly unknown
    starts = {row["score"] for row in found["discards"] if row["discarded"] == 0 and row["method"] == "esv"}
    ends = {round(row["score"], 6) for row in found["discards"] if row["discarded"] == 7 and row["method"] == "esv"}
    assert len(starts) == 1
    assert ends == {0.25}
    other = next(row for row in found["areas"] if row["method"] == "occlusion")
    assert other["deletion_auc_minus_esv_low"] < other["deletion_auc_minus_esv"] < other["deletion_auc_minus_esv_high"]
    width = other["deletion_auc_minus_esv_high"] - other["deletion_auc_minus_esv_low"]
    assert width < other["deletion_auc_high"] - other["deletion_auc_low"]


def test_tables_of_a_job(outputs: dict[str, Path], tmp_path: Path) -> None:
    """Interactions and discards of a real job."""
    parts = outputs["exact"].parent
    out = tmp_path / "out"
    run(str(parts / "features"), str(parts / "model"), out, *JOBS["exact"], "tables=[interactions,discards]")
    found = analyze(str(out))
    assert list(found) == made_of("interactions", "discards")
    expected = facet_oracle.read(out)
    for table in ("interactions", "discards", "areas", "needed"):
        by_hand, keys = facet_oracle.FURTHER[table]
        check_rows(found[table].to_pylist(), by_hand(expected, "label"), keys)
    with pytest.raises(DataError, match=r"expected the table marginals .*; run a job with `tables: \[marginals\]`"):
        analyze(str(out), ["marginals"])


@pytest.mark.slow
def test_replacements_of_a_job(outputs: dict[str, Path], tmp_path: Path) -> None:
    """At several lengths, also 1 and 2; without `discards` there are no areas of elements that are left out."""
    parts = outputs["exact"].parent
    settings = [*JOBS["swept"], "methods=[esv,occlusion]"]
    for name, tables in (("both", "tables=[discards,replacements]"), ("alone", "tables=replacements")):
        out = tmp_path / name
        run(str(parts / "features"), str(parts / "model"), out, *settings, tables)
        found = analyze(str(out), ["replacements"])["replacements"]
        by_hand, keys = facet_oracle.FURTHER["replacements"]
        check_rows(found.to_pylist(), by_hand(facet_oracle.read(out), "label"), keys)
        expected = {"neighbor", "mean"} | ({"removal"} if name == "both" else set())
        assert set(found.column("replaced_by").to_pylist()) == expected
        assert set(found.column("n_elements").to_pylist()) == set(range(2, 10))
        for row in found.to_pylist():
            if row["videos"] > 1:
                assert row["deletion_auc_low"] <= row["deletion_auc"] <= row["deletion_auc_high"]
    with pytest.raises(DataError, match=r"expected the table replacements .*; run a job with `tables: \[replacements"):
        analyze(str(outputs["exact"]), ["replacements"])


def made_of(*tables: str) -> list[str]:
    """The names of the tables of an output with further tables."""
    there = {"videos", "attributions", *tables}
    return [
        name
        for name, facet in FACETS.items()
        if {*facet.reads} <= there and not facet.marked and not facet.several_methods
    ]


def check_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]], keys: list[str]) -> None:
    """Compare rows by their keys; `found` may have further columns."""
    there = {tuple(row[key] for key in keys): row for row in found}
    due = {tuple(row[key] for key in keys): row for row in expected}
    assert len(there) == len(found)
    assert there.keys() == due.keys()
    for key, row in due.items():
        for column, value in row.items():
            rel = 1e-3 if column.startswith(("median", "p5", "p25", "p75", "p95")) else 1e-5  # these are binned
            assert there[key][column] == (
                pytest.approx(value, rel=rel, abs=1e-9) if isinstance(value, float) else value
            ), (key, column)


def test_contract_columns(outputs: dict[str, Path]) -> None:
    """The first columns are those that are promised, in that order."""
    promised = {
        "summary": "n_elements videos accuracy mean_score mean_prior support distract supporting_share exact_share "
        "median_stderr",
        "support": "n_elements correct supporting videos",
        "positions": "n_elements element videos most_supporting most_distracting",
        "pairs": "class n_elements element_i element_j videos share low high",
        "contrasts": "video_id n_elements label predicted element frame_index esv_label esv_predicted difference "
        "stderr",
        "classes": "class name n_elements videos accuracy prior score support distract supporting_share entropy "
        "elements_to_90",
        "profiles": "class n_elements place count mean low high",
        "confusions": "label predicted n_elements videos mean_difference_at_most_misleading_element",
    }
    found = analyze(str(outputs["sampled"]))
    assert list(found) == list(promised)
    for table, columns in promised.items():
        assert found[table].column_names[: len(columns.split())] == columns.split()


@pytest.mark.parametrize("name", [name for name in JOBS if name != "algorithm1"])
def test_efficiency(outputs: dict[str, Path], name: str) -> None:
    """support + distract = score - prior, for every length and class."""
    found = analyze(str(outputs[name]), ["summary", "classes"])
    for row in found["summary"].to_pylist():
        assert row["support"] + row["distract"] == pytest.approx(row["mean_score"] - row["mean_prior"], abs=1e-4)
    for row in found["classes"].to_pylist():
        if not row["videos"]:
            assert row["score"] is row["entropy"] is row["elements_to_90"] is None
            continue
        assert row["support"] + row["distract"] == pytest.approx(row["score"] - row["prior"], abs=1e-4)
        assert 0 <= row["entropy"] <= math.log2(row["n_elements"]) + 1e-9
        assert row["elements_to_90"] is None or 1 <= row["elements_to_90"] <= row["n_elements"]


@pytest.mark.parametrize("name", ["exact", "sampled", "swept"])
def test_laws_of_counts(outputs: dict[str, Path], name: str) -> None:
    """Counts add up to the videos; pairs (i, j) and (j, i) to one, less ties; profiles to the sum of ESVs."""
    found = {table: content.to_pylist() for table, content in analyze(str(outputs[name])).items()}
    videos = {row["n_elements"]: row["explained"] for row in found["summary"]}
    for n, count in videos.items():
        assert sum(row["videos"] for row in found["support"] if row["n_elements"] == n) == count
        assert sum(row["videos"] for row in found["classes"] if row["n_elements"] == n) == count
        for column in ("most_supporting", "most_distracting"):
            assert sum(row[column] for row in found["positions"] if row["n_elements"] == n) == pytest.approx(1)
    shares = {(row["class"], row["n_elements"], row["element_i"], row["element_j"]): row for row in found["pairs"]}
    for (class_id, n, i, j), row in shares.items():
        assert row["share"] + shares[class_id, n, j, i]["share"] <= 1 + 1e-9
        assert 0 <= row["low"] <= row["share"] <= row["high"] <= 1
    for row in found["summary"]:
        of_all = [r for r in found["profiles"] if r["class"] is None and r["n_elements"] == row["n_elements"]]
        total = sum(r["mean"] * r["count"] for r in of_all) / row["explained"]
        assert total == pytest.approx(row["support"] + row["distract"], abs=1e-6)


def test_intervals_of_means(outputs: dict[str, Path]) -> None:
    """Intervals against the resamples that they are defined by."""
    out = outputs["exact"]
    found = analyze(str(out), ["classes", "profiles"], "label")
    sequences = facet_oracle.read(out).sequences("label")
    weights = resampling_weights([s.row["video_id"] for s in sequences], REPLICATES).astype(float)
    for row in found["classes"].to_pylist():
        chosen = [place for place, s in enumerate(sequences) if (s.class_id, s.n) == (row["class"], row["n_elements"])]
        if len(chosen) < FEWEST:
            assert row["support_low"] is row["support_high"] is None
            continue
        values = np.array([facet_oracle.support_of(sequences[place]) for place in chosen])
        drawn = weights[chosen]
        kept = drawn.sum(axis=0) > 0
        ends = np.quantile((values @ drawn)[kept] / drawn.sum(axis=0)[kept], [0.025, 0.975])
        expected = values.mean() + small_sample_factor(len(chosen), 0.95) * (ends - values.mean())
        assert [row["support_low"], row["support_high"]] == pytest.approx([max(0, expected[0]), expected[1]], abs=1e-5)
        assert row["support_low"] <= row["support"] <= row["support_high"]
    for row in found["profiles"].to_pylist():
        assert row["low"] is None or row["low"] <= row["mean"] <= row["high"]


@pytest.mark.slow
def test_batches_do_not_matter(outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch per unit gives the same tables as one batch; and again the same bits."""
    out = str(outputs["swept"])
    whole, again = analyze(out), analyze(out)
    monkeypatch.setattr(batches, "_MOST_ELEMENTS", 1)
    assert len(list(batches.batches_of(open_output(out)))) > 2
    single = analyze(out)
    for name, table in whole.items():
        assert table.equals(again[name])
        keys = facet_oracle.KEYS[name][1]
        check_rows(single[name].to_pylist(), table.to_pylist(), keys)


@pytest.mark.slow
def test_other_methods_are_left_out(outputs: dict[str, Path], tmp_path: Path) -> None:
    """Rows of other methods in the same table change nothing."""
    for path in (outputs["exact"] / "attributions").iterdir():
        table = pq.read_table(path)
        columns = {name: table.column(name) for name in table.column_names if name != "method"}
        esv = pa.array(["esv"] * table.num_rows)
        other = pa.array(["occlusion"] * table.num_rows)
        wild = {**columns, "esv": pa.array([0.5] * table.num_rows, pa.float32())}
        both = pa.concat_tables([pa.table({**columns, "method": esv}), pa.table({**wild, "method": other})])
        target = tmp_path / "out" / "attributions" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(both.replace_schema_metadata(table.schema.metadata), target)
    (tmp_path / "out" / "videos").symlink_to(outputs["exact"] / "videos")
    (tmp_path / "out" / "run.json").symlink_to(outputs["exact"] / "run.json")
    mixed, plain = analyze(str(tmp_path / "out")), analyze(str(outputs["exact"]))
    assert all(mixed[name].equals(table) for name, table in plain.items())


def test_which_class_is_explained(outputs: dict[str, Path]) -> None:
    assert open_output(str(outputs["exact"])).explained == "label"
    assert open_output(str(outputs["unlabelled"])).explained == "predicted"
    with pytest.raises(SpecError, match="expected labels in the videos table, found none; use --class predicted"):
        analyze(str(outputs["unlabelled"]), class_="label")
    with pytest.raises(SpecError, match="keeps ESVs of label only, got predicted"):
        analyze(str(outputs["label alone"]), class_="predicted")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "explained"),
    [
        ("[label]", "label"),
        ("[predicted,label]", "label"),
        ("all", "label"),
        ("[0,1,2]", "label"),
        ("[top:3]", "label"),
        ("[predicted,1]", "predicted"),
        ("[top:1,2]", "predicted"),
        ("[top:2]", "predicted"),
        ("[0,2]", "predicted"),
    ],
)
def test_labels_are_explained_by_default_only_if_all_are_kept(
    outputs: dict[str, Path], tmp_path: Path, kept: str, explained: str
) -> None:
    """Videos with ESVs of their label because it is predicted are those that are recognized: a biased choice."""
    parts = outputs["exact"].parent
    run(str(parts / "features"), str(parts / "model"), tmp_path / "out", "frames=3", f"classes={kept}")
    out = str(tmp_path / "out")
    assert open_output(out).explained == explained
    for each in ("label", "predicted"):
        if (kept, each) == ("[label]", "predicted"):
            continue
        rows = analyze(out, ["summary"], each)["summary"].to_pylist()
        missing = {row["n_elements"]: row["videos"] - row["explained"] for row in rows}
        assert open_output(out, each).without == {n: count for n, count in missing.items() if count}


@pytest.mark.slow
def test_accuracy_counts_videos_without_esvs(outputs: dict[str, Path]) -> None:
    """If ESVs of the label are kept of some videos only, accuracies are those of all; pages tell what is left out."""
    some, whole = str(outputs["predicted and 1"]), str(outputs["all classes"])
    found, expected = (
        {(row["class"], row["n_elements"]): row for row in analyze(out, ["classes"], "label")["classes"].to_pylist()}
        for out in (some, whole)
    )
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for name in ("accuracy", "labelled", "accuracy_low", "accuracy_high", "prior"):
            assert row[name] == expected[key][name]
    assert any(row["accuracy"] == 0 and not row["videos"] and row["score"] is None for row in found.values())
    analyzed = open_output(some, "label")
    assert analyzed.without
    chosen = [FACETS[name] for name in BY_LENGTH]
    with tables_of_facets(analyzed, chosen) as made:
        for each in made:
            note = each.facet.page(each.table, analyzed).note
            assert re.search(r"Without \d+ videos that have no ESVs of their label\.", note), each.facet.name


@pytest.mark.slow
def test_pages_show_the_length_that_most_videos_have(tmp_path: Path) -> None:
    """Of 1 to 9 elements, most videos have 3; tables with a row per pair or element have most rows of 9."""
    lengths = [3] * 6 + [9] * 4 + [5]
    save_heads(str(tmp_path / "m"), make_heads(), make_prior(3), classes=("one", "two", "three"))
    pq.write_table(make_table(lengths), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(tmp_path / "m"), tmp_path / "out", "frames=all", "tables=[marginals,discards]")
    analyzed = open_output(str(tmp_path / "out"))
    with tables_of_facets(analyzed, [FACETS[name] for name in (*BY_LENGTH, "marginals", "discards", "areas")]) as made:
        for each in made:
            assert of_main_length(each.table, analyzed)[0] == 3
            assert "Sequences of 3 elements; the table has " in each.facet.page(each.table, analyzed).note


def test_undefined_values_are_left_out(tmp_path: Path) -> None:
    """A video without a supporting element needs no number of them; one whose ESVs are all 0 has no entropy."""
    out = tmp_path / "out"
    write_output(str(out), Shape(12, 4, 2, sampled=False, rows=16))
    for path in (out / "attributions").iterdir():
        table = pq.read_table(path)
        esv = table.column("esv").to_numpy().copy()
        video = np.unique(table.column("video_id").to_numpy(zero_copy_only=False), return_inverse=True)[1]
        esv[video % 3 == 0] = np.abs(esv[video % 3 == 0]) + np.float32(1e-3)
        esv[video % 3 == 1] = 0
        esv[video % 3 == 2] = -np.abs(esv[video % 3 == 2])
        pq.write_table(table.set_column(table.column_names.index("esv"), "esv", pa.array(esv)), path)
    expected = {row["class"]: row for row in facet_oracle.classes(facet_oracle.read(out), "label")}
    rows = analyze(str(out), ["classes"], "label")["classes"].to_pylist()
    check_rows(rows, list(expected.values()), ["class", "n_elements"])
    assert sum(row["videos"] for row in rows) == 12
    assert sum(row["entropy_videos"] for row in rows) == 8
    assert sum(row["elements_to_90_videos"] for row in rows) == 4
    assert all(row["elements_to_90"] is None or row["elements_to_90"] >= 1 for row in rows)


def changed_esvs(folder: Path, name: str, values: Any) -> Path:
    """A synthetic output of 24 videos with other ESVs: (video, element, rows) -> values."""
    out = folder / name
    write_output(str(out), Shape(24, 4, 2, sampled=False, rows=16))
    for path in (out / "attributions").iterdir():
        table = pq.read_table(path)
        esv = values(table.column("element").to_numpy(), table.num_rows)
        column = pa.array(np.asarray(esv, np.float32))
        pq.write_table(table.set_column(table.column_names.index("esv"), "esv", column), path)
    return out


@pytest.mark.slow
def test_equal_elements_share_their_place(tmp_path: Path) -> None:
    """All ESVs equal: each element has its share by chance; of two equal ones each has half; a page says so."""
    equal = changed_esvs(tmp_path, "equal", lambda element, rows: np.full(rows, 0.01))
    for row in analyze(str(equal), ["positions"])["positions"].to_pylist():
        assert row["most_supporting"] == row["most_distracting"] == 0.25
        assert row["videos_tied"] == row["videos"] == 24
        assert row["most_supporting_videos"] == row["most_distracting_videos"] == 24
        assert row["most_supporting_low"] < 0.25 < row["most_supporting_high"]
    two = changed_esvs(tmp_path, "two", lambda element, rows: np.where(element % 2, 0.02, -0.01 * element))
    rows = analyze(str(two), ["positions"])["positions"].to_pylist()
    assert [row["most_supporting"] for row in rows] == [0, 0.5, 0, 0.5]
    assert [row["most_distracting"] for row in rows] == [0, 0, 1, 0]
    analyzed = open_output(str(equal))
    with tables_of_facets(analyzed, [FACETS["positions"]]) as (made,):
        assert "In 24 of 24 videos several elements" in " ".join(made.facet.page(made.table, analyzed).sentences)


def test_pairs_of_noise_are_not_clear(tmp_path: Path) -> None:
    """The farthest of many pairs is far by chance: intervals of a page hold for all of them together."""
    rng = np.random.default_rng(0)
    noise = changed_esvs(tmp_path, "noise", lambda element, rows: rng.normal(0, 0.01, rows))
    ordered = changed_esvs(tmp_path, "ordered", lambda element, rows: 0.01 * element)
    for out, clear in ((noise, False), (ordered, True)):
        analyzed = open_output(str(out))
        with tables_of_facets(analyzed, [FACETS["pairs"]]) as (made,):
            page = made.facet.page(made.table, analyzed)
            assert "of 18 pairs of elements and classes: those" in page.note
            assert ("(none is clear of chance)" in page.note) is not clear
            assert page.sentences[0].endswith("no pair of elements is clear of chance.") is not clear
            facet = FACETS["pairs"].finding
            assert facet is not None
            found = facet(made.table, analyzed)
            assert found is not None
            assert (found.effect > 0) is clear
            assert [found.sentence] == page.sentences  # the first screen says what the section says
            assert page.columns[-1] == "95 %, all"
            for row in page.rows:
                low, high = map(float, row[-1].split(".."))
                assert (low <= 50 <= high) is not clear


def test_tables_that_cannot_be_made(outputs: dict[str, Path]) -> None:
    with pytest.raises(SpecError, match=r"table: expected one of summary, support, .*, got 'sumary'"):
        analyze(str(outputs["exact"]), ["sumary"])
    with pytest.raises(DataError, match="table contrasts: expected labels, found none"):
        analyze(str(outputs["unlabelled"]), ["contrasts"])


def test_public_name() -> None:
    assert esv_ray.analyze is analyze


def test_no_output(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no run\.json"):
        analyze(str(tmp_path))


def test_all_failed(outputs: dict[str, Path], tmp_path: Path) -> None:
    """Tables without rows, of the same columns."""
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(outputs["exact"].parent / "model"), tmp_path / "out")
    found, usual = analyze(str(tmp_path / "out"), TABLES), analyze(str(outputs["exact"]), TABLES)
    for name, content in found.items():
        assert content.num_rows == 0
        assert content.schema.equals(usual[name].schema)


def test_fewer_rows_than_elements(outputs: dict[str, Path], tmp_path: Path) -> None:
    """A damaged table is not averaged."""
    for folder in ("videos", "attributions"):
        (tmp_path / folder).mkdir()
        for path in (outputs["exact"] / folder).iterdir():
            table = pq.read_table(path)
            kept = table.num_rows - (folder == "attributions")
            pq.write_table(table.slice(0, kept), tmp_path / folder / path.name)
    (tmp_path / "run.json").symlink_to(outputs["exact"] / "run.json")
    with pytest.raises(DataError, match=r"expected one ESV per element, got .* for video 'v.*see esv verify"):
        analyze(str(tmp_path))
