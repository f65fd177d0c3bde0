"""Load model bundles: a folder with model.json, the heads' weights, prior.csv and, optionally, classes.csv."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from esv_ray import storage
from esv_ray.consent import check_packages
from esv_ray.core.games.model import VideoModel, check_classes, multiscale_model, pooled_model
from esv_ray.errors import DataError, ModelError, SpecError
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import MOST_TABLE_BYTES, in_file, parse_classes, parse_prior
from esv_ray.models.factory import model_from_factory
from esv_ray.models.fixed_length import fixed_lengths
from esv_ray.models.manifest import (
    LIST,
    MAPPING,
    MODULE_FILE,
    POOLING_FILE,
    PROJECTION_FILE,
    TABLE_FILES,
    WEIGHTS_FILE,
    BundleManifest,
)
from esv_ray.models.networks.opening import model_of_network
from esv_ray.models.pooling import pooling_from_state
from esv_ray.models.user_code import user_code
from esv_ray.models.weights import average_from_state, head_from_state, projection_from_state, tensors_of

_MOST_MANIFEST_BYTES = 10_000_000
_LONGEST_KEY = 40
_LONGEST_NAME = 255  # bytes, of any file system


def load_model(url: str | PathLike[str], *, code: str | Collection[str] | None = ()) -> VideoModel:
    """Load a model bundle on the CPU; ``model.to("cuda")`` moves it.

    Args:
        url: location of the bundle's folder.
        code: Python packages whose code may run to build the model, e.g. ``["my_models"]``; a bundle of kind `python`
            is refused unless its factory's package is among them; no other package is imported.

    Raises:
        ModelError: model.json is missing, or a file is invalid or inconsistent with it; names the file and what was
            expected. Or consent to run code is missing, or the modules of a `python` model are not deterministic.
        DataError: another file is missing, or the storage fails.
        SpecError: `url` is not a location, or an entry of `code` is not a package name.
    """
    url = storage.given(url, "url")
    try:
        packages = check_packages(code)
    except ValueError as error:
        raise SpecError(f"code: {error}") from None
    manifest, digest = _read_manifest(url)
    names = [head.file for head in manifest.head_files.values()] + ([POOLING_FILE] if manifest.pooling else [])
    files = {name: _read(url, _plain_name(url, name), host_memory()) for name in names}
    files["prior.csv"] = _read(url, "prior.csv", MOST_TABLE_BYTES)
    with _in_file(url, "prior.csv"):
        prior = parse_prior(files["prior.csv"], manifest.n_classes)
    classes: tuple[str, ...] | None = None
    listed = storage.list_names(url, "list the model")
    if manifest.format == 2 and manifest.kind == "multiscale" and (manifest.projection or PROJECTION_FILE in listed):
        if "projection" in manifest.model_fields_set and manifest.projection is None:
            with _in_file(url, "model.json"):
                raise ModelError(f"projection: null, no projection, but there is {PROJECTION_FILE}; remove it")
        files[PROJECTION_FILE] = _read(url, PROJECTION_FILE, host_memory())
    if manifest.weights is not None:
        files[MODULE_FILE] = _read(url, MODULE_FILE, host_memory())
    if "classes.csv" in listed:
        files["classes.csv"] = _read(url, "classes.csv", MOST_TABLE_BYTES)
        with _in_file(url, "classes.csv"):
            classes = parse_classes(files["classes.csv"], manifest.n_classes)
    for name, data in sorted(files.items()):
        digest.update(f"{name}:{hashlib.sha256(data).hexdigest()}\n".encode())
    model = _build(url, manifest, files, prior, packages)
    if manifest.runs_code:
        # Its weights may be in no file of the bundle: the digest covers package.module:function, not the code.
        with _in_file(url, "model.json"), user_code("factory: cannot read the weights of its modules"):
            for name, tensor in model.scorer.state_dict().items():
                data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                shape = f"{tensor.dtype}:{tuple(tensor.shape)}"
                digest.update(f"{name}:{shape}:{hashlib.sha256(data).hexdigest()}\n".encode())
        for resampled in fixed_lengths(model.scorer):
            digest.update(f"{json.dumps(resampled)}\n".encode())
    return replace(model, feature_dim=manifest.feature_dim, classes=classes, digest=digest.hexdigest())


def extraction_of(url: str) -> Mapping[str, Any] | None:
    """Return what a bundle says of frames before features are extracted from them (`BundleManifest.extraction`).

    Raises:
        ModelError: model.json is missing or invalid.
    """
    return _read_manifest(url)[0].extraction


def training_of(url: str) -> Mapping[str, Any] | None:
    """Return what a bundle says of its training (`BundleManifest.training`); errors as for `extraction_of`."""
    return _read_manifest(url)[0].training


def _read_manifest(url: str) -> tuple[BundleManifest, hashlib._Hash]:
    _check_no_file(url)
    manifest_url = storage.join(url, "model.json")
    if not storage.exists(manifest_url):
        raise ModelError(f"{url}: expected a model bundle, but there is no model.json; check `model`")
    data = _read(url, "model.json", _MOST_MANIFEST_BYTES)
    try:
        manifest = BundleManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = "".join(f"{_shown(part)}: " for part in first["loc"] if part not in (LIST, MAPPING))
        whole = first["type"] == "json_invalid" or not first["loc"]
        got = "" if whole and isinstance(first["input"], dict | bytes | str) else f", got {first['input']!r:.80}"
        raise ModelError(f"{manifest_url}: {key}{first['msg'].removeprefix('Value error, ')}{got}") from None
    with _in_file(url, "model.json"):
        _check_heads(manifest)
    digest = hashlib.sha256()
    try:
        digest.update(json.dumps(manifest.digested(), sort_keys=True).encode())
    except (ValueError, RecursionError):  # a number of thousands of digits, half a surrogate
        raise ModelError(f"{manifest_url}: arguments: expected values that JSON can hold") from None
    return manifest, digest


def _shown(part: int | str) -> str:
    """Return a part of a key for an error, which somebody else may have written."""
    return part if isinstance(part, str) and part.isprintable() and len(part) <= _LONGEST_KEY else f"{part!r:.60}"


def _check_no_file(url: str) -> None:
    """Refuse a file where the bundle's folder is expected; object stores have no folders, only a missing model.json."""
    fs, path = storage.open_location(url)
    if not storage.is_local(fs) or not Path(path).is_file():
        return
    name = PurePosixPath(path).name
    hint = "import a checkpoint with `esv import model --from SOURCE` (its --help lists the sources), or check `model`"
    if name == "model.json" or name in TABLE_FILES or WEIGHTS_FILE.fullmatch(name):
        hint = f"give the folder that holds it, {PurePosixPath(path).parent}"
    raise ModelError(f"{url}: expected the folder of a model bundle, got a file; {hint}")


