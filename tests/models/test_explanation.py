"""The result of `explain` as people use it: classes by name, tables, text, pictures; and models of any kind."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.games.model import VideoModel, variable_length_model
from esv_ray.errors import DataError, EsvError, ModelError, SpecError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.explanation import Explanation
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior
from tests.support import factories

NAMES = ("run", "jump & <b>fall</b>", "stand")


def sequence(n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("models") / "bundle")
    save_heads(place, make_heads(), make_prior(3), classes=NAMES)
    return place


@pytest.fixture(scope="module")
def model(url: str) -> VideoModel:
    return load_model(url)


@pytest.fixture(scope="module")
def sampled(model: VideoModel) -> Explanation:
    return explain(model, sequence(20), m=40, iterations=2, video_id="clips/1")


# --- what explain takes


def test_a_bundle_by_its_location(url: str, model: VideoModel) -> None:
    expected = explain(model, sequence(6))
    for given in (url, Path(url)):
        assert torch.equal(explain(given, sequence(6)).esv, expected.esv)


def test_a_module_with_a_prior() -> None:
    module, prior = factories.MeanLinear(4, 3), make_prior(3)
    expected = explain(variable_length_model(module, prior, feature_dim=4), sequence(6))
    for given in (prior, prior.float(), prior.numpy(), prior.tolist()):
        assert torch.allclose(explain(module, sequence(6), prior=given).esv, expected.esv, rtol=0, atol=1e-6)
    double = explain(factories.MeanLinear(4, 3).double(), sequence(6), prior=prior)
    assert double.esv.dtype == torch.float64
    assert torch.allclose(double.esv.float(), expected.esv, rtol=0, atol=1e-6)


def test_batches_and_lists(model: VideoModel) -> None:
    batch = np.stack([sequence(5, 1), sequence(5, 2)])
    expected = [explain(model, each) for each in batch]
    for given in (batch, torch.from_numpy(batch), list(batch), [each.tolist() for each in batch], batch.tolist()):
        results: Any = explain(model, given)
        for result, alone in zip(results, expected, strict=True):
            assert torch.allclose(result.esv, alone.esv, rtol=0, atol=1e-6), "batches round differently"
    for single in (batch[0], batch[0].tolist(), list(batch[0]), list(torch.from_numpy(batch[0]))):
        one: Any = explain(model, single)
        assert torch.equal(one.esv, expected[0].esv)
    frame: Any = pandas.DataFrame(batch[0])
    assert torch.equal(explain(model, frame).esv, expected[0].esv)


class Random(nn.Module):
    def forward(self, sequences: Tensor) -> Tensor:
        return sequences[:, int(torch.randint(sequences.shape[1], (1,))), :3]


WRONG: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "no model": (3, sequence(4), {}, "model: expected a loaded model"),
    "a state dict": ({"weight": torch.zeros(3)}, sequence(4), {}, "got dict"),
    "no bundle": ("nowhere/at/all", sequence(4), {}, "expected a model bundle"),
    "no prior": (factories.MeanLinear(4, 3), sequence(4), {}, "prior: expected the class prior"),
    "a prior of words": (factories.MeanLinear(4, 3), sequence(4), {"prior": ["a"]}, "prior: expected (C,)"),
    "a prior of two": (factories.MeanLinear(4, 3), sequence(4), {"prior": [0.5, 0.5]}, "(N, 2)"),
    "a prior beyond 1": (factories.MeanLinear(4, 3), sequence(4), {"prior": [1.0, 1.0, 1.0]}, "sum to 1"),
    "a module that draws": (Random(), sequence(4), {"prior": [0.5, 0.25, 0.25]}, "torch's global generator"),
    "no features": (None, None, {}, "features: expected an array or tensor"),
    "text": (None, "abc", {}, "features: expected an array or tensor"),
    "ragged": (None, [[1.0, 2.0], [1.0]], {}, "features: expected numbers of shape (n, D)"),
    "words": (None, [["a", "b"]], {}, "features must be real numbers"),
    "one frame": (None, sequence(4)[0], {}, "features must be (n, 4)"),
    "no list of ids": (None, [sequence(4)], {"video_ids": [3]}, "video_ids: expected 1 texts"),
    "a prior of a bundle": (None, sequence(4), {"prior": [0.5, 0.5]}, "a bundle has its own"),
    "half a batch": (None, sequence(4), {"batch": 0.5}, "batch: expected a whole number"),
    "no estimator": (None, sequence(4), {"estimator": "best"}, "estimator: expected auto"),
    "m of text": (None, sequence(4), {"m": "8"}, "m: expected a whole number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_errors_of_one_kind(model: VideoModel, name: str) -> None:
    given, features, options, part = WRONG[name]
    with pytest.raises(EsvError, match=re.escape(part)):
        explain(model if given is None else given, features, **options)
    assert {SpecError, DataError, ModelError} <= set(EsvError.__subclasses__())


# --- what comes back


def test_classes_by_number_and_by_name(sampled: Explanation) -> None:
    expected = sampled.contrast(2, 0)
    for a in (2, np.int64(2), np.uint8(2), torch.tensor(2), torch.tensor([2]), np.array([2]), "stand"):
        contrast = sampled.contrast(a, "run")
        assert torch.equal(contrast.esv, expected.esv)
        assert contrast.stderr is not None
        assert expected.stderr is not None
        assert torch.equal(contrast.stderr, expected.stderr)
    assert sampled.classes == NAMES
    assert sampled.predicted == int(sampled.scores.argmax())


@pytest.mark.parametrize(
    "wrong", [3, -1, True, 1.0, None, "standing", "", (1,), torch.tensor([1, 2]), torch.tensor(1.5), np.bool_(True)]
)
def test_classes_that_are_not_there(sampled: Explanation, wrong: object) -> None:
    with pytest.raises(SpecError, match="class: "):
        sampled.contrast(wrong, 0)
    with pytest.raises(SpecError, match="class: "):
        sampled.plot(wrong)


def test_names_are_suggested_or_missed(sampled: Explanation) -> None:
    with pytest.raises(SpecError, match="did you mean 'stand'"):
        sampled.contrast("stant", 0)
    nameless = explain(VideoModel(sampled_model().scorer, make_prior(3), 4), sequence(4))
    with pytest.raises(SpecError, match="the model has no class names"):
        nameless.contrast("run", 0)


def sampled_model() -> VideoModel:
    return variable_length_model(factories.MeanLinear(4, 3), make_prior(3), feature_dim=4)


def test_tables(sampled: Explanation) -> None:
    table = sampled.to_arrow()
    assert table.schema.names == ["class", "name", "element", "esv", "stderr"]
    assert table.num_rows == 60
    frame = sampled.to_pandas()
    for class_id in range(3):
        rows = frame[frame["class"] == class_id]
        assert rows["element"].tolist() == list(range(20))
        assert set(rows["name"]) == {NAMES[class_id]}
        np.testing.assert_array_equal(rows["esv"], sampled.esv[:, class_id])
        assert sampled.stderr is not None
        np.testing.assert_array_equal(rows["stderr"], sampled.stderr[:, class_id])
    exact = explain(sampled_model(), sequence(3)).to_arrow()
    assert exact.column("stderr").null_count == exact.column("name").null_count == 9
    assert exact.schema.field("name").type == pa.string()


def test_text_is_short_and_says_what_it_is(sampled: Explanation) -> None:
    lines = repr(sampled).splitlines()
    assert len(lines) <= 10
    assert lines[0] == "Explanation of 'clips/1': 20 elements, 3 classes"
    assert f"predicted: {sampled.predicted} {NAMES[sampled.predicted]!r}" in repr(sampled)
    top = int(sampled.esv[:, sampled.predicted].argmax())
    assert f"supporting elements: {top} (+" in repr(sampled)
    exact = repr(explain(sampled_model(), sequence(3)))
    assert "exact, 7 head evaluations" in exact


def test_the_notebook_s_picture(sampled: Explanation) -> None:
    html = sampled._repr_html_()
    assert html.count("<rect") == 20
    assert "<script" not in html
    assert "<b>fall" not in html, "names are escaped"
    assert len(html) < 8000


def test_the_figure_has_the_values(sampled: Explanation) -> None:
    spec = json.loads(sampled.plot("run", 2).to_json())
    assert len(spec["vconcat"]) == 2
    for panel, class_id in zip(spec["vconcat"], (0, 2), strict=True):
        values = panel["layer"][0]["data"]["values"] if "data" in panel["layer"][0] else panel["data"]["values"]
        np.testing.assert_allclose([row["value"] for row in values], sampled.esv[:, class_id], rtol=1e-6)
        assert panel["title"]["text"].startswith(NAMES[class_id][:3])


@pytest.mark.parametrize(("library", "call"), [("altair", "plot"), ("vl_convert", "plot"), ("pandas", "to_pandas")])
def test_a_missing_library_is_named(
    sampled: Explanation, monkeypatch: pytest.MonkeyPatch, library: str, call: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SpecError, match=rf"need[s]? {library}, which is not installed: pip install"):
        getattr(sampled, call)()
