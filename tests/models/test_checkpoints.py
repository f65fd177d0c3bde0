"""Checkpoints of many shapes: every tensor is used, named as not used, or refused, and files that are no checkpoint."""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from esv_ray.errors import DataError, ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.sources.checkpoint_names import NonHeadTensors
from esv_ray.models.sources.checkpoints import read_checkpoint
from tests.conftest import FILES
from tests.support.play_fair import CLASSES, PRIOR, import_play_fair, imported, refusal, state_of, written

TRN, DEEP, MTRN, TSN = (state_of(f"{name}.pth") for name in ("trn_1_frames", "deep_1_frames", "mtrn_4_frames", "tsn"))
State = dict[str, Tensor]


def summary_of(tmp_path: Path, content: object, name: str = "x.pth") -> str:
    """What an import says of a checkpoint, which must be taken."""
    path = written(tmp_path / name, content)
    return import_play_fair([path], prior=PRIOR, out=str(tmp_path / "model"))


def digest_of(tmp_path: Path, *names: str) -> str:
    return load_model(imported(tmp_path / "expected", *names)).digest


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def other(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


# --- tensors beside the heads


@pytest.mark.parametrize(
    ("state", "stray"),
    [
        ({**TSN, "model.1.weight": ones(16, 16), "model.1.bias": ones(16)}, "model.1.weight"),
        ({**TSN, "hidden.weight": ones(16, 16)}, "hidden.weight"),
        ({**TSN, "classifier2.weight": ones(7, 16)}, "classifier2.weight"),
        ({**TSN, "classifier.1.weight": ones(7, 16)}, "classifier.1.weight"),
        ({**TSN, "classifier.weight_g": ones(7, 1)}, "classifier.weight_g"),
        ({**TSN, "classifier.running_mean": ones(7)}, "classifier.running_mean"),
        ({**TSN, "new_fc.weight": ones(16, 16)}, "new_fc.weight"),
        ({**TSN, "consensus.weights": ones(8)}, "consensus.weights"),
        ({**TSN, "single_scale_models.0.model.1.weight": ones(7, 16)}, "classifier.weight"),
        ({**TRN, "attention.in_proj_weight": ones(48, 16)}, "attention.in_proj_weight"),
        ({**TRN, "norm.running_mean": ones(16)}, "norm.running_mean"),
        ({**MTRN, "projection.weight": ones(16, 16)}, "projection.weight"),
        ({**MTRN, "scale_weights": ones(4)}, "scale_weights"),
        ({**MTRN, "single_scale_models.0.scale": ones(1)}, "single_scale_models.0.scale"),
        ({**MTRN, f"single_scale_models.{'9' * 5000}.model.1.bias": ones(1)}, "single_scale_models.9"),
        ({**TRN, "model.\u0661.weight": ones(1, 1)}, "model.\u0661.weight"),
        ({**MTRN, "model.1.weight": ones(7, 16)}, "model.1.weight"),
        ({**TRN, "model.01.weight": ones(24, 16)}, "model.01.weight"),
        ({**TRN, "model.2.running_mean": ones(24)}, "model.2"),
        ({**TRN, "model.1.running_mean": ones(24), "model.1.running_var": ones(24)}, "model.1"),
        ({**TRN, "model.2.num_batches_tracked": torch.tensor(3)}, "model.2"),
        ({**TRN, "model.2.weight": ones(24), "model.2.bias": ones(24)}, "model.2"),  # layer norm
        ({**TRN, "model.2.weight": ones(1)}, "model.2"),  # PReLU
        ({**TRN, "model.3.weight_mask": ones(7, 24)}, "model.3"),  # pruned
        ({**prefixed("student.", TRN), **prefixed("teacher.", TRN)}, "'student.', 'teacher.'"),
        ({**TSN, **prefixed("aux.", TSN)}, "'', 'aux.'"),
        ({**TRN, **prefixed("module.", TRN)}, "two named 'model.1.weight'"),
        ({**TRN, "model.3.bias": [0.5] * 7}, "model.3.bias"),
        ({**TSN, "ema.conv1x1.weight": ones(16, 16, 1, 1)}, "ema.conv1x1.weight"),  # multi-scale attention
        ({**TSN, "ema.gamma": ones(1)}, "ema.gamma"),
        ({**TSN, "ema_gain": ones(1)}, "ema_gain"),
        ({**TSN, "swa.qkv.weight": ones(48, 16)}, "swa.qkv.weight"),
        ({**TSN, "temporal_ema_attn.weight": ones(7, 16)}, "temporal_ema_attn.weight"),  # of a head's shape
        ({**TSN, "ema.classifier.weight": ones(16, 16)}, "ema."),
        ({**TSN, "ema.classifier2.weight": ones(7, 16)}, "ema.classifier2.weight"),
        ({**TSN, **prefixed("ema.", {**TSN, "attention.weight": ones(16, 16)})}, "ema.attention.weight"),
        ({**prefixed("ema.", TSN), "ema.conv1x1.weight": ones(16, 16, 1, 1)}, "ema.conv1x1.weight"),
        ({**prefixed("ema.", TSN), **prefixed("swa.", TSN)}, "'ema.', 'swa.'"),
        ({**TRN, "swa.0.ema.weight": ones(24, 16)}, "swa.0.ema.weight"),
        ({**TSN, "loss_proj.weight": ones(16, 16)}, "loss_proj.weight"),
        ({**TSN, "loss_norm.bias": ones(16)}, "loss_norm.bias"),
        ({**TSN, "loss.weight": ones(16, 16)}, "loss.weight"),
        ({**TSN, "loss_weight": ones(16, 16)}, "loss_weight"),
        ({**TSN, "criterion.proj.weight": ones(16, 16)}, "criterion.proj.weight"),
        ({**TSN, "metric.in_proj_weight": ones(48, 16)}, "metric.in_proj_weight"),
        ({**TSN, "metric_fc.weight": ones(7, 16)}, "metric_fc.weight"),
        ({**TSN, "optimizer.weight": ones(16, 16)}, "optimizer.weight"),
        ({**TSN, "optim_norm.weight": ones(16)}, "optim_norm.weight"),
        ({**TSN, "val_mapper.weight": ones(16)}, "val_mapper.weight"),
        ({**TSN, "test_acc.weight": ones(16, 16)}, "test_acc.weight"),
    ],
)
def test_tensors_that_may_change_f_are_refused(tmp_path: Path, state: dict[str, Any], stray: str) -> None:
    path = written(tmp_path / "x.pth", {"model": state})
    text = refusal(tmp_path, path)
    assert text.startswith(f"{path}: "), text
    assert stray in text


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"model": TRN, "optimizer": {"state": {0: {"exp_avg": ones(3), "step": ones(1)}}}}, "optimizer (2 tensors)"),
        ({"state_dict": TRN, "optimizer_states": [{"state": {0: {"a": ones(2)}}}]}, "optimizer_states (1 tensor)"),
        ({"model": TRN, "model_ema": other(TRN)}, "model_ema (4 tensors)"),
        ({"state_dict": TRN, "state_dict_ema": other(TRN), "epoch": 3}, "state_dict_ema (4 tensors)"),
        ({"model": {**TRN, **prefixed("ema.", other(TRN))}}, "ema.* (4 tensors)"),
        ({"n_averaged": torch.tensor(3), **prefixed("module.", TRN)}, "n_averaged (1 tensor)"),
        ({"model": {**TRN, "base_model.conv1.weight": ones(3, 3)}}, "base_model.* (1 tensor)"),
        ({"model": {"backbone.a": ones(2), **prefixed("temporal_module.", TRN)}}, "backbone.* (1 tensor)"),
        ({"backbone": {"a": ones(2)}, "state_dict": TRN}, "backbone (1 tensor)"),
        ({"state_dict": {**prefixed("net.", TRN), "criterion.weight": ones(7)}}, "criterion.* (1 tensor)"),
        ({"state_dict": {**prefixed("net.", TRN), "train_acc.tp": ones(7)}}, "train_acc.* (1 tensor)"),
        ({"model": TRN, "best_acc": torch.tensor(0.5)}, "best_acc (1 tensor)"),
        ({"model": TRN, "rng_state": torch.get_rng_state()}, "rng_state (1 tensor)"),
        ({**TRN, "optimizer": {"a": ones(2)}}, "optimizer (1 tensor)"),
        ({"model": TRN, "ema": {"shadow": other(TRN), "decay": torch.tensor(0.9)}}, "ema (5 tensors)"),
        ({"model": TRN, "ema": {"shadow_params": list(other(TRN).values())}}, "ema (4 tensors)"),
        ({"model": TRN, "ema": {"module": other(TRN), "updates": torch.tensor(3)}}, "ema (5 tensors)"),
        ({"model": TRN, "ema": {"model.3.bias": ones(7)}}, "ema (1 tensor)"),  # some parameters alone
        ({"model": {**TRN, **prefixed("swa.module.", other(TRN)), "swa.n_averaged": ones(1)}}, "swa.* (5 tensors)"),
        ({"model": {**TRN, **prefixed("ema.", {"base_model.a": ones(3), **other(TRN)})}}, "ema.* (5 tensors)"),
        (
            {"model": {**prefixed("net.", TRN), **prefixed("ema_net.", other(TRN)), "ema_decay": torch.tensor(0.9)}},
            "ema_net.* (4 tensors), ema_decay (1 tensor)",
        ),
        (
            {"model": {**TRN, **{f"model_ema.{n.replace('.', '')}": t + 1 for n, t in TRN.items()}}},
            "model_ema.* (4 tensors)",
        ),
        ({"model": TRN, "callbacks": {"EMA": {"ema": other(TRN)}}}, "callbacks (4 tensors)"),
        ({"model": TRN, "optimizer_head": {"state": {0: {"exp_avg": ones(24, 16)}}}}, "optimizer_head (1 tensor)"),
        ({"model": {**TRN, "loss_weights": ones(3)}}, "loss_weights (1 tensor)"),
        ({"model": {**TRN, "loss.centers": ones(7, 16)}}, "loss.* (1 tensor)"),
        ({"model": {**TRN, "loss_fn.pos_weight": ones(7)}}, "loss_fn.* (1 tensor)"),
        ({"model": {**TRN, "val_confmat.confmat": ones(7, 7).long()}}, "val_confmat.* (1 tensor)"),
        ({"model": {**TRN, "base_model.fc.weight": ones(16, 9)}}, "base_model.* (1 tensor)"),
    ],
)
def test_what_is_not_used_is_named(tmp_path: Path, content: object, names: str) -> None:
    assert summary_of(tmp_path, content) == f"multi-scale model, n_max = 1, D = 16, C = 7; not used: {names}"
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, "trn_1_frames.pth")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": TRN, "temperature": 2.0}, "temperature (2.0)"),
        ({"state_dict": TRN, "temperature": torch.tensor(2.0)}, "temperature (1 tensor)"),
        ({"state_dict": TRN, "optimizer": [ones(2)], "tau": 3}, "optimizer (1 tensor), tau (3)"),
        ({"state_dict": TRN, "logit_scale": 14.3, "epoch": 3}, "logit_scale (14.3)"),
        ({"state_dict": TRN, "logitScale": 14.3, "inv_temp": 0.5}, "logitScale (14.3), inv_temp (0.5)"),
        (
            {"state_dict": TRN, "hyper_parameters": {"softmax_temperature": 0.07}},
            "hyper_parameters.softmax_temperature",
        ),
        ({"model": {**TRN, "temperature": 2.0}}, "model.temperature (2.0)"),
        ({**TRN, "temperature": 2.0}, "temperature (2.0)"),
        ({"checkpoint": {"model": TRN, "scale": 1e-3}}, "checkpoint.scale (0.001)"),
        ({"state_dict": TRN, "feature_mean": [0.5] * 16}, "feature_mean (16 numbers)"),
        ({"state_dict": TRN, "log_prior": (0.5,)}, "log_prior (1 number)"),
        ({"state_dict": {**TRN, "attention.weight": [[0.5] * 16] * 16}}, "state_dict.attention.weight (256 numbers)"),
        ({"state_dict": TRN, "scale": 10**500}, "scale (a large number)"),
    ],
)
def test_numbers_that_may_change_f_are_named(tmp_path: Path, content: object, names: str) -> None:
    text = summary_of(tmp_path, content)
    assert text.startswith(f"multi-scale model, n_max = 1, D = 16, C = 7; not used: {names}")
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, "trn_1_frames.pth")