def _check_heads(manifest: BundleManifest) -> None:
    """Check the numbers of classes and of heads of the kind, before any head is read."""
    check_classes(manifest.n_classes)
    if manifest.kind == "multiscale" and manifest.n_max is None:
        raise ModelError("n_max: expected the longest head's scale, got null")
    if manifest.weights is not None and not manifest.runs_code and manifest.kind != "transformers":
        raise ModelError(f"weights: expected null for the kind {manifest.kind}, whose heads are files of their own")
    heads = manifest.head_files
    if manifest.format == 2 and manifest.kind == "multiscale":
        if not heads or max(heads) != manifest.n_max:
            raise ModelError(f"heads: expected the longest at scale n_max = {manifest.n_max}, got {sorted(heads)}")
        return
    expected = {"multiscale": manifest.n_max or 0, "average": 1, "pooled": 0, "python": 0, "transformers": 0}[
        manifest.kind
    ]
    if len(heads) != expected:
        raise ModelError(f"heads: expected {expected} files, got {len(heads)}")
    if manifest.pooling is not None and manifest.kind != "pooled":
        raise ModelError(f"pooling: a key of kind pooled, got kind {manifest.kind}")
    if manifest.kind == "pooled" and (manifest.pooling is None) == (manifest.factory is None):
        got = "neither" if manifest.pooling is None else "both"
        raise ModelError(f"pooling: expected either pooling or factory, got {got}")


