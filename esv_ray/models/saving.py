"""Write model bundles."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from esv_ray import storage
from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.modules import Average
from esv_ray.core.scales import Combine
from esv_ray.errors import ModelError
from esv_ray.models.class_tables import classes_csv, prior_csv
from esv_ray.models.manifest import MODULE_FILE, POOLING_FILE, PROJECTION_FILE, TABLE_FILES, WEIGHTS_FILE
from esv_ray.models.pooling import ReadyPooling, manifest_of

_ANOTHER = "choose another folder or remove it"
_OWN = ("model.json", *TABLE_FILES)


def save_heads(
    url: str,
    heads: Mapping[int, MlpHead],
    prior: Tensor,
    *,
    weights: Mapping[int, float] | None = None,
    combine: Combine = "mean",
    projection: nn.Linear | None = None,
    classes: tuple[str, ...] | None = None,
    training: Mapping[str, Any] | None = None,
    extraction: Mapping[str, Any] | None = None,
    beside: Collection[str] = (),
) -> None:
    """Write a bundle of MLP heads; model.json last.

    Args:
        url: folder of the bundle.
        heads: by scale.
        prior: (C,).
        weights: of the heads in F; None: 1.
        combine: whether F is the weighted mean over the scales, or the weighted sum.
        projection: applied to every element before the heads, or None.
        classes: C names, or None.
        training: how it was trained; informative only.
        extraction: what frames must be like before features are extracted from them; informative only.
        beside: names that the folder may hold already.

    Raises:
        ModelError: a bundle exists already.
        DataError: the bundle cannot be written.
    """
    first = heads[min(heads)]
    files = {s: f"head-{s:02d}.safetensors" for s in sorted(heads)}
    manifest = {
        "format": 2,
        "kind": "multiscale",
        "feature_dim": first.feature_dim if projection is None else projection.in_features,
        "n_classes": len(prior),
        "n_max": max(heads),
        "combine": combine,
        "projection": None if projection is None else PROJECTION_FILE,
        "heads": {
            str(s): {"file": name, "weight": 1.0 if weights is None else weights[s]} for s, name in files.items()
        },
        "batch_norm": first.norms is not None,
        "norm_eps": first.norms[0].eps if first.norms is not None else 1e-5,
        "input_relu": first.input_relu,
    }
    states = {files[s]: heads[s].state_dict() for s in files}
    if projection is not None:
        states[PROJECTION_FILE] = projection.state_dict()
    _save(url, manifest, states, prior, classes, {"training": training, "extraction": extraction}, beside)


def save_average(
    url: str,
    model: Average,
    prior: Tensor,
    *,
    classes: tuple[str, ...] | None = None,
    extraction: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle of a TSN; errors as `save_heads`."""
    manifest = {
        "format": 2,
        "kind": "average",
        "feature_dim": model.weight.shape[1],
        "n_classes": len(prior),
        "n_max": None,
        "heads": {"1": {"file": "head-01.safetensors", "weight": 1.0}},
        "over": model.over,
        "input_relu": model.input_relu,
    }
    _save(url, manifest, {"head-01.safetensors": model.state_dict()}, prior, classes, {"extraction": extraction})


