"""Jobs over tables of images, with modules that take them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from esv_ray.attribution.recompute import recompute
from esv_ray.cli import cli
from esv_ray.core.engine import Engine
from esv_ray.errors import DataError, EsvError, ModelError, SpecError
from esv_ray.estimator import Estimator
from esv_ray.input.videos import read_videos
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from tests.support.factories import MeanImage, SumOfImages
from tests.support.image_tables import image_table, images_of
from tests.support.jobs import run
from tests.support.oracle import esv_by_orders, module_game

CODE = "tests.support.factories"
SHAPE = (16, 16, 3)
PRIOR = torch.full((3,), 1 / 3)


def import_factory(name: str, out: Path, *options: str) -> Result:
    arguments = ["import", "model", "--from", "module", f"{CODE}:{name}", "--code", CODE, "--prior", "uniform"]
    return CliRunner().invoke(cli, [*arguments, "--output", str(out), *options])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundles of modules of images of 16 x 16, by the name of their factory."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("of_images", "scales_of_images", "sum_of_images", "four_images"):
        result = import_factory(name, folder / name, "--size", "16")
        assert result.exit_code == 0, (result.output, result.exception)
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("table") / "images.parquet")
    pq.write_table(image_table([4, 6, 3, 5]), url, row_group_size=2)
    return url


def rows(out: Path, table: str = "attributions") -> list[dict[str, Any]]:
    return [row for file in sorted((out / table).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_a_job_has_the_esvs_of_the_module(table: str, bundles: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(table, bundles["of_images"], out, "frames=all", "classes=all", "estimator.kind=exact", f"code=[{CODE}]")
    found = {(row["video_id"], row["class"], row["element"]): row["esv"] for row in rows(out)}
    for index, length in enumerate([4, 6, 3, 5]):
        images = torch.from_numpy(images_of(length, SHAPE, index))
        expected = esv_by_orders(module_game(MeanImage(3), images, PRIOR), length)
        got = np.array([[found[f"v{index}", c, i] for c in range(3)] for i in range(length)])
        assert np.abs(got - expected).max() < 1e-5
        assert np.abs(expected).max() > 0.05
    verified = CliRunner().invoke(cli, ["verify", str(out), "--recompute", "4", "--code", CODE])
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("name", ["of_images", "scales_of_images", "sum_of_images", "four_images"])
def test_explain_is_the_same_whatever_the_estimator(bundles: dict[str, str], name: str) -> None:
    images = images_of(5, SHAPE, 3)
    exact = explain(bundles[name], images, code=[CODE], estimator="exact")
    sampled = explain(bundles[name], images, code=[CODE], estimator="algorithm1", m=64)  # every subsequence
    assert (exact.esv - sampled.esv).abs().max() < 1e-5
    assert exact.esv.abs().max() > 0.05
    in_logits = explain(bundles[name], images, code=[CODE], estimator="exact", output="logit")
    assert in_logits.exact
    adjusted = explain(bundles[name], images, code=[CODE], estimator="adjusted", m=64)
    assert (exact.esv - adjusted.esv).abs().max() < 0.05


def test_pooled_images_are_encoded_once(bundles: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    original = SumOfImages.encode

    def counting(self: SumOfImages, images: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images))
        return original(self, images)

    model = load_model(bundles["sum_of_images"], code=[CODE])
    monkeypatch.setattr(SumOfImages, "encode", counting)
    images = torch.from_numpy(images_of(6, SHAPE, 1))
    result = explain(model, images, estimator="exact")
    assert sum(encoded) == 6
    module = SumOfImages(3)

    def forward(each: torch.Tensor) -> torch.Tensor:
        sizes = torch.full((len(each),), float(each.shape[1]))
        return module.decode(original(module, each.flatten(0, 1)).view(len(each), each.shape[1], -1).sum(dim=1), sizes)

    class Whole(nn.Module):
        def forward(self, each: torch.Tensor) -> torch.Tensor:
            return forward(each)

    expected = esv_by_orders(module_game(Whole(), images, PRIOR), 6)
    assert np.abs(result.esv.numpy() - expected).max() < 1e-5


def test_a_torch_module_takes_images(bundles: dict[str, str]) -> None:
    images = images_of(4, SHAPE, 5)
    expected = explain(bundles["of_images"], images, code=[CODE])
    one = explain(MeanImage(3), images, prior=PRIOR)
    two = explain(MeanImage(3), list(np.stack([images, images[::-1]])), prior=PRIOR)[0]
    three, four = explain(bundles["of_images"], [images, images[:3]], code=[CODE])
    for each in (one, two, three):
        assert torch.equal(each.esv, expected.esv)
    assert four.esv.shape == (3, 3)
    flat = explain(bundles["of_images"], images.reshape(4, -1), code=[CODE])  # as a table holds them
    assert torch.equal(flat.esv, expected.esv)


def test_further_tables_and_methods(table: str, bundles: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["methods=[esv, occlusion, random]", "tables=[marginals, interactions, discards, replacements]"]
    run(table, bundles["of_images"], out, "frames=3", "estimator.kind=exact", f"code=[{CODE}]", *asked)
    assert {row["method"] for row in rows(out)} == {"esv", "occlusion", "random"}
    values = [row["esv"] for row in rows(out) if row["method"] == "occlusion"]
    assert np.std(values) > 0
    assert rows(out, "replacements")
    with pytest.raises(SpecError, match="gradients in the elements, which are images"):
        run(table, bundles["of_images"], tmp_path / "no", "methods=[esv, grad_cam]", f"code=[{CODE}]")


def test_small_chunks_change_nothing_but_rounding(bundles: dict[str, str]) -> None:
    """One subsequence at a time, as where a network fills the device."""
    model = load_model(bundles["of_images"], code=[CODE])
    images = torch.from_numpy(images_of(6, SHAPE, 2)).flatten(1)
    results = []
    for budget in (2**24, 2**32):
        engine = Engine(model, Estimator("exact"), memory_budget=budget)
        ((_, result),) = engine.attributions([6], ["a"], lambda rows: torch.stack([images for _ in rows]))
        results.append(result.esv)
        assert engine.fitting(6, 20, 1) == max(1, engine.budget.working_set // (6 * 40 * 768 * 4))
    assert (results[0] - results[1]).abs().max() < 1e-6


def test_memory_that_runs_out_makes_chunks_smaller(bundles: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(bundles["of_images"], code=[CODE])
    images = torch.from_numpy(images_of(6, SHAPE, 2)).flatten(1)
    expected = explain(model, images.view(6, *SHAPE)).esv
    original, sizes = MeanImage.forward, []

    def limited(self: MeanImage, each: torch.Tensor) -> torch.Tensor:
        sizes.append(len(each))
        if len(each) > 4:
            raise torch.OutOfMemoryError("made up")
        return original(self, each)

    monkeypatch.setattr(MeanImage, "forward", limited)
    engine = Engine(model, Estimator("exact"), memory_budget=2**34, threads=64)
    ((_, result),) = engine.attributions([6], ["a"], lambda rows: torch.stack([images for _ in rows]))
    assert (result.esv[0] - expected).abs().max() < 1e-6
    assert max(sizes) > 4


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("", "in the column's metadata their shape: H,W,3, or k,H,W,3 of clips, got none"),
        ("16,16", "got '16,16'"),
        ("16,16,4", "got '16,16,4'"),
        ("8,8,3", "expected elements of 192 numbers, as its shape 8,8,3 says, got 768"),
    ],
)
def test_tables_of_bytes_that_are_no_images(
    bundles: dict[str, str], tmp_path: Path, metadata: str, expected: str
) -> None:
    url = str(tmp_path / "images.parquet")
    pq.write_table(image_table([2], metadata=metadata), url)
    with pytest.raises(DataError, match=expected):
        run(url, bundles["of_images"], tmp_path / "out", f"code=[{CODE}]")


def test_elements_that_a_model_does_not_take(
    table: str, bundle: str, features: str, bundles: dict[str, str], tmp_path: Path
) -> None:
    code, out = f"code=[{CODE}]", tmp_path / "out"
    with pytest.raises(
        DataError, match=r"takes images of 16 x 16 pixels, got feature vectors of \d+ numbers; make the"
    ):
        run(features, bundles["of_images"], out, code)
    with pytest.raises(DataError, match="takes feature vectors, got images of 16 x 16 pixels; extract features"):
        run(table, bundle, out)
    other = str(tmp_path / "other.parquet")
    pq.write_table(image_table([2], (16, 24, 3)), other)
    with pytest.raises(DataError, match="takes images of 16 x 16 pixels, got images of 16 x 24 pixels; make the table"):
        run(other, bundles["of_images"], out, code)
    with pytest.raises(DataError, match="takes feature vectors, got images"):
        read_videos(table)


def test_a_null_in_an_image_fails_its_row(bundles: dict[str, str], tmp_path: Path) -> None:
    made = image_table([2, 2, 2])
    videos = made.column("features").to_pylist()
    videos[1][1][5] = None
    url = str(tmp_path / "images.parquet")
    pq.write_table(made.set_column(1, made.schema.field(1), pa.array(videos, made.schema.field(1).type)), url)
    run(url, bundles["of_images"], tmp_path / "out", f"code=[{CODE}]", "max_failed=1")
    failed = [row for row in rows(tmp_path / "out", "videos") if row["status"] == "failed"]
    assert [(row["video_id"], row["reason"]) for row in failed] == [
        ("v1", "features are not finite: NaN, infinity or null in frame 1")
    ]


def test_a_plan_counts_forward_passes(bundles: dict[str, str], tmp_path: Path) -> None:
    url = str(tmp_path / "images.parquet")
    pq.write_table(image_table([6, 6]), url)
    arguments = ["plan", "--features", url, "--model", bundles["of_images"], "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*arguments, "--set", "frames=6", "--code", CODE])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "63 forward passes a video of n = 6 (exact, one for each subsequence)" in result.output
    (line,) = [line for line in result.output.splitlines() if "iterations=1 takes" in line]
    counts = {
        int(m): int(count) for count, m in [part.split(" with m=") for part in line.partition("takes ")[2].split(", ")]
    }
    for m, count in counts.items():
        images = images_of(6, SHAPE, 0)
        sampled = explain(bundles["of_images"], images, code=[CODE], estimator="adjusted", m=m, iterations=1)
        assert sampled.evaluations == count < 63
    assert all(one > other for one, other in pairwise(counts.values()))


def test_an_import_says_what_the_module_takes(tmp_path: Path) -> None:
    clips = import_factory("of_images", tmp_path / "clips", "--size", "16x24", "--clip", "2")
    assert "elements clips of 2 images of 16 x 24 pixels, 2304 bytes (D)" in clips.output
    assert load_model(str(tmp_path / "clips"), code=[CODE]).shape == (2, 16, 24, 3)
    refused = import_factory("four_images", tmp_path / "no", "--size", "16", "--argument", "how=interpolate")
    assert isinstance(refused.exception, ModelError)
    assert "bytes are not interpolated" in str(refused.exception)
    for options in (["--clip", "2"], ["--size", "16", "--feature-dim", "768"], ["--size", "a"]):
        result = import_factory("of_images", tmp_path / "no", *options)
        assert result.exit_code == 2 or isinstance(result.exception, EsvError)


def test_the_prior_may_be_the_mean_output_over_images(table: str, tmp_path: Path) -> None:
    arguments = ["import", "model", "--from", "module", f"{CODE}:of_images", "--code", CODE, "--size", "16"]
    result = CliRunner().invoke(cli, [*arguments, "--prior", f"model:{table}", "--output", str(tmp_path / "m")])
    assert result.exit_code == 0, (result.output, result.exception)
    scores = []
    for index, length in enumerate([4, 6, 3, 5]):
        with torch.no_grad():
            scores.append(MeanImage(3)(torch.from_numpy(images_of(length, SHAPE, index))[None])[0].softmax(dim=0))
    prior = load_model(str(tmp_path / "m"), code=[CODE]).prior
    assert torch.allclose(prior.float(), torch.stack(scores).mean(dim=0), atol=1e-5)


@pytest.mark.slow
def test_the_same_bits_on_two_actors(bundles: dict[str, str], tmp_path: Path) -> None:
    url = str(tmp_path / "images.parquet")
    pq.write_table(image_table([4, 6, 3, 5, 6, 2, 7, 4]), url, row_group_size=2)
    options = ["frames=[2, 5]", "classes=all", "estimator.m=4", "estimator.iterations=2", "compute.unit=2"]
    for name, actors in (("one", 0), ("two", 2)):
        run(url, bundles["of_images"], tmp_path / name, *options, f"code=[{CODE}]", f"cluster.actors={actors}")
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert rows(tmp_path / "one", "videos") == rows(tmp_path / "two", "videos")


def test_recompute(table: str, bundles: dict[str, str], tmp_path: Path) -> None:
    run(table, bundles["of_images"], tmp_path / "out", "frames=3", "estimator.m=2", f"code=[{CODE}]")
    found = recompute(str(tmp_path / "out"), 4, code=[CODE])
    assert (found.same, found.problems) == (4, ())