def test_a_number_in_all_files_is_named_once(tmp_path: Path) -> None:
    files = [
        written(tmp_path / f"{s}.pth", {"model": state_of(f"trn_{s}_frames.pth"), "tau": 0.5 + s // 3})
        for s in (1, 2, 3)
    ]
    assert import_play_fair(files, prior=PRIOR, out=str(tmp_path / "model")).endswith("not used: tau (0.5), tau (1.5)")


def test_numbers_of_the_training_are_not_named(tmp_path: Path) -> None:
    training: dict[str, Any] = {
        "epoch": 3,
        "best_acc": 0.5,
        "amp": {"scale": 65536.0, "growth_factor": 2.0},
        "optimizer": {"param_groups": [{"lr": 0.1, "weight_decay": 0.1}], "scale": 2.0},
        "lr_scheduler": {"scale": 0.1},
        "args": {"weight_decay": 0.1, "loss_scale": 2.0, "bias": True, "temperature": "warm", "scales": [1, 2]},
        "train_loss": [0.5, 0.25],
    }
    training["args"]["itself"] = training
    assert "not used" not in summary_of(tmp_path, {"state_dict": TRN, **training})


def test_entries_nested_without_end() -> None:
    """As only a pickle made by hand has them; a path to each would take minutes."""
    deep: list[Any] = [ones(2)]
    for _ in range(50_000):
        deep = [deep]
    non_heads = NonHeadTensors(TRN, lambda name: name in TRN)
    assert non_heads.strays("optimizer", deep) == (1, [])


def test_what_is_not_used_is_counted_over_all_files(tmp_path: Path) -> None:
    files = [
        written(tmp_path / f"trn_{s}_frames.pth", {"model": state_of(f"trn_{s}_frames.pth"), "optimizer": [ones(2)]})
        for s in (1, 2)
    ]
    text = import_play_fair(files, prior=PRIOR, out=str(tmp_path / "model"))
    assert text.endswith("n_max = 2, D = 16, C = 7; not used: optimizer (2 tensors)")


@pytest.mark.parametrize("beside", ["mean", "scaler", "projection", "head", "class_weights"])
def test_tensors_beside_the_state_dict_are_refused_unless_they_are_of_training(tmp_path: Path, beside: str) -> None:
    path = written(tmp_path / "x.pth", {"state_dict": TRN, beside: {"a": ones(16)}})
    assert f"tensors under '{beside}' too, which may change F ('{beside}.a'); save" in refusal(tmp_path, path)


@pytest.mark.parametrize(
    ("beside", "entry", "stray"),
    [
        ("ema", {"conv1x1.weight": ones(16, 16, 1, 1)}, "('ema.conv1x1.weight')"),
        ("model_ema", {**other(TRN), "attention.weight": ones(16, 16)}, "('model_ema.attention.weight')"),
        ("swa_attn", {"qkv": {"weight": ones(48, 16)}}, "('swa_attn.qkv.weight')"),
        ("ema", {"params": [ones(16, 16)]}, "('ema.params.0')"),
        ("ema", ones(16, 16), "which may change F; save"),
        ("loss_proj", {"weight": ones(16, 16)}, "('loss_proj.weight')"),
        ("loss", {"proj.weight": ones(16, 16)}, "('loss.proj.weight')"),
        ("optimizer", {"proj.weight": ones(16, 16)}, "('optimizer.proj.weight')"),
        ("callbacks", {"attention": {"in_proj_weight": ones(48, 16)}}, "('callbacks.attention.in_proj_weight')"),
    ],
)
def test_layers_beside_the_state_dict_are_refused_whatever_they_are_called(
    tmp_path: Path, beside: str, entry: object, stray: str
) -> None:
    text = refusal(tmp_path, written(tmp_path / "x.pth", {"state_dict": TRN, beside: entry}))
    assert f"tensors under '{beside}' too, which may change F" in text
    assert stray in text


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"ema": TRN}, "ema"),
        ({"model_ema": {"module": TRN}, "epoch": 3}, "model_ema"),
        ({"checkpoint": {"state_dict_swa": TRN}}, "state_dict_swa"),
        ({"state_dict": prefixed("ema.", TRN)}, "ema"),
        (prefixed("module.swa_model.", TRN), "swa_model"),
    ],
)
def test_averages_that_are_taken_are_said_to_be(tmp_path: Path, content: object, key: str) -> None:
    text = summary_of(tmp_path, content)
    assert text.endswith(
        f"C = 7; averages of the weights are used, since there are no other weights: {tmp_path / 'x.pth'} ({key})"
    )
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, "trn_1_frames.pth")


