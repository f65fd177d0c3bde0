"""The further tables of a job: against brute force over its feature table, with the guarantees of the others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.attribution.recompute import recompute
from esv_ray.attribution.work import run_job
from esv_ray.core.discards import by_contribution, fixed_order, random_orders
from esv_ray.core.keyed import derive_key
from esv_ray.errors import JobError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.output.computed import ORDERS
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.core.test_exact_values import interaction
from tests.support.jobs import run
from tests.support.oracle import Array, Game, multiscale_game

LENGTHS = [3, 6, 1, 4, 6]
TABLES = "tables=[marginals,interactions,discards,replacements]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a feature table of which one video has no label."""
    place = tmp_path_factory.mktemp("further")
    table = make_table(LENGTHS)
    labels = [None if row == 3 else label for row, label in enumerate(table.column("label").to_pylist())]
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels, pa.int32()))
    (place / "features").mkdir()
    pq.write_table(table, place / "features" / "part-0.parquet")
    save_heads(str(place / "model"), make_heads(), make_prior(3))
    return place


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    """The output of an exact job with all tables, at two lengths."""
    output = folder / "out"
    result = attributed(folder, output, "frames=[4,all]", "estimator.kind=exact", TABLES)
    assert result.quarantined == {}
    return output


def attributed(folder: Path, output: Path, *overrides: str, **options: bool) -> Any:
    return run(str(folder / "features"), str(folder / "model"), output, *overrides, **options)


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(output / name).to_pylist())


def game_of(folder: Path, video: str, n: int, *, logits: bool = False) -> Game:
    """The game of a video of the table at n elements, by plain code."""
    table = pq.read_table(folder / "features")
    frames = np.array(table.column("features")[table.column("video_id").to_pylist().index(video)].as_py(), np.float32)
    chosen = frames[[int((i + 0.5) * len(frames) / n) for i in range(n)]]
    return multiscale_game(make_heads(), torch.from_numpy(chosen), make_prior(3), logits=logits)


def sequences(output: Path) -> list[tuple[str, int]]:
    return [(row["video_id"], row["n_elements"]) for row in rows(output, "videos")]


def esvs(output: Path, video: str, n: int, kept: int) -> Array:
    found = [row for row in rows(output, "attributions") if (row["video_id"], row["n_elements"]) == (video, n)]
    return np.array([row["esv"] for row in found if row["class"] == kept])


def test_marginals_are_those_of_the_definition(folder: Path, done: Path) -> None:
    found = rows(done, "marginals")
    for video, n in sequences(done):
        game = game_of(folder, video, n)
        own = [row for row in found if (row["video_id"], row["n_elements"]) == (video, n)]
        assert own
        for row in own:
            others = [element for element in range(n) if element != row["element"]]
            added = [
                game(tuple(sorted((*x, row["element"])))) - game(x) for x in combinations(others, row["scale"] - 1)
            ]
            assert row["marginal"] == pytest.approx(np.mean(added, axis=0)[row["class"]], abs=2e-6)


def test_the_mean_of_marginals_over_scales_is_the_esv(done: Path) -> None:
    means = pq.read_table(done / "marginals").group_by(["video_id", "n_elements", "class", "element"])
    by_key = {
        (row["video_id"], row["n_elements"], row["class"], row["element"]): row["marginal_mean"]
        for row in means.aggregate([("marginal", "mean")]).to_pylist()
    }
    attributions = rows(done, "attributions")
    assert len(by_key) == len(attributions)
    for row in attributions:
        key = (row["video_id"], row["n_elements"], row["class"], row["element"])
        assert by_key[key] == pytest.approx(row["esv"], abs=1e-6)


@pytest.mark.slow
def test_interactions_are_those_of_the_definition(folder: Path, done: Path) -> None:
    found = rows(done, "interactions")
    assert len(found) == sum(row["n_elements"] - 1 for row in rows(done, "attributions")) / 2, (
        "n (n - 1) / 2 pairs for n elements"
    )
    for row in found:
        game = game_of(folder, row["video_id"], row["n_elements"])
        expected = interaction(game, row["n_elements"], row["element_i"], row["element_j"])
        assert row["interaction"] == pytest.approx(expected[row["class"]], abs=4e-6)


def test_discards_are_the_values_of_what_is_left(folder: Path, done: Path) -> None:
    check_discards(folder, done, tolerance=2e-6)


