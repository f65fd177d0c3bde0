"""Models of random heads at some scales, with weights, and the values of their sequences by the definition of F."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, multiscale_model
from esv_ray.core.scales import Combine
from esv_ray.estimator import Output

D, C = 3, 4
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)

CASES: dict[str, tuple[dict[int, float], Combine]] = {
    "paper": ({1: 1.0, 2: 1.0, 3: 1.0}, "mean"),
    "weights": ({1: 0.5, 2: 3.0, 3: 1.25}, "mean"),
    "sum": ({1: 1.0, 2: 1.0, 3: 1.0}, "sum"),
    "TRN of four": ({2: 3.0, 3: 3.0, 4: 1.0}, "sum"),
    "gap": ({1: 1.0, 4: 2.0}, "mean"),
    "gap, sum": ({2: 1.5, 5: 0.5}, "sum"),
    "one head": ({3: 2.0}, "mean"),
    "one head, sum": ({3: 2.0}, "sum"),
}


def model_of(weights: dict[int, float], combine: Combine, *, plain: bool = False) -> VideoModel:
    """A model of random heads in float64; plain: of modules that are called, not laid out for the gather-sum."""
    heads: dict[int, torch.nn.Module] = {}
    for s in weights:
        torch.manual_seed(s)
        head = MlpHead(scale=s, feature_dim=D, hidden_dims=(5,), n_classes=C).double()
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
        heads[s] = torch.nn.Sequential(head) if plain else head
    return multiscale_model(heads, PRIOR, feature_dim=D, weights=weights, combine=combine)


def value_of(features: Tensor, weights: dict[int, float], combine: Combine, output: Output) -> Tensor:
    """The value of a sequence (k, D) by the definition of F, with no recursion."""
    k = len(features)
    counted = {s: weight for s, weight in weights.items() if s <= k}
    if not counted:
        return PRIOR if output == "probability" else PRIOR.log()
    total = torch.zeros(C, dtype=torch.float64)
    for s, weight in counted.items():
        torch.manual_seed(s)
        head = MlpHead(scale=s, feature_dim=D, hidden_dims=(5,), n_classes=C).double()
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
        rows = torch.stack([features[list(chosen)] for chosen in combinations(range(k), s)])
        total += weight * head(rows).mean(dim=0).detach()
    logits = total / sum(counted.values()) if combine == "mean" else total
    return logits.softmax(dim=0) if output == "probability" else logits
