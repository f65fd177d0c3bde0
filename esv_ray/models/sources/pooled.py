"""Build a pooled model from an imported state dict, before its prior is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from esv_ray.core.games.model import VideoModel, pooled_model
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.pooling import pooling_from_state
from esv_ray.models.saving import save_pooled
from esv_ray.models.sources.imported import Imported, Row

_OUTPUTS = {"cosine": ("text",), "gated_attention": ("classifier",), "query_attention": ("linear",)}
"""Layers whose rows belong to the classes."""


def imported_pooled(
    manifest: PoolingManifest,
    state: Mapping[str, Tensor],
    *,
    feature_dim: int,
    found: str,
    f: str,
    rows: tuple[Row, ...] = (),
    extraction: Mapping[str, Any] | None = None,
) -> Imported:
    """Return a pooled model; `manifest` and `state` as for `models.pooling.pooling_from_state`.

    `extraction` is as of `saving.save_heads`.

    Raises:
        ModelError: the tensors do not fit.
    """
    outputs = {name for name in state if name.partition(".")[0] in _OUTPUTS[manifest.form]}
    n_classes = len(state[sorted(outputs)[-1]]) if outputs else 0
    pooling, width = pooling_from_state(manifest, state, feature_dim=feature_dim, n_classes=n_classes)

    def with_prior(prior: Tensor) -> VideoModel:
        return pooled_model(pooling, prior, feature_dim=feature_dim, width=width)

    def save(url: str, prior: Tensor, classes: tuple[str, ...] | None) -> None:
        save_pooled(url, pooling, prior, feature_dim=feature_dim, classes=classes, extraction=extraction)

    def cut(start: int, stop: int) -> Imported:
        kept = {name: tensor[start:stop].clone() if name in outputs else tensor for name, tensor in state.items()}
        return imported_pooled(
            manifest, kept, feature_dim=feature_dim, found=found, f=f, rows=rows, extraction=extraction
        )

    may_cut = None if manifest.per_class else cut
    return Imported(found, f, feature_dim, n_classes, model=with_prior, save=save, cut=may_cut, rows=rows)