def check_discards(folder: Path, output: Path, *, tolerance: float) -> None:
    videos = {(row["video_id"], row["n_elements"]): row for row in rows(output, "videos")}
    found = rows(output, "discards")
    for key, of_video in videos.items():
        video, n = key
        kept = of_video["label"] if of_video["label"] is not None else of_video["predicted"]
        contributions = esvs(output, video, n, kept)[None]
        game = game_of(folder, video, n)
        orders = {
            "descending": by_contribution(contributions, descending=True)[0],
            "ascending": by_contribution(contributions, descending=False)[0],
            "random": random_orders([derive_key(0, "discards", video)], n)[0],
            **{name: fixed_order(name, n) for name in ("center", "edges", "uniform")},
        }
        own = [row for row in found if (row["video_id"], row["n_elements"]) == key]
        places = [(row["method"], row["order"], row["discarded"]) for row in own]
        assert places == [("esv", order, count) for order in ORDERS for count in range(n + 1)]
        for row in own:
            left = tuple(sorted(orders[row["order"]][row["discarded"] :].tolist()))
            value = game(left)
            assert row["class"] == kept
            assert row["score"] == pytest.approx(value[kept], abs=tolerance)
            assert value[row["predicted"]] >= value.max() - 2 * tolerance
            if of_video["exact"]:
                best = max(game(x)[kept] for x in combinations(range(n), n - row["discarded"]))
                assert row["best"] == pytest.approx(best, abs=tolerance)
            else:
                assert row["best"] is None
            if row["discarded"] == 0:
                assert (row["score"], row["predicted"]) == (of_video["scores"][kept], of_video["predicted"])
            if row["discarded"] == n:
                assert row["score"] == np.float32(make_prior(3)[kept])


def elements_of(folder: Path, video: str, n: int) -> npt.NDArray[np.float32]:
    """The elements (n, D) of a video of the table."""
    table = pq.read_table(folder / "features")
    frames = np.array(table.column("features")[table.column("video_id").to_pylist().index(video)].as_py(), np.float32)
    return frames[[int((i + 0.5) * len(frames) / n) for i in range(n)]]


def replaced(
    elements: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], gone: list[int], by: str
) -> npt.NDArray[np.float32]:
    """The sequence in which each element that is gone is the nearest that is left, or the mean element."""
    left = [element for element in range(len(elements)) if element not in gone]
    found = elements.copy()
    for element in gone:
        if by == "mean":
            found[element] = mean
        else:
            found[element] = elements[min(left, key=lambda other: (abs(other - element), other))]
    return found


def check_replacements(
    folder: Path, output: Path, methods: Mapping[str, tuple[str, ...]], *, logits: bool = False
) -> None:
    """Compare each row with the score of the replaced sequence, by plain code."""
    frames = [np.array(each, np.float32) for each in pq.read_table(folder / "features").column("features").to_pylist()]
    mean = np.concatenate(frames).astype(np.float64).mean(axis=0)
    assert json.loads((output / "run.json").read_text())["baseline"] == pytest.approx(mean.tolist())
    found, attributions = rows(output, "replacements"), rows(output, "attributions")
    for of_video in rows(output, "videos"):
        key = video, n = of_video["video_id"], of_video["n_elements"]
        kept = of_video["label"] if of_video["label"] is not None else of_video["predicted"]
        elements = elements_of(folder, video, n)
        own = [row for row in found if (row["video_id"], row["n_elements"]) == key]
        assert [(row["method"], row["order"], row["replaced_by"], row["discarded"]) for row in own] == [
            (method, order, by, count)
            for method, orders in methods.items()
            for order in orders
            for by in ("neighbor", "mean")
            for count in range(n + (by == "mean"))
        ]
        for row in own:
            same = [each for each in attributions if (each["video_id"], each["n_elements"]) == key]
            values = [each["esv"] for each in same if (each["method"], each["class"]) == (row["method"], kept)]
            order = {
                "descending": by_contribution(np.array([values]), descending=True)[0],
                "ascending": by_contribution(np.array([values]), descending=False)[0],
                "random": random_orders([derive_key(0, "discards", video)], n)[0],
            }[row["order"]]
            sequence = replaced(
                elements, mean.astype(np.float32), order[: row["discarded"]].tolist(), row["replaced_by"]
            )
            game = multiscale_game(make_heads(), torch.from_numpy(sequence), make_prior(3), logits=logits)
            value = game(tuple(range(n)))
            value = np.exp(value) / np.exp(value).sum() if logits else value
            assert row["class"] == kept
            assert row["score"] == pytest.approx(value[kept], abs=2e-6)
            assert value[row["predicted"]] >= value.max() - 4e-6
            if row["discarded"] == 0:
                assert (row["score"], row["predicted"]) == (of_video["scores"][kept], of_video["predicted"])