def save_pooled(
    url: str,
    pooling: ReadyPooling,
    prior: Tensor,
    *,
    feature_dim: int,
    classes: tuple[str, ...] | None = None,
    extraction: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle of a pooled model; errors as `save_heads`."""
    manifest = {
        "format": 2,
        "kind": "pooled",
        "feature_dim": feature_dim,
        "n_classes": len(prior),
        "n_max": None,
        "pooling": manifest_of(pooling),
    }
    _save(url, manifest, {POOLING_FILE: pooling.state_dict()}, prior, classes, {"extraction": extraction})


def save_python(
    url: str,
    manifest: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None,
    prior: Tensor,
    *,
    classes: tuple[str, ...] | None = None,
) -> None:
    """Write a bundle of modules that a factory returns; errors as `save_heads`.

    Args:
        url: folder of the bundle.
        manifest: its own keys of model.json: kind, feature_dim, n_max, factory, arguments, fixed_length,
            element_shape.
        weights: of the modules, as `module_weights.load_weights` takes them; None: the factory loads them.
        prior: (C,).
        classes: C names, or None.
    """
    own = {"format": 2, "n_classes": len(prior), **manifest}
    own["weights"] = None if weights is None else MODULE_FILE
    _save(url, own, {} if weights is None else {MODULE_FILE: weights}, prior, classes, {})


def save_network(
    url: str,
    manifest: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    prior: Tensor,
    *,
    classes: tuple[str, ...] | None,
    extraction: Mapping[str, Any],
) -> None:
    """Write a bundle of a network of images; errors as `save_heads`.

    Args:
        url: folder of the bundle.
        manifest: its own keys of model.json: feature_dim, element_shape, config.
        weights: of the network, by the names that its files have.
        prior: (C,).
        classes: C names, or None.
        extraction: how the network prepares its images.
    """
    own = {"format": 2, "kind": "transformers", "n_classes": len(prior), "n_max": None, **manifest}
    _save(url, {**own, "weights": MODULE_FILE}, {MODULE_FILE: weights}, prior, classes, {"extraction": extraction})


def exists_bundle(url: str) -> bool:
    """Return whether a complete bundle exists (model.json is written last)."""
    return storage.exists(storage.join(url, "model.json"))


def check_free(url: str, beside: Collection[str] = ()) -> None:
    """Check that a folder is free for a new bundle: empty, or with the remains of an interrupted write.

    Args:
        url: the folder.
        beside: further names that it may hold.

    Raises:
        ModelError: it contains a bundle.
        DataError: it contains other files.
    """
    if exists_bundle(url):
        raise ModelError(f"{url}: there is a model bundle already; {_ANOTHER}")
    names = storage.list_names(url, "look into the output")
    weights = [name for name in names if WEIGHTS_FILE.fullmatch(name)]
    storage.check_vacant(url, [*beside, *([*weights, *TABLE_FILES] if weights else [])])  # weights are written first


def check_destination(url: str) -> None:
    """Check, before long work, that a new bundle can be written to a folder.

    Raises:
        ModelError: it contains a bundle.
        DataError: it contains other files, or cannot be written.
    """
    check_free(url)
    storage.check_writable(url, "write the model bundle")


def _save(
    url: str,
    manifest: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Tensor]],
    prior: Tensor,
    classes: tuple[str, ...] | None,
    informative: Mapping[str, Mapping[str, Any] | None],
    beside: Collection[str] = (),
) -> None:
    files = {
        name: safetensors.torch.save({key: tensor.contiguous() for key, tensor in state.items()})
        for name, state in weights.items()
    }
    files["prior.csv"] = prior_csv(prior)
    if classes is not None:
        files["classes.csv"] = classes_csv(classes)
    manifest = {**manifest, **{key: dict(value) for key, value in informative.items() if value is not None}}
    files["model.json"] = (json.dumps(manifest, indent=2) + "\n").encode()  # last: a bundle with model.json is complete
    if exists_bundle(url):
        _check_same(url, files)
        return
    check_free(url, beside)
    for name, data in files.items():
        storage.replace(storage.join(url, name), data, "write the model")


def _holds(url: str, data: bytes) -> bool:
    """Return whether a file has this content."""
    doing = "read the model bundle"
    return storage.state(url, doing).size == len(data) and storage.read_bytes(url, doing, len(data)) == data


def _check_same(url: str, files: Mapping[str, bytes]) -> None:
    """Check that the bundle in a folder is the one that would be written: the same command ran before.

    Raises:
        ModelError: it is another one.
    """
    there = storage.list_names(url, "look into the output")
    differing = [name for name, data in files.items() if name not in there or not _holds(storage.join(url, name), data)]
    differing += [name for name in there if name not in files and (name in _OWN or WEIGHTS_FILE.fullmatch(name))]
    if differing:
        raise ModelError(f"{url}: there is a model bundle already, which differs in {', '.join(differing)}; {_ANOTHER}")
