"""One small model of every kind, in float64: D = 6, C = 3."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, multiscale_model, pooled_model, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.models.fixed_length import fixed_length
from tests.conftest import make_heads, make_prior
from tests.support.factories import MeanLinear, Wrapped
from tests.support.pooled import CASES, C, D, drawn

PRIOR = make_prior(C)


def heads(n_max: int = 3) -> dict[int, MlpHead]:
    return make_heads(feature_dim=D, n_classes=C, n_max=n_max)


def _multiscale() -> VideoModel:
    return multiscale_model(heads(), PRIOR, feature_dim=D)


def _deep() -> VideoModel:
    made = {}
    for s in (1, 2, 3, 4):
        head = MlpHead(scale=s, feature_dim=D, hidden_dims=[7, 5], n_classes=C, batch_norm=True, input_relu=True)
        drawn(head, seed=s)
        for norm in head.norms or ():
            assert isinstance(norm, nn.BatchNorm1d)
            norm.running_mean = torch.linspace(-1, 1, norm.num_features)
            norm.running_var = torch.linspace(0.5, 2, norm.num_features)
        made[s] = head.eval()
    return multiscale_model(made, PRIOR, feature_dim=D)


def _linear_heads() -> VideoModel:
    made = {s: MlpHead(scale=s, feature_dim=D, hidden_dims=[], n_classes=C) for s in (1, 2)}
    for s, head in made.items():
        drawn(head, seed=s)
    return multiscale_model(made, PRIOR, feature_dim=D)


def _weighted() -> VideoModel:
    """Heads at the scales 2 and 4 alone, added with weights, behind a projection."""
    projection = nn.Linear(D, 4)
    drawn(projection, seed=9)
    made = make_heads(feature_dim=4, n_classes=C, n_max=4)
    return multiscale_model(
        {s: made[s] for s in (2, 4)},
        PRIOR,
        feature_dim=D,
        weights={2: 0.5, 4: 2.0},
        combine="sum",
        projection=projection,
    )


def _mapping() -> VideoModel:
    return multiscale_model({s: Wrapped(head) for s, head in heads().items()}, PRIOR, feature_dim=D)


def _average(over: str) -> VideoModel:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn((C, D), generator=generator), torch.randn(C, generator=generator)
    scorer = Average(weight, bias, input_relu=True, over="logits" if over == "logits" else "probabilities")
    return VideoModel(scorer, PRIOR, D)


def _variable() -> VideoModel:
    return variable_length_model(MeanLinear(D, C), PRIOR, feature_dim=D)


def _fixed_length() -> VideoModel:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4 * D, 8), nn.GELU(), nn.Linear(8, C))
    drawn(linear)
    return variable_length_model(fixed_length(linear, 4), PRIOR, feature_dim=D)


def _pooled(name: str) -> VideoModel:
    case = CASES[name]()
    return pooled_model(case.pooling, PRIOR, feature_dim=D, width=case.width)


KINDS: dict[str, Callable[[], VideoModel]] = {
    "multiscale": _multiscale,
    "multiscale, two hidden layers": _deep,
    "multiscale, linear heads": _linear_heads,
    "multiscale, weights and gaps": _weighted,
    "python, mapping of heads": _mapping,
    "average of logits": lambda: _average("logits"),
    "average of probabilities": lambda: _average("probabilities"),
    "python, any length": _variable,
    "python, fixed length": _fixed_length,
    **{f"pooled, {name}": (lambda name=name: _pooled(name)) for name in CASES},  # type: ignore[misc]
}


def model_of(kind: str, dtype: torch.dtype = torch.float64) -> VideoModel:
    """The model of a kind."""
    return KINDS[kind]().to(dtype=dtype)


def has_logits(model: VideoModel) -> bool:
    """Whether ESVs of its logits can be computed."""
    return model.scorer.softmax