OF_ESV: dict[str, tuple[str, ...]] = {"esv": ("descending", "ascending", "random")}


def test_replacements_are_the_scores_of_sequences_of_full_length(folder: Path, done: Path) -> None:
    check_replacements(folder, done, OF_ESV)
    assert verify_output(str(done)).problems == ()


@pytest.mark.slow
def test_replacements_alone_of_other_methods_and_logits(folder: Path, tmp_path: Path) -> None:
    """Without the table `discards`; sequences of at most four elements are exact with this m."""
    of_two = OF_ESV | {"occlusion": ("descending", "ascending")}
    settings = ["frames=4", "estimator.m=6", "estimator.iterations=1", "tables=replacements"]
    cases = {
        "methods": ["estimator.kind=adjusted", "methods=[esv,occlusion]"],
        "drawn": ["estimator.kind=algorithm1"],
        "logits": ["estimator.kind=exact", "estimator.output=logit"],
    }
    for name, overrides in cases.items():
        output = tmp_path / name
        assert attributed(folder, output, *settings, *overrides).quarantined == {}
        check_replacements(folder, output, of_two if name == "methods" else OF_ESV, logits=name == "logits")
        assert verify_output(str(output)).problems == ()
        found = recompute(str(output), 5)
        assert (found.videos, found.problems) == (5, ())


@pytest.mark.slow
def test_replaced_sequences_are_sampled_as_the_job_samples(folder: Path, tmp_path: Path) -> None:
    """The same bits for other units; and the ESVs are those of a job without the table."""
    settings = ["estimator.kind=adjusted", "estimator.m=6", "estimator.iterations=1"]
    one, other, plain = tmp_path / "one", tmp_path / "other", tmp_path / "plain"
    attributed(folder, one, *settings, "tables=replacements")
    attributed(folder, other, *settings, "tables=replacements", "compute.unit=2")
    attributed(folder, plain, *settings)
    assert rows(one, "replacements") == rows(other, "replacements")
    assert rows(one, "attributions") == rows(plain, "attributions")
    assert json.loads((plain / "run.json").read_text())["baseline"] is None


def test_a_replaced_sequence_without_a_finite_score_fails_its_video(folder: Path, tmp_path: Path) -> None:
    """Elements of which only the mean over all videos is too large for the model."""
    table = make_table([2, 2])
    column = table.column("features").to_pylist()
    column[1] = [[3e38] * len(frame) for frame in column[1]]
    features = pa.array(column, table.schema.field("features").type)
    table = table.set_column(table.schema.get_field_index("features"), table.schema.field("features"), features)
    (tmp_path / "features").mkdir()
    pq.write_table(table, tmp_path / "features" / "a.parquet")
    places = str(tmp_path / "features"), str(folder / "model")
    result = run(*places, tmp_path / "out", "estimator.kind=exact", "tables=replacements", "max_failed=1")
    assert result.quarantined == {}
    reasons = {row["video_id"]: row["reason"] for row in rows(tmp_path / "out", "videos")}
    assert reasons["v0"] == "replacements: scores are not finite"
    assert verify_output(str(tmp_path / "out")).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["algorithm1", "adjusted"])
def test_of_sampled_esvs_every_subsequence_is_a_sequence_of_its_own(folder: Path, tmp_path: Path, kind: str) -> None:
    """Subsequences of up to four elements are exact with this m, longer ones are sampled."""
    settings = [f"estimator.kind={kind}", "estimator.m=6", "estimator.iterations=1"]
    output = tmp_path / "out"
    attributed(folder, output, *settings, "tables=discards")
    assert {row["exact"] for row in rows(output, "videos") if row["n_elements"] > 4} == {False}
    short = tmp_path / "short"
    attributed(folder, short, *settings, "tables=discards", "frames=4")
    check_discards(folder, short, tolerance=2e-6)
    plain = tmp_path / "plain"
    attributed(folder, plain, *settings)
    assert rows(plain, "attributions") == rows(output, "attributions")
    for video, n in sequences(output):
        scores = [row for row in rows(output, "discards") if row["video_id"] == video]
        game = game_of(folder, video, n)
        last = [row for row in scores if row["discarded"] == n - 1]
        for row in last:  # one element is left, which is exact
            assert min(abs(game((element,))[row["class"]] - row["score"]) for element in range(n)) < 2e-6


@pytest.mark.parametrize("output_kind", ["logit", "probability"])
def test_discards_of_logits_are_probabilities_too(folder: Path, tmp_path: Path, output_kind: str) -> None:
    output = tmp_path / "out"
    attributed(folder, output, "estimator.kind=exact", f"estimator.output={output_kind}", "tables=discards")
    for row in rows(output, "discards"):
        assert 0 <= row["score"] <= 1
    check_first_and_last(output)


