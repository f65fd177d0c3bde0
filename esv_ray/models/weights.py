"""Build heads of the built-in kinds from files and state dicts; sizes are checked before memory is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.modules import Average, Over
from esv_ray.errors import ModelError, short_text
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.sources.checkpoint_kinds import safetensors_fault


def tensors_of(data: bytes) -> dict[str, Tensor]:
    """Read the content of a safetensors file.

    Raises:
        ModelError: it is another format or damaged; the message names it and the next step.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(safetensors_fault(data, error)) from None


def head_from_state(
    state: Mapping[str, Tensor],
    *,
    scale: int,
    feature_dim: int,
    n_classes: int,
    input_relu: bool,
    norm_eps: float,
) -> MlpHead:
    """Return an `MlpHead` with the weights of a state dict with its names (``linears.I.*``, ``norms.I.*``).

    A linear layer under batch norm may have a bias, and batch norm may lack weight (1) and bias (0).

    Raises:
        ModelError: layers are missing or do not fit each other, D, C or the scale.
    """
    weights = [state[f"linears.{i}.weight"] for i in range(len(state)) if f"linears.{i}.weight" in state]
    if not weights or any(weight.ndim != 2 or 0 in weight.shape for weight in weights):
        raise ModelError(f"expected linears.0.weight, linears.1.weight, ..., got {sorted(state)[:4]}")
    check_weights(state)
    if weights[0].shape[1] != scale * feature_dim:
        raise ModelError(
            f"head of scale {scale}: expected {scale} x {feature_dim} = {scale * feature_dim} inputs (s * "
            f"feature_dim), got {weights[0].shape[1]}"
        )
    if weights[-1].shape[0] != n_classes:
        raise ModelError(f"head of scale {scale}: expected {n_classes} classes, got {weights[-1].shape[0]}")
    for i, (below, weight) in enumerate(pairwise(weights), start=1):
        # Checked before allocation: two thin matrices would define a huge one between them.
        if weight.shape[1] != len(below):
            raise ModelError(f"linears.{i}.weight: expected {[len(weight), len(below)]}, got {list(weight.shape)}")
    head = MlpHead(
        scale=scale,
        feature_dim=feature_dim,
        hidden_dims=[len(weight) for weight in weights[:-1]],
        n_classes=n_classes,
        batch_norm=any(name.startswith("norms.") for name in state),
        input_relu=input_relu,
    )
    values = dict(state)
    for i, norm in enumerate(head.norms or ()):
        assert isinstance(norm, nn.BatchNorm1d)
        norm.eps = norm_eps
        values.setdefault(f"norms.{i}.weight", torch.ones(norm.num_features))
        values.setdefault(f"norms.{i}.bias", torch.zeros(norm.num_features))
        if f"linears.{i}.bias" in state:
            head.linears[i].bias = nn.Parameter(torch.zeros(norm.num_features))
    try:
        head.load_state_dict(values)
    except RuntimeError as error:
        raise ModelError(short_text(error)) from None
    return head.eval()


def average_from_state(manifest: BundleManifest, state: Mapping[str, Tensor]) -> Average:
    """Return a TSN with the weights of a state dict (weight, bias).

    Raises:
        ModelError: they do not fit D and C.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expected = {"weight": (manifest.n_classes, manifest.feature_dim), "bias": (manifest.n_classes,)}
    if shapes != expected:
        raise ModelError(f"expected {expected}, got {shapes}")
    check_weights(state)
    over: Over = "logits" if manifest.format == 1 else manifest.over
    return Average(state["weight"].float(), state["bias"].float(), input_relu=manifest.input_relu, over=over)


def projection_from_state(state: Mapping[str, Tensor], feature_dim: int) -> nn.Linear:
    """Return the linear layer before the heads with the weights of a state dict (weight (D', D), bias (D',)).

    Raises:
        ModelError: they do not fit each other or D.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    width = shapes.get("bias", (0,))[0] if len(shapes.get("bias", ())) == 1 else 0
    expected = {"weight": (width, feature_dim), "bias": (width,)}
    if not width or shapes != expected:
        raise ModelError(f"expected weight (D', {feature_dim}) and bias (D',), got {shapes}")
    check_weights(state)
    projection = nn.Linear(feature_dim, width)
    projection.load_state_dict(dict(state))
    return projection.eval().requires_grad_(False)


def check_weights(state: Mapping[str, Tensor]) -> None:
    """Refuse weights that cannot be intended.

    Raises:
        ModelError: a tensor is not of a floating-point dtype, not finite in float32, or a negative variance.
    """
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point():
            raise ModelError(f"{name}: expected floating-point weights, got {str(tensor.dtype).removeprefix('torch.')}")
        if not tensor.float().isfinite().all():
            raise ModelError(f"{name}: expected weights that are finite in float32, got NaN or infinity")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ModelError(f"{name}: expected variances >= 0, got {float(tensor.min()):.3g}")
