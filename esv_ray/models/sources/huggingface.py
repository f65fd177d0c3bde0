"""TimeSformer and VideoMAE in the layout of Hugging Face: a folder with config.json and model.safetensors.

Nothing is fetched, no code of the folder runs, and pickled weights are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from esv_ray import storage
from esv_ray.core.games.model import VideoModel, placed_model
from esv_ray.errors import ModelError
from esv_ray.input.images import shown_elements
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import in_file
from esv_ray.models.networks.opening import FAMILIES, check_installed, network_of, used_keys
from esv_ray.models.networks.preparation import Preparation
from esv_ray.models.saving import save_network
from esv_ray.models.sources.imported import Imported, Row
from esv_ray.models.weights import tensors_of

_DOING = "read the network"
_CONFIG = "config.json"
_PREPARATION = ("preprocessor_config.json", "video_preprocessor_config.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
_MOST_JSON = 10_000_000
_MOST_PARTS = 256
_UNNAMED = "LABEL_"  # of the library, for classes without a name


def read_huggingface(folder: str) -> Imported:
    """Read a network from a folder.

    Args:
        folder: location with config.json, preprocessor_config.json and model.safetensors, or its parts and their index.

    Raises:
        SpecError: `transformers` is not installed.
        ModelError: a file is missing or of something else, the weights are pickled, or the folder brings code.
        DataError: a file cannot be read.
    """
    check_installed()
    names = storage.list_names(folder, _DOING)
    if _CONFIG not in names:
        got = f"a folder with {', '.join(sorted(names)[:4])}" if names else "nothing there"
        raise ModelError(f"{folder}: expected the folder of a network with {_CONFIG}, got {got}; nothing is downloaded")
    config = _json(folder, _CONFIG)
    with in_file(storage.join(folder, _CONFIG)):
        _check_family(config)
    preparation, rows = _preparation(folder, names)
    state = _weights(folder, names)
    labels = _labels(config)
    given = config.get("num_labels", 2)  # the library's default
    n_classes = len(labels) if labels else given if type(given) is int else 0
    kept = {**used_keys(config), "num_labels": n_classes}
    with in_file(folder):
        network = network_of(kept, state, preparation)
    dim = prod(network.shape)
    classes = None if not labels or labels[0].startswith(_UNNAMED) else tuple(labels)

    def with_prior(prior: Tensor) -> VideoModel:
        return placed_model(network, prior, feature_dim=dim, longest=network.longest)

    def save(url: str, prior: Tensor, names: tuple[str, ...] | None) -> None:
        manifest = {"feature_dim": dim, "element_shape": list(network.shape), "config": kept}
        extraction = preparation.model_dump(mode="json", exclude_none=True)
        save_network(url, manifest, state, prior, classes=names, extraction=extraction)

    count = sum(tensor.numel() for tensor in state.values())
    frames = f"trained on {config['num_frames']} frames" if "num_frames" in config else "trained on the usual length"
    return Imported(
        f"{FAMILIES[config['model_type']].network}, {frames}; {count:,} weights",
        network.f,
        dim,
        n_classes,
        model=with_prior,
        save=save,
        rows=(("elements", _elements(network.shape, network.longest)), *rows),
        classes=classes,
    )


def _elements(shape: tuple[int, ...], longest: int | None) -> str:
    return shown_elements(shape, None) + (f"; at most {longest} of a video" if longest else "; any number of them")


def _json(folder: str, name: str) -> dict[str, Any]:
    url = storage.join(folder, name)
    data = storage.read_bytes(url, _DOING, most=_MOST_JSON)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelError(f"{url}: expected a JSON object")
    return content


def _check_family(config: Mapping[str, Any]) -> None:
    """Refuse other networks, and those whose code is in the folder."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(
            f"model_type: expected {' or '.join(FAMILIES)}, got {kind!r:.60}; import other networks with --from module"
        )
    expected = FAMILIES[kind].network
    given = config.get("architectures") or [expected]
    if given != [expected]:
        raise ModelError(
            f"architectures: expected {expected}, got {given!r:.120}; it has no classifier that could be explained"
        )
    if config.get("auto_map"):
        raise ModelError("auto_map: expected a network of the library, got one with code of its own, which is not run")