def check_first_and_last(output: Path) -> None:
    videos = {row["video_id"]: row for row in rows(output, "videos")}
    for row in rows(output, "discards"):
        if row["discarded"] == 0:
            assert row["score"] == videos[row["video_id"]]["scores"][row["class"]]
        if row["discarded"] == row["n_elements"]:
            assert row["score"] == np.float32(make_prior(3)[row["class"]])


@pytest.mark.slow
def test_interactions_of_logits(folder: Path, tmp_path: Path) -> None:
    """Logits have a closed form without values of long subsequences; interactions need them."""
    output = tmp_path / "out"
    attributed(folder, output, "estimator.kind=exact", "estimator.output=logit", "tables=[interactions,marginals]")
    for row in rows(output, "interactions"):
        game = game_of(folder, row["video_id"], row["n_elements"], logits=True)
        expected = interaction(game, row["n_elements"], row["element_i"], row["element_j"])
        assert row["interaction"] == pytest.approx(expected[row["class"]], abs=2e-5)


# Guarantees -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_bits_for_other_units_and_other_orders(folder: Path, done: Path, tmp_path: Path) -> None:
    """Tables of the same rows, whatever the units; and the same files where a job is resumed."""
    output = tmp_path / "out"
    attributed(folder, output, "frames=[4,all]", "estimator.kind=exact", TABLES, "compute.unit=2", "compute.batch=1")
    for name in ("marginals", "interactions", "discards", "replacements"):
        for row, other in zip(rows(output, name), rows(done, name), strict=True):
            assert {key: value for key, value in row.items() if not isinstance(value, float)} == {
                key: value for key, value in other.items() if not isinstance(value, float)
            }


@pytest.mark.slow
def test_a_removed_table_is_computed_again_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = ("estimator.kind=exact", TABLES, "compute.unit=2")
    attributed(folder, output, *settings)
    before = every_file(output)
    assert {name.split("/")[0] for name in before} == {
        "attributions",
        "videos",
        "marginals",
        "interactions",
        "discards",
        "replacements",
    }
    for name in ("marginals", "interactions", "discards", "replacements"):
        sorted((output / name).iterdir())[0].unlink()
    assert verify_output(str(output)).problems != ()
    attributed(folder, output, *settings)
    assert every_file(output) == before
    assert verify_output(str(output)).problems == ()


def every_file(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.glob("*/part-*.parquet"))}


def test_tables_are_part_of_the_job(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    attributed(folder, output)
    with pytest.raises(JobError, match=r"tables: expected \[\], got \[\"discards\"\]"):
        attributed(folder, output, "tables=discards")


def test_interactions_of_sampled_esvs_are_refused() -> None:
    with pytest.raises(SpecError, match=r"need the values of all subsequences: expected estimator\.kind exact"):
        load_spec({"features": "a", "model": "b", "output": "c", "tables": ["interactions"]})
    with pytest.raises(SpecError, match="tables"):
        load_spec({"features": "a", "model": "b", "output": "c", "tables": ["marginal"]})


def test_recomputing_compares_all_tables(done: Path) -> None:
    found = recompute(str(done), 5)
    assert found.problems == ()
    assert found.videos == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column"),
    [("marginals", "marginal"), ("interactions", "interaction"), ("discards", "score"), ("replacements", "score")],
)
def test_recomputing_finds_other_values(folder: Path, tmp_path: Path, name: str, column: str) -> None:
    output = tmp_path / "out"
    attributed(folder, output, "estimator.kind=exact", TABLES)
    (path,) = (output / name).iterdir()
    table = pq.read_table(path)
    values = pa.array([value + 0.01 for value in table.column(column).to_pylist()], pa.float32())
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, table.schema.field(place), values), path)
    assert any(f"{column} differs by 0.01" in problem for problem in recompute(str(output), 5).problems)
    assert any(problem.startswith(f"{name}/") for problem in verify_output(str(output)).problems)


