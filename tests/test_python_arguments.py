"""Wrong arguments of the public Python functions: one kind of error in one line, never an AttributeError."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import esv_ray
from esv_ray.errors import EsvError
from esv_ray.models.bundle import load_model
from esv_ray.spec import load_spec
from tests.conftest import make_model
from tests.support.job_factories import CONSENT
from tests.support.jobs import run

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
NO_LOCATIONS = (3, None, b"model", 1.5, ["model"])


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(EsvError) as caught:
        call()
    text = str(caught.value)
    assert text.splitlines() == [text]
    return text


@pytest.mark.parametrize("value", NO_LOCATIONS, ids=repr)
def test_what_is_no_location(value: Any) -> None:
    kind = type(value).__name__
    assert f"expected a location, as a text or a path, got {kind}" in refusal(lambda: esv_ray.load_model(value))
    assert kind in refusal(lambda: esv_ray.explain(value, X))
    for call in (
        lambda: esv_ray.analyze(value),
        lambda: esv_ray.compare(value, "b"),
        lambda: esv_ray.sql(value, "SELECT 1"),
        lambda: esv_ray.run(value),
    ):
        assert f"got {kind}" in refusal(call)
    if value is not None:
        assert f"source: expected a location, as a text or a path, got {kind}" in refusal(lambda: load_spec(value))


def test_paths_are_locations(features: str, bundle: str, tmp_path: Path) -> None:
    run(features, bundle, tmp_path / "out", "frames=3")
    assert load_model(Path(bundle)).digest == load_model(bundle).digest
    assert isinstance(esv_ray.explain(Path(bundle), X), type(esv_ray.explain(bundle, X)))
    assert esv_ray.analyze(tmp_path / "out", "summary") == esv_ray.analyze(str(tmp_path / "out"), ["summary"])
    assert esv_ray.sql({"a": tmp_path / "out"}, "SELECT count(*) AS n FROM a.videos").to_pylist() == [{"n": 40}]
    assert "got " in refusal(lambda: esv_ray.compare(tmp_path / "out", tmp_path / "out"))
    (tmp_path / "job.yaml").write_text(f"features: {features}\nmodel: {bundle}\noutput: {tmp_path}/out\n")
    spec = load_spec(tmp_path / "job.yaml", "frames=3", code=CONSENT.split("=")[1].strip("[]"))
    own = {"features": Path(features), "model": Path(bundle), "output": tmp_path / "out"}
    assert load_spec(own, ["frames=3", CONSENT]) == spec


def test_values_of_other_types() -> None:
    query: Any = 3
    assert "query: expected one SELECT statement as a text, got int" in refusal(partial(esv_ray.sql, "out", query))
    needed = {"features": "f", "model": "m", "output": "o"}
    wrong: tuple[Any, ...] = (3, "a b", ["a", 3])
    for code in wrong:
        says = refusal(partial(load_spec, needed, code=code))
        assert says.startswith("code: expected names of Python packages")


def test_tensors_without_values() -> None:
    model = make_model()
    for tensor in (torch.from_numpy(X).to_sparse(), torch.empty(5, 4, device="meta")):
        says = refusal(partial(esv_ray.explain, model, tensor))
        assert "sequence 0: features must be a dense tensor with values" in says


def test_devices_and_dtypes_that_torch_cannot_use() -> None:
    model = make_model()
    devices: tuple[Any, ...] = ("nonsense", "cuda:99", 3.5)
    dtypes: tuple[Any, ...] = (torch.int32, "float32")
    for device in devices:
        says = refusal(partial(model.to, device))
        assert says.startswith("device: expected one that torch can use here, got ")
    for dtype in dtypes:
        assert refusal(partial(model.to, "cpu", dtype)).startswith("dtype: expected a floating-point dtype")
    assert model.to("cpu", torch.float64).dtype == torch.float64


def test_a_torch_module_is_called_a_model() -> None:
    says = refusal(lambda: esv_ray.explain(torch.nn.GRU(4, 3, batch_first=True), X, prior=[0.2, 0.3, 0.5]))
    assert says.startswith("model: expected floating-point logits (N, 3)")
    linear = torch.nn.Linear(4, 3)
    assert "prior: expected (C,) probabilities, got 'uniform'" in refusal(
        lambda: esv_ray.explain(linear, X, prior="uniform")
    )