def _read(url: str, name: str, most: int) -> bytes:
    """Read a file of the bundle, which must be a regular file in its folder."""
    file_url = storage.join(url, name)
    fs, path = storage.open_location(file_url)
    if storage.is_local(fs):
        file = Path(path)
        try:
            ordinary, inside = file.is_file(), file.parent.resolve() in file.resolve().parents
        except (OSError, RuntimeError):
            raise DataError(f"cannot read the model: {file_url}: expected a file, got a link to itself") from None
        if not ordinary and file.exists():
            raise DataError(f"cannot read the model: {file_url}: expected an ordinary file, got a folder or a device")
        if not inside:
            raise ModelError(
                f"{file_url}: expected a file in the bundle's folder, got a link out of it; put a copy there"
            )
    return storage.read_bytes(file_url, "read the model", most=most)


def _plain_name(url: str, name: str) -> str:
    """Return a file name that cannot refer outside the bundle."""
    plain = PurePosixPath(name).name == name and "\\" not in name and name not in ("", ".", "..")
    if not plain or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise ModelError(f"{storage.join(url, 'model.json')}: heads: expected plain file names, got {name!r:.300}")
    return name


def _build(
    url: str, manifest: BundleManifest, files: Mapping[str, bytes], prior: Tensor, code: Sequence[str]
) -> VideoModel:
    if manifest.runs_code:
        weights = None
        if MODULE_FILE in files:
            with _in_file(url, MODULE_FILE):
                weights = tensors_of(files[MODULE_FILE])
        with _in_file(url, "model.json"):
            return model_from_factory(manifest, prior, code, weights)
    if manifest.kind == "transformers":
        with _in_file(url, MODULE_FILE):
            state = tensors_of(files[MODULE_FILE])
        with _in_file(url, "model.json"):
            return model_of_network(manifest, state, prior)
    if manifest.pooling is not None:
        with _in_file(url, POOLING_FILE):
            pooling, width = pooling_from_state(
                manifest.pooling,
                tensors_of(files[POOLING_FILE]),
                feature_dim=manifest.feature_dim,
                n_classes=manifest.n_classes,
            )
            return pooled_model(pooling, prior, feature_dim=manifest.feature_dim, width=width)
    projection = None
    if PROJECTION_FILE in files:
        with _in_file(url, PROJECTION_FILE):
            projection = projection_from_state(tensors_of(files[PROJECTION_FILE]), manifest.feature_dim)
    heads: dict[int, nn.Module] = {}
    for s, head_file in manifest.head_files.items():
        with _in_file(url, head_file.file):
            state = tensors_of(files[head_file.file])
            if manifest.kind == "average":
                return VideoModel(average_from_state(manifest, state), prior, manifest.feature_dim)
            head = head_from_state(
                state,
                scale=s,
                feature_dim=manifest.feature_dim if projection is None else projection.out_features,
                n_classes=manifest.n_classes,
                input_relu=manifest.input_relu,
                norm_eps=manifest.norm_eps,
            )
            if head.norms is not None and not manifest.batch_norm:
                raise ModelError("holds batch norm (norms.*), but model.json says batch_norm false")
            heads[s] = head
    return multiscale_model(
        heads,
        prior,
        feature_dim=manifest.feature_dim,
        weights={s: head_file.weight for s, head_file in manifest.head_files.items()},
        combine="mean" if manifest.format == 1 else manifest.combine,
        projection=projection,
    )


def _in_file(url: str, name: str) -> AbstractContextManager[None]:
    return in_file(storage.join(url, name))
