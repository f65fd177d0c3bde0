"""Imported models of the built-in kinds: multi-scale MLP heads, and a linear classifier averaged over elements."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, check_prior, multiscale_model
from esv_ray.core.games.modules import Average
from esv_ray.core.scales import Combine
from esv_ray.models.saving import save_average, save_heads
from esv_ray.models.sources.imported import Imported, Row


def imported_average(
    model: Average, *, found: str, rows: tuple[Row, ...] = (), extraction: Mapping[str, Any] | None = None
) -> Imported:
    """Return a TSN, whose prior is not known yet; `extraction` as of `saving.save_heads`."""

    def with_prior(prior: Tensor) -> VideoModel:
        return VideoModel(model, check_prior(prior), feature_dim)

    def save(url: str, prior: Tensor, classes: tuple[str, ...] | None) -> None:
        save_average(url, model, prior, classes=classes, extraction=extraction)

    def cut(start: int, stop: int) -> Imported:
        weight, bias = model.weight[start:stop].clone(), model.bias[start:stop].clone()
        kept = Average(weight, bias, input_relu=model.input_relu, over=model.over)
        return imported_average(kept, found=found, rows=rows, extraction=extraction)

    n_classes, feature_dim = model.weight.shape
    relu = ", with a ReLU on the elements" if model.input_relu else ""
    text = f"mean of the {model.over} of the elements{relu}"
    return Imported(found, text, feature_dim, n_classes, model=with_prior, save=save, cut=cut, rows=rows)


def imported_heads(
    heads: Mapping[int, MlpHead],
    *,
    found: str,
    f: str,
    weights: Mapping[int, float] | None = None,
    combine: Combine = "mean",
    projection: nn.Linear | None = None,
    rows: tuple[Row, ...] = (),
    extraction: Mapping[str, Any] | None = None,
) -> Imported:
    """Return a multi-scale model, whose prior is not known yet; arguments as of `saving.save_heads` and `Imported`."""

    def with_prior(prior: Tensor) -> VideoModel:
        return multiscale_model(
            heads, prior, feature_dim=feature_dim, weights=weights, combine=combine, projection=projection
        )

    def save(url: str, prior: Tensor, classes: tuple[str, ...] | None) -> None:
        save_heads(
            url,
            heads,
            prior,
            weights=weights,
            combine=combine,
            projection=projection,
            classes=classes,
            extraction=extraction,
        )

    def cut(start: int, stop: int) -> Imported:
        kept = {s: _cut_head(head, start, stop) for s, head in heads.items()}
        return imported_heads(
            kept,
            found=found,
            f=f,
            weights=weights,
            combine=combine,
            projection=projection,
            rows=rows,
            extraction=extraction,
        )

    first = heads[min(heads)]
    feature_dim = first.feature_dim if projection is None else projection.in_features
    return Imported(found, f, feature_dim, first.n_classes, model=with_prior, save=save, cut=cut, rows=rows)


def _cut_head(head: MlpHead, start: int, stop: int) -> MlpHead:
    """Return a copy of a head with some of its outputs."""
    kept = copy.deepcopy(head)
    last = kept.linears[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight = nn.Parameter(last.weight[start:stop].clone())
        last.bias = nn.Parameter(last.bias[start:stop].clone())
    last.out_features = kept.n_classes = stop - start
    return kept
