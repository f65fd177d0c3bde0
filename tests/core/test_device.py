"""A batch on a device that is not this machine's processor: nothing waits for it, and no tensor lies elsewhere.

Tensors are made up (`FakeTensorMode`): they have shapes and devices, and no numbers. What needs a number of the device,
such as `item` or `nonzero`, raises; so does an operation on tensors of two devices. `lazy` is the one type of device
that every build of torch lets tensors be made up on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from esv_ray.core.attribution import Attribution, Extras
from esv_ray.core.games import heads
from esv_ray.core.games.model import VideoModel
from esv_ray.core.lattices import lattice
from esv_ray.core.logit import marginals as logit_marginals
from esv_ray.core.plan import Plan, plan_for
from esv_ray.core.workspace import Workspace, counting, default_working_set
from esv_ray.estimator import Estimator, Output
from tests.conftest import make_model

DEVICE = torch.device("lazy", 0)
CPU = torch.device("cpu")
BATCH = 5
# Operations that only describe memory, or ask what is known on the host.
VIEWS = {"view", "select", "unsqueeze", "slice", "expand", "alias", "as_strided", "transpose", "t", "permute", "detach"}
FREE = VIEWS | {"device", "empty", "new_empty", "empty_like", "_unsafe_view", "squeeze"}


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that would start a kernel or a copy, and refuses copies to the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if isinstance(out, Tensor) and out.device.type == "cpu" and name not in {"scalar_tensor", "device"}:
            raise AssertionError(f"{name} made a tensor in host memory")
        if name not in FREE:
            self.counts[name] += 1
        return out


def moved(part: Any, made_up: Callable[[Tensor], Tensor]) -> Any:
    """Return a plan with made-up tensors."""
    if isinstance(part, Tensor):
        return made_up(part)
    if isinstance(part, tuple):
        return tuple(moved(each, made_up) for each in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{field.name: moved(getattr(part, field.name), made_up) for field in fields(part)})
    return part


def on_device(model: VideoModel, plan: Plan, mode: FakeTensorMode) -> tuple[VideoModel, Plan]:
    """Return a model and a plan with made-up tensors on the device."""

    def made_up(tensor: Tensor) -> Tensor:
        return mode.from_tensor(tensor).to(DEVICE)

    for module in model.scorer.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, made_up(buffer))
    return replace(model, prior=made_up(model.prior)), moved(plan, made_up)


def attributed(
    kind: Any,
    n: int,
    options: dict[str, int] | None = None,
    *,
    output: Output,
    extras: Extras,
    stored: bool = True,
    working_set: int | None = None,
) -> tuple[Attribution, Counter[str]]:
    """Return the attribution of a batch on the device, and the operations of a second batch like it."""
    model = make_model(n_max=4)
    estimator = Estimator(kind, output=output, **(options or {}))
    plan = plan_for(
        estimator, n, scales=model.scales, dtype=torch.float32, device=CPU,
        stored=stored, values=extras.values, marginals=extras.marginals,
    )  # fmt: skip
    with FakeTensorMode() as mode, torch.no_grad():
        model, plan = on_device(model, plan, mode)
        features = torch.empty((BATCH, n, 4), device=DEVICE)
        labels = None if plan.exact else torch.empty((BATCH, n), dtype=torch.int32, device=DEVICE)
        workspace = Workspace(DEVICE, torch.float32, working_set or default_working_set(torch.device("cuda")))
        operations = Operations()
        for counted in (nullcontext(), operations):  # small things are made once
            with counted:
                result = plan.apply(
                    model, features, output=output, relabelling=labels, workspace=workspace, extras=extras
                )
    return result, operations.counts


CASES = [
    ("exact", 8, "probability", {}),
    ("exact", 3, "probability", {}),
    ("exact", 8, "logit", {}),
    ("algorithm1", 8, "probability", {"m": 16, "iterations": 2}),
    ("adjusted", 12, "probability", {"m": 32}),
    ("adjusted", 24, "probability", {"m": 32}),
    ("adjusted", 70, "probability", {"m": 16}),
    ("adjusted", 12, "logit", {"m": 16}),
]


@pytest.fixture(autouse=True)
def _nothing_is_kept_from_made_up_devices() -> Iterator[None]:
    """Small tensors that are made once belong to one `FakeTensorMode`."""
    yield
    for cached in (counting, heads._row_starts, lattice._binomials, logit_marginals._mixes):
        cached.cache_clear()


@pytest.mark.parametrize("marginals", [False, True])
@pytest.mark.parametrize(("kind", "n", "output", "options"), CASES)
def test_nothing_waits_and_all_is_on_the_device(
    kind: str, n: int, output: Output, options: dict[str, int], marginals: bool
) -> None:
    result, _ = attributed(kind, n, options, output=output, extras=Extras(marginals=marginals))
    tensors = [getattr(result, field.name) for field in fields(result)]
    assert {tensor.device for tensor in tensors if isinstance(tensor, Tensor)} == {DEVICE}
    with FakeTensorMode():
        assert result.esv.shape == (BATCH, n, 3)


def test_indices_that_are_not_stored_are_made_on_the_device() -> None:
    result, _ = attributed("exact", 8, output="probability", extras=Extras(), stored=False)
    assert result.esv.device == DEVICE


def test_values_of_subsequences_stay_on_the_device() -> None:
    result, _ = attributed("exact", 6, output="probability", extras=Extras(values=True))
    assert result.values is not None
    assert {values.device for values in result.values} == {DEVICE}


def test_what_waits_is_found() -> None:
    with FakeTensorMode(), pytest.raises(DynamicOutputShapeException):
        torch.empty(3, device=DEVICE).nonzero()
    with FakeTensorMode(), Operations(), pytest.raises(AssertionError, match="in host memory"):
        torch.empty(3, device=DEVICE).cpu()
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device=DEVICE).add_(torch.empty(3))


def test_relabelling_a_batch_asks_nothing_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = make_model(n_max=4).scales
    plan = plan_for(Estimator("adjusted", m=32), 24, scales=scales, dtype=torch.float32, device=CPU)
    keys = [np.uint64(key) for key in range(3)]
    first = plan.relabelling(keys)
    monkeypatch.setattr(Tensor, "cpu", None)
    monkeypatch.setattr(Tensor, "numpy", None)
    again = plan.relabelling(keys)
    assert first is not None
    assert again is not None
    assert (first == again).all()


@pytest.mark.parametrize(("working_set", "most"), [(2**27, 80), (2**17, 160)])
def test_a_batch_starts_few_kernels(working_set: int, most: int) -> None:
    """Launches are what small batches on a GPU wait for; a batch beyond the working set goes scale by scale."""
    _, counts = attributed("exact", 8, output="probability", extras=Extras(), working_set=working_set)
    assert counts.total() < most, counts