def _labels(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes in the order of their ids; none if the configuration has none."""
    names = config.get("id2label")
    if not isinstance(names, dict) or not names:
        return []
    try:
        ordered = {int(key): str(value) for key, value in names.items()}
    except ValueError:
        return []
    return [ordered[c] for c in range(len(ordered))] if set(ordered) == set(range(len(ordered))) else []


def _weights(folder: str, names: list[str]) -> dict[str, Tensor]:
    """Read all safetensors files of the network."""
    if _WEIGHTS not in names and _INDEX not in names:
        pickled = [name for name in sorted(names) if name.endswith(_PICKLED)]
        got = f"{pickled[0]}, which is not read, since such a file may run code" if pickled else "none"
        advice = "; save it again with save_pretrained(..., safe_serialization=True)" if pickled else ""
        raise ModelError(f"{folder}: expected weights in {_WEIGHTS}, got {got}{advice}")
    files = [_WEIGHTS]
    if _WEIGHTS not in names:
        parts = _json(folder, _INDEX).get("weight_map")
        files = sorted({str(part) for part in parts.values()}) if isinstance(parts, dict) else []
        if not files or len(files) > _MOST_PARTS or not all(part in names and "/" not in part for part in files):
            raise ModelError(f"{storage.join(folder, _INDEX)}: expected the names of safetensors files in this folder")
    state: dict[str, Tensor] = {}
    for name in files:
        url = storage.join(folder, name)
        data = storage.read_bytes(url, _DOING, most=host_memory() // 2)
        with in_file(url):
            state |= tensors_of(data)
    return state


def _preparation(folder: str, names: list[str]) -> tuple[Preparation, list[Row]]:
    """Return how the network prepares its images, and a row of the summary."""
    name = next((name for name in _PREPARATION if name in names), None)
    if name is None:
        raise ModelError(f"{folder}: expected {_PREPARATION[0]}, with size, mean and deviation of the images, got none")
    found = _json(folder, name)
    with in_file(storage.join(folder, name)):
        if not math.isclose(_number(found.get("rescale_factor", 1 / 255)), 1 / 255, rel_tol=1e-3):
            raise ModelError(f"rescale_factor: expected 1 / 255, got {found['rescale_factor']!r:.40}")
        mean, std = [0.0] * 3, [1.0] * 3
        if found.get("do_normalize", True):
            mean, std = _three(found, "image_mean"), _three(found, "image_std")
        size, short_side = _sizes(found)
        values = {"size": size, "short_side": short_side, "mean": mean, "std": std}
        try:
            preparation = Preparation.model_validate(values)
        except ValueError:
            raise ModelError(f"expected size, image_mean and image_std of images, got {values!r:.200}") from None
    height, width = preparation.size
    made = f"short side {short_side}, center {height} x {width}" if short_side else f"{height} x {width}"
    return preparation, [("frames", f"{made}, RGB, mean {mean}, std {std}, applied by the model")]


def _sizes(found: Mapping[str, Any]) -> tuple[list[object], object]:
    """Return height and width of the images, and the short side from which they are cut, or None."""
    size, crop = found.get("size"), found.get("crop_size") if found.get("do_center_crop", True) else None
    short_side = size.get("shortest_edge") if isinstance(size, dict) else None
    for each in (crop, size):
        if isinstance(each, dict) and {"height", "width"} <= set(each):
            return [each["height"], each["width"]], short_side
        if type(each) is int:
            return [each, each], short_side
    return [short_side, short_side], short_side


def _three(found: Mapping[str, Any], key: str) -> list[float]:
    values = found.get(key)
    listed = values if isinstance(values, list) else [values] * 3
    return [_number(value) for value in listed]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