@pytest.mark.parametrize("below", ["state dict", "entry"])
def test_layers_of_a_backbone_that_may_come_after_the_features_are_named(tmp_path: Path, below: str) -> None:
    """By the contract the features come after it; who made the file can tell."""
    layers = {"proj.weight": ones(16, 16), "stem.weight": ones(16, 3), "conv.weight": ones(16, 16, 3, 3)}
    content = {"model": {**TSN, **prefixed("backbone.", layers)}}
    text = summary_of(tmp_path, content if below == "state dict" else {"model": TSN, "backbone": layers})
    assert text.partition("(3 tensors); ")[2] == (
        "unused layers of a backbone with D inputs; correct if the features are their outputs: backbone.proj.weight"
    )


@pytest.mark.parametrize(
    "content",
    [{"model": TRN, "state_dict": other(TRN)}, {1: TRN, 2: other(TRN)}, {"best": other(TRN), "last": {"model": TRN}}],
    ids=["two keys", "one a scale", "depths"],
)
def test_several_state_dicts_are_refused(tmp_path: Path, content: object) -> None:
    text = refusal(tmp_path, written(tmp_path / "x.pth", content))
    assert "expected one state dict, got several" in text
    assert "one file each" in text


def test_dictionaries_that_hold_themselves(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": dict(TRN)}
    content["optimizer"] = [content["model"], content]
    assert "not used: optimizer (4 tensors)" in summary_of(tmp_path, content)
    content["again"] = content
    assert "tensors under 'again' too" in refusal(tmp_path, written(tmp_path / "y.pth", content))


# --- spellings of the same


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2.5"},
        lambda state: {"model": prefixed("_orig_mod.", state)},
        lambda state: {"model": prefixed("module._orig_mod.", state)},
        lambda state: {"model": prefixed("_fsdp_wrapped_module.", state)},
        lambda state: {"model": {name.replace("model.", "_orig_mod.model.", 1): t for name, t in state.items()}},
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"net": state},
        lambda state: {"checkpoint": {"state_dict": state, "lr": 0.1}},
        lambda state: {"model_ema": state},
        lambda state: {"model": {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()}},
        lambda state: {"model": {name: t.t().contiguous().t() if t.ndim == 2 else t for name, t in state.items()}},
        lambda state: {"model": {**state, "epoch": 3, "note": "x", "nothing": None}},
    ],
    ids=range(12),
)
@pytest.mark.parametrize("name", ["trn_1_frames.pth", "deep_1_frames.pth", "mtrn_4_frames.pth", "tsn.pth"])
def test_the_same_model_however_it_is_wrapped(tmp_path: Path, name: str, wrap: Callable[[State], object]) -> None:
    assert "not used" not in summary_of(tmp_path, wrap(state_of(name)), name)
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, name)


