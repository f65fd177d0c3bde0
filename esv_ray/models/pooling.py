"""Poolings of model bundles: from and to state dicts. Sizes are checked before memory is allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from esv_ray.core.games.pooled import CosinePooling, GatedAttentionPooling, QueryAttentionPooling
from esv_ray.errors import ModelError
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.weights import check_weights

ReadyPooling = CosinePooling | GatedAttentionPooling | QueryAttentionPooling


def pooling_from_state(
    manifest: PoolingManifest, state: Mapping[str, Tensor], *, feature_dim: int, n_classes: int
) -> tuple[ReadyPooling, int]:
    """Return a pooling with the weights of a state dict with its names, and E.

    Raises:
        ModelError: tensors are missing, left over, or do not fit each other, D or C.
    """
    check_weights(state)
    layers = _Layers({name: tensor.float() for name, tensor in state.items()})
    pooling: ReadyPooling
    if manifest.form == "cosine":
        pooling, width = _cosine(layers, feature_dim), feature_dim
        classes = len(pooling.text)
    elif manifest.form == "gated_attention":
        pooling = _gated(layers, feature_dim, per_class=manifest.per_class)
        width, classes = pooling.width, pooling.classifier.weight.shape[0]
    else:
        pooling = _query(layers, feature_dim, manifest.attention_heads, manifest.norm_eps)
        width, classes = pooling.width, pooling.linear.out_features
    if classes != n_classes:
        raise ModelError(f"expected {n_classes} classes, got {classes}")
    layers.check_all_used()
    return pooling.eval().requires_grad_(False), width


def manifest_of(pooling: ReadyPooling) -> dict[str, object]:
    """Return the `PoolingManifest` of a pooling, as JSON values."""
    if isinstance(pooling, CosinePooling):
        return {"form": "cosine"}
    if isinstance(pooling, GatedAttentionPooling):
        return {"form": "gated_attention", "per_class": pooling.per_class}
    eps = {} if pooling.norm1 is None else {"norm_eps": pooling.norm1.eps}
    return {"form": "query_attention", "attention_heads": pooling.attention_heads, **eps}


class _Layers:
    """Layers made of the tensors of a state dict, each used once."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._left = dict(state)

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """Take a tensor; a size of None is free, but not 0."""
        tensor = self._left.pop(name, None)
        if tensor is None or not _fits(tensor.shape, shape):
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            got = "none" if tensor is None else str(tuple(tensor.shape))
            raise ModelError(f"{name}: expected a tensor of shape ({expected}), got {got}")
        return tensor

    def has(self, name: str) -> bool:
        """Return whether a layer has a weight that is not used yet."""
        return f"{name}.weight" in self._left

    def linear(self, name: str, inputs: int | None, outputs: int | None = None) -> nn.Linear:
        """Take a linear layer, with or without bias."""
        weight = self.tensor(f"{name}.weight", outputs, inputs)
        biased = f"{name}.bias" in self._left
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biased)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if biased:
            layer.bias = nn.Parameter(self.tensor(f"{name}.bias", len(weight)), requires_grad=False)
        return layer

    def norm(self, name: str, width: int, eps: float) -> nn.LayerNorm:
        """Take a layer norm."""
        layer = nn.LayerNorm(width, eps=eps)
        layer.weight = nn.Parameter(self.tensor(f"{name}.weight", width), requires_grad=False)
        layer.bias = nn.Parameter(self.tensor(f"{name}.bias", width), requires_grad=False)
        return layer

    def check_all_used(self) -> None:
        """Refuse tensors that are left over."""
        if self._left:
            raise ModelError(f"expected no further tensors, got {', '.join(sorted(self._left)[:4])}")


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    """Return whether a shape is as expected; a size of None is free, but not 0."""
    if len(shape) != len(expected) or 0 in shape:
        return False
    return all(size in (None, got) for got, size in zip(shape, expected, strict=True))


def _cosine(layers: _Layers, dim: int) -> CosinePooling:
    text, scale = layers.tensor("text", None, dim), layers.tensor("scale")
    return CosinePooling(text, float(scale))


def _gated(layers: _Layers, dim: int, *, per_class: bool) -> GatedAttentionPooling:
    hidden = layers.linear("hidden", dim) if layers.has("hidden") else None
    width = dim if hidden is None else hidden.out_features
    tanh = layers.linear("tanh", width)
    gate = layers.linear("gate", width, tanh.out_features) if layers.has("gate") else None
    attention = layers.linear("attention", tanh.out_features)
    heads = attention.out_features
    classifier = layers.linear("classifier", width, heads) if per_class else layers.linear("classifier", width * heads)
    return GatedAttentionPooling(
        hidden=hidden, tanh=tanh, gate=gate, attention=attention, classifier=classifier, per_class=per_class
    )


def _query(layers: _Layers, dim: int, heads: int, norm_eps: float) -> QueryAttentionPooling:
    if dim % heads:
        raise ModelError(f"attention_heads: expected a divisor of D = {dim}, got {heads}")
    complete = layers.has("norm1")
    fc1 = layers.linear("fc1", dim) if complete else None
    return QueryAttentionPooling(
        query=layers.tensor("query", dim),
        q=layers.linear("q", dim, dim),
        kv=layers.linear("kv", dim, 2 * dim),
        attention_heads=heads,
        proj=layers.linear("proj", dim, dim) if layers.has("proj") else None,
        norm1=layers.norm("norm1", dim, norm_eps) if complete else None,
        norm2=layers.norm("norm2", dim, norm_eps) if complete else None,
        fc1=fc1,
        fc2=None if fc1 is None else layers.linear("fc2", fc1.out_features, dim),
        linear=layers.linear("linear", dim),
    )
