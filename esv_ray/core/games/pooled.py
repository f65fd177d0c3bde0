"""Pooled models: F(X) = decode(sum over x in X of encode(x), |X|). A subsequence costs a sum, not a run of the model.

`Pooled` is the scorer (`model.Scorer`). A pooling is a module with

    encode(features (..., n, D)) -> (..., n, E), the summands of the elements of a sequence,
    decode(sums (R, E), sizes (R,)) -> (R, C) logits.
"""

from __future__ import annotations

from math import prod
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.core.games.images import OfImages
from esv_ray.core.games.modules import AnyLength, gather_subsequences, weighted_sums
from esv_ray.core.workspace import Workspace

_SQUARES_OVERFLOW = 2.0**40  # numbers whose squares may sum to infinity in float32; below it, no bit changes
# Logarithm of the least attention weight relative to a sequence's largest, so that sums stay normal float32 numbers.
# Elements below it count as equal, which matters only in subsequences where all elements are.
_LEAST_LOG_WEIGHT = -75.0
_ENCODED_BYTES = 2**21  # of images that are encoded together: 13 of 224 x 224


class Pooling(Protocol):
    """The interface of a pooling."""

    def encode(self, features: Tensor) -> Tensor:
        """Return the summands (..., n, E) of the elements (..., n, D) of sequences."""

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return the logits (R, C) of subsequences, from their sums (R, E) and numbers of elements (R,)."""


class Pooled(AnyLength):
    """The scorer of a pooled model."""

    softmax = True
    probabilities = True
    ordered = False

    def __init__(self, pooling: nn.Module, *, width: int) -> None:
        """Take a pooling.

        Args:
            pooling: a module with the interface `Pooling`.
            width: E.
        """
        super().__init__()
        self.pooling = pooling.eval()
        self._width = width

    @property
    def _interface(self) -> Pooling:
        return cast(Pooling, self.pooling)

    def embed(self, features: Tensor) -> Tensor:
        """Return the summands (..., n, E) of features (..., n, D)."""
        return self._interface.encode(features)

    def width(self, s: int) -> int:
        """Return E: the sum of a subsequence."""
        del s
        return self._width

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """Return the summands (n, B, E) themselves."""
        del s, workspace
        return features

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Write scores to out (R, B, C), from the summands and membership (n + 1, R)."""
        del elements
        n, batch, width = prepared.shape
        held = member[:n].t()  # (R, n)
        sums = torch.mm(held, prepared.reshape(n, -1)).view(-1, width)  # (R * B, E)
        sizes = held.sum(dim=1).repeat_interleave(batch)
        out.copy_(self._interface.decode(sums, sizes).view_as(out))

    def weighted(self, laid_out: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the scores, differentiable (`model.Scorer`)."""
        sums = gather_subsequences(laid_out, positions).sum(dim=1)  # (R * B, E)
        sizes = sums.new_full((len(sums),), positions.shape[-1])
        return weighted_sums(self._interface.decode(sums, sizes), weights)


class CosinePooling(nn.Module):
    """Zero-shot classification of the mean element, as CLIP (Radford et al. 2021) is applied to clips.

    Elements are normalized, averaged, and normalized again; logits are `scale` times the products with the vectors of
    the classes.
    """

    def __init__(self, text: Tensor, scale: float) -> None:
        """Take vectors (C, D) of the classes, e.g. normalized text embeddings, and the factor of the logits."""
        super().__init__()
        self.text = nn.Parameter(text, requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(scale, dtype=text.dtype), requires_grad=False)

    def encode(self, features: Tensor) -> Tensor:
        """Return the elements (..., n, D), each of length 1."""
        largest = features.abs().amax(dim=-1, keepdim=True)
        factor = torch.where(largest > _SQUARES_OVERFLOW, largest, torch.ones_like(largest))
        return F.normalize(features / factor, dim=-1)

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (R, C) of sums (R, D); their direction is that of the mean."""
        del sizes
        return self.scale * F.linear(F.normalize(sums, dim=-1), self.text)


def attention_summands(logits: Tensor, values: Tensor) -> Tensor:
    """Return summands whose sums give softmax-weighted means over any subsequence (`attention_means`).

    Args:
        logits: (..., n, K) of the elements of a sequence, for each of K attention heads.
        values: (..., n, K or 1, V).

    Returns:
        (..., n, K * (V + 1)): weighted values and weights. Weights are relative to the largest of the sequence.
    """
    relative = logits - logits.amax(dim=-2, keepdim=True)
    weights = relative.clamp_min(_LEAST_LOG_WEIGHT).exp()[..., None]  # (..., n, K, 1)
    return torch.cat([weights * values, weights], dim=-1).flatten(-2)


def attention_means(sums: Tensor, heads: int) -> Tensor:
    """Return the weighted means (R, K, V) of sums (R, K * (V + 1)) of `attention_summands`, for K attention heads."""
    parts = sums.view(len(sums), heads, -1)
    return parts[..., :-1] / parts[..., -1:]


class GatedAttentionPooling(nn.Module):
    """Attention-based pooling of multiple-instance learning (Ilse et al. 2018), gated or not, as in ABMIL and CLAM.

    With h = relu(hidden x), or x itself, the attention logits of an element are attention(tanh(V h) * sigmoid(U h)),
    without U attention(tanh(V h)). The class logits are linear in the weighted means of h: of all attention heads, or,
    with one attention head per class, of that class's.
    """

    def __init__(
        self,
        *,
        hidden: nn.Linear | None,
        tanh: nn.Linear,
        gate: nn.Linear | None,
        attention: nn.Linear,
        classifier: nn.Linear,
        per_class: bool,
    ) -> None:
        """Take the layers.

        Args:
            hidden: (D -> H), or None: H = D.
            tanh: V, (H -> A).
            gate: U, (H -> A), or None.
            attention: (A -> K).
            classifier: (K * H -> C); with `per_class` row c of its weight (C, H) belongs to attention head c.
            per_class: whether K = C and each class has an attention head.
        """
        super().__init__()
        self.hidden = hidden
        self.tanh = tanh
        self.gate = gate
        self.attention = attention
        self.classifier = classifier
        self.per_class = per_class

    @property
    def width(self) -> int:
        """E."""
        return self.attention.out_features * (self.tanh.in_features + 1)

    def encode(self, features: Tensor) -> Tensor:
        """Return summands (..., n, E) of the elements (..., n, D)."""
        held = features if self.hidden is None else self.hidden(features).relu()
        inner = self.tanh(held).tanh()
        if self.gate is not None:
            inner = inner * self.gate(held).sigmoid()
        return attention_summands(self.attention(inner), held[..., None, :])

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (R, C) of sums (R, E)."""
        del sizes
        means = attention_means(sums, self.attention.out_features)  # (R, K, H)
        if self.per_class:
            logits = (means * self.classifier.weight).sum(dim=-1)
            return logits if self.classifier.bias is None else logits + self.classifier.bias
        return self.classifier(means.flatten(1))  # type: ignore[no-any-return]


class QueryAttentionPooling(nn.Module):
    """An attentive probe with one learned query, as V-JEPA (Bardes et al. 2024) is evaluated.

    The query attends to the elements (with `norm1`: normalized); the result passes `proj` and, in a complete block, a
    residual MLP: q = query + attention; q = q + fc2(gelu(fc1(norm2(q)))). Then a linear classifier.
    """

    def __init__(
        self,
        *,
        query: Tensor,
        q: nn.Linear,
        kv: nn.Linear,
        attention_heads: int,
        proj: nn.Linear | None,
        norm1: nn.LayerNorm | None,
        norm2: nn.LayerNorm | None,
        fc1: nn.Linear | None,
        fc2: nn.Linear | None,
        linear: nn.Linear,
    ) -> None:
        """Take the layers of width D, and the number of attention heads; norm1, norm2, fc1, fc2 all or none."""
        super().__init__()
        self.query = nn.Parameter(query, requires_grad=False)  # (D,)
        self.q = q
        self.kv = kv  # (D -> 2 D)
        self.attention_heads = attention_heads
        self.proj = proj
        self.norm1 = norm1
        self.norm2 = norm2
        self.fc1 = fc1
        self.fc2 = fc2
        self.linear = linear

    @property
    def width(self) -> int:
        """E."""
        return len(self.query) + self.attention_heads

    def encode(self, features: Tensor) -> Tensor:
        """Return summands (..., n, E) of the elements (..., n, D)."""
        heads, dim = self.attention_heads, features.shape[-1]
        held = features if self.norm1 is None else self.norm1(features)
        keys, values = self.kv(held).unflatten(-1, (2, heads, dim // heads)).unbind(-3)  # (..., n, K, D / K)
        query = self.q(self.query).view(heads, -1) * (dim // heads) ** -0.5
        return attention_summands((keys * query).sum(dim=-1), values)

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (R, C) of sums (R, E)."""
        del sizes
        out = attention_means(sums, self.attention_heads).flatten(1)  # (R, D)
        if self.proj is not None:
            out = self.proj(out)
        if self.norm2 is not None:
            assert self.fc1 is not None
            assert self.fc2 is not None
            out = self.query + out
            out = out + self.fc2(F.gelu(self.fc1(self.norm2(out))))
        logits: Tensor = self.linear(out)
        return logits


class PoolingOfImages(OfImages):
    """A module with encode (N, *shape) uint8 -> (N, E) and decode, as one of elements (N, D)."""

    def encode(self, elements: Tensor) -> Tensor:
        """Return the summands (N, E) of elements (N, D) uint8, a few at a time."""
        pooling = cast(Pooling, self.module)
        together = max(1, _ENCODED_BYTES // prod(self.shape))
        parts = [
            pooling.encode(self.images(elements[start : start + together]))
            for start in range(0, len(elements), together)
        ]
        return torch.cat(parts)

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return the logits (R, C) of sums (R, E) and numbers of elements (R,)."""
        return cast(Pooling, self.module).decode(sums, sizes)


class OwnPooling(nn.Module):
    """A user's module with encode (N, D) -> (N, E) and decode (R, E), (R,) -> (R, C)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def encode(self, features: Tensor) -> Tensor:
        """Return summands (..., n, E) of the elements (..., n, D)."""
        flat = cast(Pooling, self.module).encode(features.reshape(-1, features.shape[-1]))
        return flat.view(*features.shape[:-1], -1)

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (R, C) of sums (R, E) and numbers of elements (R,)."""
        return cast(Pooling, self.module).decode(sums, sizes)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return logits (N, C) of sequences (N, s, D)."""
        sizes = sequences.new_full((len(sequences),), sequences.shape[1])
        return self.decode(self.encode(sequences).sum(dim=1), sizes)