@pytest.mark.parametrize("name", ["trn_1_frames.pth", "deep_1_frames.pth", "mtrn_4_frames.pth", "tsn.pth"])
def test_a_safetensors_file_of_the_same_keys(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{Path(name).stem}.safetensors"
    safetensors.torch.save_file(state_of(name), path)
    import_play_fair([str(path)], prior=PRIOR, out=str(tmp_path / "model"))
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_weights_of_other_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    rounded = {name: tensor.to(dtype) for name, tensor in TRN.items()}
    summary_of(tmp_path, rounded)
    expected = written(tmp_path / "rounded.pth", {name: tensor.float() for name, tensor in rounded.items()})
    import_play_fair([expected], prior=PRIOR, out=str(tmp_path / "expected"))
    assert load_model(str(tmp_path / "model")).digest == load_model(str(tmp_path / "expected")).digest


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    memory = torch.randn(7 * 16, generator=torch.Generator().manual_seed(0))
    summary_of(tmp_path, {"classifier.weight": memory.view(7, 16), "classifier.bias": memory[:7]})
    result = explain(load_model(str(tmp_path / "model")), torch.ones(1, 16))
    assert torch.allclose(result.scores, torch.softmax(memory.view(7, 16).sum(dim=1) + memory[:7], dim=0), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.to_sparse(), ("a sparse one", "to_dense()")),
        (lambda t: t.to_sparse_csr(), ("a sparse one",)),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), ("a quantized one", "dequantize()")),
        (lambda t: t.to(torch.complex64), ("floating-point", "complex64")),
        (lambda t: t.long(), ("floating-point", "int64")),
        (lambda t: t.to("meta"), ("without numbers", "meta")),
        (lambda t: torch.full_like(t, torch.nan), ("finite", "NaN")),
        (lambda t: t.double() * 1e300, ("finite",)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights_are_named_as_in_the_file(
    tmp_path: Path, change: Callable[[Tensor], Tensor], parts: Sequence[str]
) -> None:
    path = written(tmp_path / "x.pth", {"model": {**TRN, "model.1.weight": change(TRN["model.1.weight"])}})
    text = refusal(tmp_path, path)
    assert text.startswith(f"{path}: model.1.weight: ")
    assert all(part in text for part in parts), text


def test_unused_tensors_may_be_of_any_kind(tmp_path: Path) -> None:
    content = {"model": {**TRN, "backbone.a": ones(3, 3).to_sparse()}, "optimizer": {"a": ones(2).to("meta")}}
    assert "backbone.* (1 tensor)" in summary_of(tmp_path, content)


# --- layers, against the module itself


def sequential(layers: Sequence[nn.Module]) -> nn.Sequential:
    """A module in eval mode, whose weights and running statistics are random."""
    generator = torch.Generator().manual_seed(3)
    module = nn.Sequential(*layers)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) / (5 if tensor.ndim > 1 else 1)
            tensor.copy_(values.abs() + 0.1 if name.endswith("running_var") else values)
    return module.eval()


def relu() -> nn.Module:
    return nn.ReLU()


def dropout() -> nn.Module:
    return nn.Dropout(0.5)


LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "bias under batch norm": lambda: [dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu(), nn.Linear(9, 7)],
    "and input ReLU": lambda: [relu(), dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu(), nn.Linear(9, 7)],
    "bias in one of two": lambda: [
        *(dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu()),
        *(nn.Linear(9, 8, bias=False), nn.BatchNorm1d(8), relu(), nn.Linear(8, 7)),
    ],
    "no affine": lambda: [dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9, affine=False), relu(), nn.Linear(9, 7)],
    "no affine, no bias": lambda: [
        *(dropout(), nn.Linear(16, 9, bias=False), nn.BatchNorm1d(9, affine=False), relu(), nn.Linear(9, 7)),
    ],
    "three hidden layers": lambda: [
        *(dropout(), nn.Linear(16, 9), relu(), nn.Linear(9, 8), relu(), nn.Linear(8, 5), relu(), nn.Linear(5, 7)),
    ],
    "dropout after each ReLU": lambda: [
        *(dropout(), nn.Linear(16, 9), relu(), dropout(), nn.Linear(9, 8), relu(), dropout(), nn.Linear(8, 7)),
    ],
    "dropout after batch norm and ReLU": lambda: [
        *(dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu(), dropout(), nn.Linear(9, 7)),
    ],
    "norm first": lambda: [nn.BatchNorm1d(16), nn.Linear(16, 9), relu(), nn.Linear(9, 7)],
    "norm after the ReLU": lambda: [dropout(), nn.Linear(16, 9), relu(), nn.BatchNorm1d(9), nn.Linear(9, 7)],
    "norm on both sides of the ReLU": lambda: [
        *(dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu(), nn.BatchNorm1d(9), nn.Linear(9, 7)),
    ],
    "norm of the logits": lambda: [dropout(), nn.Linear(16, 9), relu(), nn.Linear(9, 7), nn.BatchNorm1d(7)],
    "norm in one of two layers": lambda: [
        *(dropout(), nn.Linear(16, 9), nn.BatchNorm1d(9), relu(), nn.Linear(9, 8), relu(), nn.Linear(8, 7)),
    ],
    "linear alone": lambda: [dropout(), nn.Linear(16, 7)],
    "linear and norm": lambda: [relu(), dropout(), nn.Linear(16, 7), nn.BatchNorm1d(7, affine=False)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_outputs_of_the_module(tmp_path: Path, name: str) -> None:
    module = sequential(LAYERS[name]())
    summary_of(tmp_path, {"model": prefixed("model.", module.state_dict())})
    features = torch.randn((1, 16), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = torch.softmax(module(features.clone()), dim=1)[0]
    assert expected.max() < 0.99  # the test tells layers apart
    scores = explain(load_model(str(tmp_path / "model")), features).scores
    assert torch.allclose(scores, expected, rtol=0, atol=1e-6)


def test_statistics_without_a_count_are_taken(tmp_path: Path) -> None:
    """As torch did before it counted batches."""
    summary_of(tmp_path, {name: tensor for name, tensor in DEEP.items() if "num_batches" not in name})
    counted, features = load_model(imported(tmp_path / "expected", "deep_1_frames.pth")), torch.ones(1, 16)
    assert torch.equal(explain(load_model(str(tmp_path / "model")), features).esv, explain(counted, features).esv)


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([dropout, lambda: nn.Linear(16, 9), lambda: nn.Linear(9, 7)], "a ReLU"),
        ([dropout, lambda: nn.Linear(16, 9), relu, dropout, relu, lambda: nn.Linear(9, 7)], "a ReLU"),
        ([dropout, lambda: nn.Linear(16, 9), lambda: nn.BatchNorm1d(9), lambda: nn.Linear(9, 7)], "a ReLU"),
        (
            [dropout, lambda: nn.Linear(16, 9), dropout, lambda: nn.BatchNorm1d(9), relu, lambda: nn.Linear(9, 7)],
            "a ReLU",
        ),
        ([relu, lambda: nn.BatchNorm1d(16), lambda: nn.Linear(16, 7)], "batch norm beside a linear layer"),
        ([lambda: nn.BatchNorm1d(16), dropout, lambda: nn.Linear(16, 7)], "place 1 or 2"),
        ([dropout, dropout, dropout, lambda: nn.Linear(16, 7)], "place 1 or 2"),
        ([dropout, lambda: nn.Linear(16, 7), relu, lambda: nn.BatchNorm1d(7)], "linear layers"),
        ([dropout, lambda: nn.Linear(16, 9, bias=False), relu, lambda: nn.Linear(9, 7)], "weight alone"),
        (
            [
                dropout,
                lambda: nn.Linear(16, 9),
                lambda: nn.BatchNorm1d(9, track_running_stats=False),
                relu,
                lambda: nn.Linear(9, 7),
            ],
            "running statistics",
        ),
        ([dropout, lambda: nn.Conv1d(16, 7, 1)], "expected a linear layer"),
        ([dropout, lambda: nn.Bilinear(16, 16, 7)], "expected a linear layer"),
    ],
    ids=range(12),
)
def test_layers_whose_places_leave_open_what_is_computed(
    tmp_path: Path, layers: Sequence[Callable[[], nn.Module]], part: str
) -> None:
    module = sequential([layer() for layer in layers])
    text = refusal(tmp_path, written(tmp_path / "x.pth", {"model": prefixed("model.", module.state_dict())}))
    assert part in text


@pytest.mark.parametrize("name", ["bias under batch norm", "no affine", "norm after the ReLU"])
def test_batch_norm_of_a_wrong_width_or_variance_is_refused(tmp_path: Path, name: str) -> None:
    state = prefixed("model.", sequential(LAYERS[name]()).state_dict())
    norm = next(key for key in state if key.endswith("running_var")).rpartition(".")[0]
    for change in (lambda t: -t, lambda t: torch.cat([t, t])):
        changed = {k: change(v) if k.startswith(norm) and v.ndim else v for k, v in state.items()}
        assert norm.rpartition(".")[0] in refusal(tmp_path, written(tmp_path / "x.pth", {"model": changed}))


# --- files of one model


