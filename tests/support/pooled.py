"""Pooled models twice: as poolings, and as plain modules that attend over a whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.core.games.pooled import (
    CosinePooling,
    GatedAttentionPooling,
    OwnPooling,
    QueryAttentionPooling,
)

D, C = 6, 3


class Plain(nn.Module):
    """A module (N, s, D) -> (N, C) made of a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, sequences: Tensor) -> Tensor:
        return self.function(sequences)


class DeepSet(nn.Module):
    """A user's module with encode and decode; the number of elements counts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(D, 5)
        self.outer = nn.Linear(6, C)

    def encode(self, elements: Tensor) -> Tensor:
        out: Tensor = self.inner(elements).tanh()
        return out

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        out: Tensor = self.outer(torch.cat([sums / sizes.sqrt()[:, None], sizes[:, None]], dim=1))
        return out


@dataclass(frozen=True)
class Case:
    """A pooling, its E, and the module that it must equal."""

    pooling: nn.Module
    width: int
    module: nn.Module


def drawn(*modules: nn.Module | None, seed: int = 0, size: float = 1.0) -> None:
    """Set all parameters of modules to random numbers."""
    generator = torch.Generator().manual_seed(seed)
    for module in modules:
        for parameter in () if module is None else module.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def cosine() -> Case:
    text = F.normalize(torch.randn((C, D), generator=torch.Generator().manual_seed(3)), dim=1)

    def forward(sequences: Tensor) -> Tensor:
        elements = sequences / sequences.norm(dim=-1, keepdim=True)
        mean = elements.mean(dim=1)
        out: Tensor = 7.5 * classes(mean / mean.norm(dim=-1, keepdim=True))
        return out

    classes = nn.Linear(D, C, bias=False)
    classes.weight = nn.Parameter(text.clone(), requires_grad=False)
    module = Plain(forward)
    module.layers = nn.ModuleList([classes])
    return Case(CosinePooling(text, 7.5), D, module)


def gated(
    *, hidden: bool = False, gate: bool = True, heads: int = 1, per_class: bool = False, size: float = 1.0
) -> Case:
    width = 4 if hidden else D
    first, tanh = (nn.Linear(D, width) if hidden else None), nn.Linear(width, 5)
    sigmoid, attention = (nn.Linear(width, 5) if gate else None), nn.Linear(5, heads)
    classifier = nn.Linear(width if per_class else width * heads, C)
    drawn(first, tanh, sigmoid, classifier)
    drawn(attention, seed=1, size=size)

    def forward(sequences: Tensor) -> Tensor:
        held = sequences if first is None else first(sequences).relu()
        inner = tanh(held).tanh() * (1 if sigmoid is None else sigmoid(held).sigmoid())
        weights = attention(inner).softmax(dim=1)  # over elements
        means = torch.einsum("nsk,nsh->nkh", weights, held)
        if per_class:
            return torch.stack([means[:, c] @ classifier.weight[c] + classifier.bias[c] for c in range(C)], dim=1)
        out: Tensor = classifier(means.flatten(1))
        return out

    pooling = GatedAttentionPooling(
        hidden=first, tanh=tanh, gate=sigmoid, attention=attention, classifier=classifier, per_class=per_class
    )
    module = Plain(forward)
    module.layers = nn.ModuleList([part for part in (first, tanh, sigmoid, attention, classifier) if part is not None])
    return Case(pooling, pooling.width, module)


def query(*, complete: bool, proj: bool = True, heads: int = 2, size: float = 1.0) -> Case:
    tokens = torch.randn(D, generator=torch.Generator().manual_seed(5))
    q, kv, linear = nn.Linear(D, D), nn.Linear(D, 2 * D), nn.Linear(D, C)
    last = nn.Linear(D, D) if proj else None
    norm1, norm2, fc1, fc2 = (
        (nn.LayerNorm(D), nn.LayerNorm(D), nn.Linear(D, 9), nn.Linear(9, D)) if complete else (None,) * 4
    )
    drawn(kv, linear, last, norm1, norm2, fc1, fc2)
    drawn(q, seed=1, size=size)

    def forward(sequences: Tensor) -> Tensor:
        count, s, _ = sequences.shape
        elements = sequences if norm1 is None else norm1(sequences)
        keys, values = kv(elements).view(count, s, 2, heads, D // heads).permute(2, 0, 3, 1, 4)
        queries = q(tokens.to(sequences)).view(1, heads, 1, D // heads).expand(count, -1, -1, -1)
        out = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(count, D)
        out = out if last is None else last(out)
        if norm2 is not None and fc1 is not None and fc2 is not None:
            out = tokens.to(out) + out
            out = out + fc2(F.gelu(fc1(norm2(out))))
        logits: Tensor = linear(out)
        return logits

    pooling = QueryAttentionPooling(
        query=tokens,
        q=q,
        kv=kv,
        attention_heads=heads,
        proj=last,
        norm1=norm1,
        norm2=norm2,
        fc1=fc1,
        fc2=fc2,
        linear=linear,
    )
    module = Plain(forward)
    module.layers = nn.ModuleList([part for part in (q, kv, last, norm1, norm2, fc1, fc2, linear) if part is not None])
    return Case(pooling, pooling.width, module)


def own() -> Case:
    module = DeepSet()
    drawn(module)

    def forward(sequences: Tensor) -> Tensor:
        sizes = sequences.new_full((len(sequences),), sequences.shape[1])
        sums = sum(module.encode(sequences[:, place]) for place in range(sequences.shape[1]))
        assert isinstance(sums, Tensor)
        return module.decode(sums, sizes)

    plain = Plain(forward)
    plain.layers = nn.ModuleList([module])
    return Case(OwnPooling(module), 5, plain)


CASES: dict[str, Callable[[], Case]] = {
    "CLIP": cosine,
    "ABMIL": lambda: gated(gate=False),
    "ABMIL, gated, three heads": lambda: gated(heads=3),
    "CLAM, one branch": lambda: gated(hidden=True),
    "CLAM, a branch per class": lambda: gated(hidden=True, heads=C, per_class=True),
    "attentive probe": lambda: query(complete=True),
    "attentive probe, attention alone": lambda: query(complete=False, heads=3),
    "attentive probe, no projection": lambda: query(complete=True, proj=False, heads=1),
    "encode and decode": own,
}