def changed(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("marginals", lambda table: changed(table, "marginal", 4, 0.7), "marginals whose mean over scales is the ESV"),
        ("marginals", lambda table: changed(table, "scale", 4, 9), "one marginal per scale"),
        ("marginals", lambda table: table.slice(len(table) // 2), "the marginals of each ESV, and of no other"),
        ("interactions", lambda table: changed(table, "interaction", 0, 2.5), "finite interactions, at most 2"),
        ("interactions", lambda table: changed(table, "interaction", 0, float("nan")), "finite interactions"),
        ("interactions", lambda table: changed(table, "element_j", 0, 0), "elements i < j < n"),
        ("interactions", lambda table: table.slice(1), "one interaction per pair of elements"),
        ("interactions", lambda table: table.slice(0, 0), "the interactions of each class with ESVs"),
        ("discards", lambda table: changed(table, "score", 0, 0.5), "the video's own score and predicted class"),
        ("discards", lambda table: changed(table, "score", 1, 1.5), "scores from 0 to 1"),
        ("discards", lambda table: changed(table, "score", 3, 0.9), "the prior after all elements are taken away"),
        ("discards", lambda table: changed(table, "predicted", 1, 3), "classes from 0 to 2"),
        ("discards", lambda table: changed(table, "order", 1, "up"), "a known order"),
        ("discards", lambda table: table.slice(1), "one row for each number of elements"),
        (
            "discards",
            lambda table: table.filter(pc.not_equal(table.column("order"), "random")),
            "expected the 6 orders",
        ),
        ("discards", lambda table: table.slice(0, 0), "the scores of each video that is ok"),
        ("replacements", lambda table: changed(table, "score", 0, 0.5), "the video's own score and predicted class"),
        ("replacements", lambda table: changed(table, "score", 1, float("nan")), "scores from 0 to 1"),
        ("replacements", lambda table: changed(table, "class", 1, -1), "classes from 0 to 2"),
        ("replacements", lambda table: changed(table, "replaced_by", 1, "zero"), "a known replaced_by"),
        ("replacements", lambda table: changed(table, "discarded", 2, 3), "n (n - 1 with neighbors)"),
        ("replacements", lambda table: changed(table, "score", 6, 0.5), "the same score in all orders"),
        (
            "replacements",
            lambda table: table.filter(pc.not_equal(table.column("order"), "random")),
            "expected the 6 orders and replacements",
        ),
        ("replacements", lambda table: table.slice(0, 0), "the scores of each video that is ok"),
    ],
)
def test_verification_finds_values_that_cannot_be(
    folder: Path, done: Path, tmp_path: Path, name: str, change: Callable[[pa.Table], pa.Table], expected: str
) -> None:
    """Also where a forger knows of the checksums."""
    output = Path(shutil.copytree(done, tmp_path / "out"))
    (path,) = (output / name).iterdir()
    table = pq.read_table(path)
    pq.write_table(change(table), path)
    (mark,) = (output / "videos").iterdir()
    videos = pq.read_table(mark)
    footer = json.loads(videos.schema.metadata[b"esv_ray"])
    footer["checksums"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    footer["counts"][f"{name.removesuffix('s')}_rows"] = change(table).num_rows
    pq.write_table(videos.replace_schema_metadata({"esv_ray": json.dumps(footer)}), mark)
    problems = verify_output(str(output)).problems
    assert any(expected in problem for problem in problems if problem.startswith(f"{name}/")), problems


def test_a_failed_video_that_is_tried_again(folder: Path, tmp_path: Path) -> None:
    """Its rows take their places in all tables."""
    output, whole = tmp_path / "out", tmp_path / "whole"
    settings = ("frames=6", "short=skip", "estimator.kind=exact", TABLES)
    spec = load_spec(
        {"features": str(folder / "features"), "model": str(folder / "model"), "output": str(output)},
        [*settings, "cluster.actors=0"],
    )
    run_job(spec)
    attributed(folder, whole, *settings)
    before = every_file(whole)
    attributed(folder, output, *settings, retry_failed=True)
    assert every_file(output) == before


@pytest.mark.slow
def test_a_length_whose_shorter_sequences_do_not_fit_fails_alone(folder: Path, tmp_path: Path) -> None:
    """The adjusted estimator may take more memory for 12 elements than for 14; found by a review."""
    (tmp_path / "features").mkdir()
    pq.write_table(make_table([14, 6, 14, 6]), tmp_path / "features" / "a.parquet")
    settings = ("estimator.kind=adjusted", "estimator.m=64", "estimator.iterations=2", "compute.memory_budget=8MB")
    places = str(tmp_path / "features"), str(folder / "model")
    assert run(*places, tmp_path / "plain", *settings).counts.failed == 0
    result = run(*places, tmp_path / "out", *settings, "tables=discards", "max_failed=1")
    assert (result.quarantined, result.counts.ok, result.counts.failed) == ({}, 2, 2)
    reasons = {row["reason"] for row in rows(tmp_path / "out", "videos") if row["status"] == "failed"}
    assert all(reason.startswith("discards of 14 elements evaluate shorter sequences, too") for reason in reasons)
    assert verify_output(str(tmp_path / "out")).problems == ()