def test_a_file_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILES)
    for again in ("trn_1_frames.pth", f"./{FILES.name}/../trn_1_frames.pth", f"file://{FILES}/trn_1_frames.pth"):
        text = refusal(tmp_path, str(FILES / "trn_1_frames.pth"), again.replace(f"./{FILES.name}/../", "./"))
        assert "expected each checkpoint once" in text


def test_a_link_given_beside_its_file_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "trn_1_frames.pth"
    link.symlink_to(FILES / "trn_1_frames.pth")
    assert "expected each checkpoint once" in refusal(tmp_path, str(FILES / "trn_1_frames.pth"), str(link))


def test_a_copy_given_beside_its_file_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes((FILES / "trn_1_frames.pth").read_bytes())
    assert "copy.pth: 16 inputs" in refusal(tmp_path, str(FILES / "trn_1_frames.pth"), str(copy))


def test_a_joint_file_has_as_many_scales_as_its_name_says(tmp_path: Path) -> None:
    """Its last head may be missing, or one be added, and the rest still be a model."""
    three = {name: tensor for name, tensor in MTRN.items() if ".3." not in name[:24]}
    assert "scales 1..4, as in the file's name, got scales up to 3" in refusal(
        tmp_path, written(tmp_path / "mtrn_4_frames.pth", three)
    )
    assert "scales 1..3, as in the file's name, got scales up to 4" in refusal(
        tmp_path, written(tmp_path / "mtrn_3_frames.pth", MTRN)
    )
    assert "n_max = 3" in summary_of(tmp_path, three, "renamed.pth")


def test_heads_of_other_features_are_refused(tmp_path: Path) -> None:
    module = sequential([dropout(), nn.Linear(34, 9), relu(), nn.Linear(9, 7)])  # scale 2 of D = 17
    path = written(tmp_path / "x.pth", prefixed("model.", module.state_dict()))
    text = refusal(tmp_path, str(FILES / "trn_1_frames.pth"), path)
    assert all(part in text for part in ("16 inputs", f"{path}: 34 inputs"))


def test_heads_of_other_classes_are_refused(tmp_path: Path) -> None:
    module = sequential([dropout(), nn.Linear(32, 9), relu(), nn.Linear(9, 8)])
    path = written(tmp_path / "x.pth", prefixed("model.", module.state_dict()))
    text = refusal(tmp_path, str(FILES / "trn_1_frames.pth"), path)
    assert text.startswith(path)
    assert "expected 7 classes, got 8" in text


# --- files that are no checkpoint


def archive(name: str, data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as out:
        out.writestr(name, data)
    return sink.getvalue()


def tar(name: str, data: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as out:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    save(sink)
    return sink.getvalue()


CHECKPOINT = (FILES / "trn_1_frames.pth").read_bytes()
OLD = saved(lambda sink: torch.save(TRN, sink, _use_new_zipfile_serialization=False))
SAFE = safetensors.torch.save(TRN)
OTHER_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "an empty file; download it again"),
    "zeros": (lambda: bytes(9000), "zeros only"),
    "LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "HTML": (lambda: b"\n <!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page"),
    "HTML behind a comment": (lambda: b"<!-- x -->\n<html>", "an HTML page"),
    "XML error": (lambda: b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an HTML page"),
    "JSON": (lambda: b'{"model.1.weight": [1]}', "JSON text"),
    "index": (lambda: b'{"metadata": {}, "weight_map": {"a": "b"}}', "a model in several files"),
    "YAML": (lambda: b"model: trn\n", "text that begins with 'model: trn'"),
    "gzip": (lambda: gzip.compress(CHECKPOINT), "a gzip file; unpack it"),
    "tar": (lambda: tar("trn.pth", CHECKPOINT), "a tar archive; unpack it"),
    "tar of torch": (lambda: tar("storages", b"abc"), "a tar archive of torch before 0.2"),
    "zip": (lambda: archive("trn.pth", CHECKPOINT), "a zip archive of 'trn.pth'; unpack it"),
    "npz": (lambda: saved(lambda sink: np.savez(sink, a=np.ones(3))), "NumPy arrays (.npz)"),
    "npy": (lambda: saved(lambda sink: np.save(sink, np.ones(3))), "a NumPy array (.npy)"),
    "HDF5": (lambda: (FILES / "features.hdf").read_bytes(), "an HDF5 file"),
    "Keras": (lambda: archive("model.weights.h5", b"x"), "a Keras model"),
    "TorchScript": (
        lambda: saved(lambda sink: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), sink)),
        "a TorchScript archive, which holds code",
    ),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "looks like an ONNX model"),
    "Parquet": (lambda: b"PAR1" + bytes(9), "a Parquet file"),
    "cut zip": (lambda: CHECKPOINT[:3000], "a zip archive that is cut short"),
    "cut before zip": (lambda: OLD[:-100], "one that is cut short"),
    "cut at the start": (lambda: OLD[:300], "one that is cut short"),
    "cut safetensors": (lambda: SAFE[:-100], "one that is cut short: "),
    "nothing known": (lambda: b"\xff\x00" * 99, "bytes that begin as neither (ff 00 ff 00 ff 00 ff 00); download it"),
    "cut header": (lambda: SAFE[:40], "one that is cut short in its header: "),
}


@pytest.mark.parametrize("name", OTHER_FILES)
@pytest.mark.filterwarnings("ignore")
def test_other_files_are_called_by_their_name(tmp_path: Path, name: str) -> None:
    make, part = OTHER_FILES[name]
    path = tmp_path / "trn_1_frames.pth"
    path.write_bytes(make())
    text = refusal(tmp_path, str(path))
    assert text.startswith(f"{path}: expected a ")
    assert part in text
    assert "pickle" not in text


def with_header(header: bytes, tensors: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + tensors


ONE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file; download it again"),
    "zeros": (bytes(900), "zeros only"),
    "cut in the length": (SAFE[:5], "5 bytes, which is too short for a safetensors file; download it again"),
    "cut behind the length": (SAFE[:8], "one that is cut short in its header: 0 of"),
    "cut in the header": (SAFE[:40], "one that is cut short in its header: 32 of"),
    "cut in the tensors": (SAFE[:-100], "one that is cut short: "),
    "longer": (SAFE + b"abc", "one that is damaged: "),
    "0xff": (b"\xff" * 900, "its first 8 bytes give a header length of 18446744073709551615 bytes; download it again"),
    "0xff at the start": (b"\xff" * 8 + SAFE[8:], "a damaged file or another format: its first 8 bytes give"),
    "0x80 at the start": (b"\x80\x02" + bytes(3), "5 bytes, which is too short for a safetensors file"),
    "header too large": ((10**15).to_bytes(8, "little") + SAFE[8:], "give a header length of 1000000000000000 bytes"),
    "no header": (bytes(8) + SAFE[8:], "its header of 0 bytes is not JSON; download it again"),
    "no JSON": (with_header(b"{hello world", b"abcd"), "its header of 12 bytes is not JSON"),
    "no object": (with_header(b"[1, 2]"), "its header is not a JSON object"),
    "no UTF-8": (with_header(b'{"a\xff": 1}'), "its header of 9 bytes is not JSON"),
    "deep JSON": (with_header(b'{"a":' * 50_000), "its header of 250000 bytes is not JSON"),
    "offsets": (with_header(ONE.replace(b"[1]", b"[2]"), b"abcd"), "one with an invalid header ("),
    "unknown type": (with_header(ONE.replace(b"F32", b"Q9"), b"abcd"), "save it again with the safetensors library"),
    "HTML": (b"<html><body>Sign in</body></html>", "an HTML page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("ending", ["safetensors", "SafeTensors"])
def test_a_damaged_safetensors_file_is_told_of_as_such(tmp_path: Path, name: str, ending: str) -> None:
    data, part = DAMAGED[name]
    path = tmp_path / f"trn_1_frames.{ending}"
    path.write_bytes(data)
    text = refusal(tmp_path, str(path))
    assert text.startswith(f"{path}: expected a safetensors file, got ")
    assert part in text
    assert "pickle" not in text
    assert "deserializ" not in text


def test_a_torch_checkpoint_may_be_called_safetensors(tmp_path: Path) -> None:
    for index, data in enumerate((CHECKPOINT, OLD)):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(data)
        assert read_checkpoint(str(path), lambda name: name.startswith("model.")).state


@pytest.mark.parametrize("size", [0x4B50, 0x8B1F])
def test_a_header_whose_length_reads_as_the_mark_of_an_archive(tmp_path: Path, size: int) -> None:
    """PK, as of zip; 1f 8b, as of gzip."""
    data = with_header(ONE.ljust(size), bytes(4))
    assert data[:2] in (b"PK", b"\x1f\x8b")
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert list(read_checkpoint(str(path), lambda name: True).state) == ["a"]


def test_a_refused_pickle_leaves_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"]" + b"\xff" * 99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "expected a torch checkpoint" in refusal(tmp_path, str(path))


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    text = refusal(tmp_path, str(tmp_path), kind=DataError)
    assert text.startswith(f"cannot read the checkpoint: {tmp_path}: expected a file, got a folder; give the location")


def test_a_view_of_fewer_numbers_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.pth", {"model": {**TRN, "model.1.weight": ones(1, 16).expand(10**6, 16)}})
    assert refusal(tmp_path, path).endswith("got one with a tensor that is a view (1000000, 16) of 16 numbers")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (list(TRN.items()), ("a list without named tensors",)),
        (ones(3), ("a Tensor without named tensors",)),
        (argparse.Namespace(model=TRN), ("argparse.Namespace", "which is not made", "expected a state dict")),
        ({"model": {**TRN, "model.3.bias": argparse.Namespace()}}, ("model.3.bias", "argparse.Namespace")),
        ({"model": TRN, "scaler": argparse.Namespace(mean=ones(16))}, ("tensors under 'scaler'", "'scaler.mean'")),
        ({"model": TRN, "mean": np.ones(16)}, ("tensors under 'mean'",)),
        ({"model": [TRN]}, ("got no tensors", "1 state dict in a list under 'model'; save the one to import")),
    ],
)
def test_objects_that_hold_tensors_are_refused(tmp_path: Path, content: object, parts: Sequence[str]) -> None:
    text = refusal(tmp_path, written(tmp_path / "x.pth", content))
    assert all(part in text for part in parts), text


class HistoryBuffer:
    """Like mmengine's."""

    def __init__(self) -> None:
        self._log_history = np.arange(4, dtype=np.float64)


class Config(dict[str, Any]):
    """Like Lightning's and OmegaConf's."""


BESIDE: dict[str, object] = {
    "mmengine": {"message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}, "runtime_info": {"epoch": 3}}},
    "Lightning": {"hyper_parameters": Config(lr=0.1), "callbacks": {"Checkpoint": {"best": torch.tensor(0.5)}}},
    "scalars": {"best": np.float64(0.5), "epoch": np.int64(3), "confusion": np.ones((7, 7), np.int64)},
    "Namespace": {"args": argparse.Namespace(lr=0.1, arch="bninception"), "optimizer": argparse.Namespace(lr=1)},
}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("name", BESIDE)
def test_other_objects_in_a_checkpoint_stay_inert(tmp_path: Path, name: str, archive: bool, protocol: int) -> None:
    beside: Any = BESIDE[name]
    path = written(
        tmp_path / "trn_1.pth.tar",
        {"state_dict": prefixed("module.", TRN), **beside},
        _use_new_zipfile_serialization=archive,
        pickle_protocol=protocol,
    )
    out = str(tmp_path / "model")
    text = import_play_fair([path], prior=PRIOR, out=out)
    assert text.startswith("multi-scale model, n_max = 1, D = 16, C = 7")
    assert load_model(out).digest == digest_of(tmp_path, "trn_1_frames.pth")


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        ({"scaler": argparse.Namespace(mean_=np.ones(16))}, "scaler.mean_ (16 numbers)"),
        ({"hyper_parameters": Config(temperature=0.07)}, "hyper_parameters.temperature (0.07)"),
        ({"tau": np.float32(0.5)}, "tau (0.5)"),
        ({"args": argparse.Namespace(optimizer={"state": [ones(3)]})}, ""),
    ],
)
def test_numbers_in_inert_objects_are_named(tmp_path: Path, beside: dict[str, Any], names: str) -> None:
    if not names:
        assert "tensors under 'args'" in refusal(tmp_path, written(tmp_path / "x.pth", {"model": TRN, **beside}))
        return
    assert summary_of(tmp_path, {"model": TRN, **beside}).endswith(f"not used: {names}")


class Whole(nn.Module):
    """A module that is saved whole."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(16, 7)
        self.register_buffer("passing", ones(3), persistent=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"model": module, "epoch": 3}])
def test_a_whole_module_is_its_state_dict(tmp_path: Path, wrap: Callable[[nn.Module], object], archive: bool) -> None:
    module = Whole()
    module.load_state_dict(TSN)
    path = written(tmp_path / "x.pth", wrap(nn.DataParallel(module)), _use_new_zipfile_serialization=archive)
    text = import_play_fair([path], prior=PRIOR, out=str(tmp_path / "model"))
    assert "TSN, D = 16, C = 7; files of whole modules, of which the tensors alone are read: " in text
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, "tsn.pth")


DUMPED: dict[str, tuple[Callable[[], object], str]] = {
    "state dict": (lambda: dict(TSN), "tsn.pth"),
    "parameters": (lambda: {name: nn.Parameter(tensor) for name, tensor in TSN.items()}, "tsn.pth"),
    "within": (lambda: {"model": dict(TRN), "epoch": 3}, "trn_1_frames.pth"),
    "arrays": (lambda: {name: tensor.numpy() for name, tensor in TRN.items()}, "trn_1_frames.pth"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", DUMPED)
def test_a_plain_pickle_is_read(tmp_path: Path, name: str, protocol: int) -> None:
    make, same = DUMPED[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(make(), protocol=protocol))
    import_play_fair([str(path)], prior=PRIOR, out=str(tmp_path / "model"))
    assert load_model(str(tmp_path / "model")).digest == digest_of(tmp_path, same)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_plain_pickle_that_is_cut_short(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(TSN, protocol=protocol)[:-9])
    assert "got one that is cut short; download it again" in refusal(tmp_path, str(path))


def test_a_file_of_joblib_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": b"joblib.numpy_pickle"}))
    assert "got a file of joblib.dump; save its tensors with torch.save" in refusal(tmp_path, str(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_format_before_zip_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    state = {name: tensor.clone() for name, tensor in TRN.items()}
    path = written(tmp_path / "x.pth", state, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path, lambda name: name.startswith("model.")).state


@pytest.mark.filterwarnings("ignore")  # of torch, where it writes them
def test_no_warning_of_torch_reaches_the_user(tmp_path: Path) -> None:
    beside = [torch.eye(3).to_sparse_csr(), torch.quantize_per_tensor(ones(3), 0.1, 0, torch.qint8)]
    for index, archive in enumerate((True, False)):
        content = {"model": TRN, "optimizer": beside}
        path = written(tmp_path / f"{index}.pth", content, _use_new_zipfile_serialization=archive)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            import_play_fair([path], prior=PRIOR, out=str(tmp_path / f"model{index}"))


def test_a_plain_pickle_in_a_bundle_is_called_one(tmp_path: Path) -> None:
    head = Path(imported(tmp_path / "model", "trn_1_frames.pth")) / "head-01.safetensors"
    head.write_bytes(pickle.dumps(TRN))
    with pytest.raises(ModelError, match=r"got a file of pickle\.dump; save its tensors with safetensors"):
        load_model(str(head.parent))


def test_a_bundle_with_biases_under_batch_norm_is_loaded(tmp_path: Path) -> None:
    """The documents list both tensors."""
    module = sequential(LAYERS["bias in one of two"]())
    summary_of(tmp_path, {"model": prefixed("model.", module.state_dict())})
    head = safetensors.torch.load_file(tmp_path / "model" / "head-01.safetensors")
    assert {"linears.0.bias", "norms.0.running_mean", "norms.1.weight"} < set(head)
    assert "linears.1.bias" not in head
    for name in ("norms.0.weight", "norms.0.bias", "norms.1.bias"):
        del head[name]
    safetensors.torch.save_file(head, tmp_path / "model" / "head-01.safetensors")
    for norm in (module[2], module[5]):
        assert isinstance(norm, nn.BatchNorm1d)
        nn.init.zeros_(norm.bias)
    nn.init.ones_(module.get_parameter("2.weight"))
    features = torch.randn((1, 16), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = torch.softmax(module(features), dim=1)[0]
    scores = explain(load_model(str(tmp_path / "model")), features).scores
    assert torch.allclose(scores, expected, rtol=0, atol=1e-6)


# --- priors


def test_what_is_done_to_a_prior_is_said(tmp_path: Path) -> None:
    prior = tmp_path / "prior.csv"
    prior.write_text(
        "class,prior\n" + "".join(f"{index},{count}\n" for index, count in enumerate([5, 0, 3, 0, 1, 1, 0]))
    )
    text = import_play_fair([str(FILES / "tsn.pth")], prior=str(prior), out=str(tmp_path / "model"), classes=CLASSES)
    assert text == (
        f"TSN, D = 16, C = 7; prior: {prior}: counts, divided by their sum 10; prior of 0 for 3 of 7 classes: 1, 3, 6"
    )
    assert load_model(str(tmp_path / "model")).prior.tolist() == [0.5, 0, 0.3, 0, 0.1, 0.1, 0]
