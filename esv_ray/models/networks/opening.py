"""Build networks of the library `transformers` from their configuration and weights. Nothing is fetched.

The library's own classes are used, never code of a folder, and weights are tensors that have been read already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from esv_ray.core.games.model import VideoModel, placed_model
from esv_ray.errors import ModelError, SpecError, short_text
from esv_ray.models.class_tables import few
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.networks import timesformer, videomae
from esv_ray.models.networks.network import Network
from esv_ray.models.networks.preparation import Preparation
from esv_ray.models.weights import check_weights

_NO_TRANSFORMERS = "a network of transformers needs the package: pip install 'esv-ray[transformers]'"
_MOST_NAMED = 3
# Largest sizes of a configuration, far above those of published networks: they decide what memory is allocated.
_MOST = {
    "image_size": 4096,
    "patch_size": 4096,
    "num_frames": 1024,
    "tubelet_size": 64,
    "hidden_size": 2**14,
    "intermediate_size": 2**16,
    "num_hidden_layers": 256,
    "num_attention_heads": 256,
}
_MOST_PLACES = 2**24  # patches times hidden size: the library fills this table of VideoMAE in a loop
_KEYS = frozenset(
    (
        *_MOST,
        "attention_probs_dropout_prob",
        "attention_type",
        "drop_path_rate",
        "hidden_act",
        "hidden_dropout_prob",
        "layer_norm_eps",
        "model_type",
        "num_channels",
        "num_labels",
        "qkv_bias",
        "qv_bias",
        "use_mean_pooling",
    )
)
"""Keys of a configuration that are used. Others may name code or kernels that the library would fetch."""
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that the library raises if a configuration and weights cannot be used."""


class _Family(NamedTuple):
    """A family of networks.

    Attributes:
        config, network: names of its classes in `transformers`.
        wrapper: makes a game of it.
        element_shape: of its elements, from its configuration.
    """

    config: str
    network: str
    wrapper: type[Network]
    element_shape: Any


FAMILIES = {
    "timesformer": _Family(
        "TimesformerConfig",
        "TimesformerForVideoClassification",
        timesformer.TimeSformer,
        timesformer.element_shape,
    ),
    "videomae": _Family("VideoMAEConfig", "VideoMAEForVideoClassification", videomae.VideoMae, videomae.element_shape),
}
"""Families by the `model_type` of a configuration."""


def check_installed() -> None:
    """Check that `transformers` is installed, without importing it, which takes seconds.

    Raises:
        SpecError: it is not.
    """
    if find_spec("transformers") is None:
        raise SpecError(_NO_TRANSFORMERS)


def used_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a configuration that make a network; the others are left out."""
    return {key: value for key, value in config.items() if key in _KEYS}


def network_of(config: Mapping[str, Any], state: Mapping[str, Tensor], preparation: Preparation) -> Network:
    """Build a network, on the CPU in float32, in eval mode.

    Args:
        config: its configuration, as config.json has it.
        state: all its weights, by the names in its files, which may be those of older versions of the library.
        preparation: how it prepares its images.

    Raises:
        SpecError: `transformers` is not installed.
        ModelError: the configuration is of another network or cannot be used, or the weights do not belong to it.
    """
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise ModelError(
            f"config: model_type: expected {' or '.join(FAMILIES)}, got {config.get('model_type')!r:.60}; import "
            "others with --from module"
        )
    check_installed()
    check_weights(state)
    import transformers

    try:
        made: Any = getattr(transformers, family.config)(**used_keys(config))
    except Exception as error:  # the library checks types in many ways
        raise ModelError(f"config: expected that of a {family.network}, got {short_text(error, 200)}") from None
    _check_sizes(made, sum(tensor.numel() for tensor in state.values()))
    shape = family.element_shape(made)
    if shape[-3:-1] != preparation.size:
        raise ModelError(
            f"extraction: size: expected {list(shape[-3:-1])}, as the network has it, got {preparation.size}"
        )
    return family.wrapper(_loaded(family.network, made, state), shape, preparation).eval().requires_grad_(False)


def model_of_network(manifest: BundleManifest, state: Mapping[str, Tensor], prior: Tensor) -> VideoModel:
    """Return the model of a bundle of kind `transformers`; errors as `network_of`.

    Args:
        manifest: of the bundle.
        state: its weights.
        prior: (C,), the class prior.
    """
    assert manifest.config is not None, "the manifest has been checked"
    try:
        preparation = Preparation.model_validate(manifest.extraction or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("extraction", *first["loc"])))
        raise ModelError(f"{key}: {first['msg']}, got {first['input']!r:.80}") from None
    network = network_of(manifest.config, state, preparation)
    if list(network.shape) != manifest.element_shape:
        raise ModelError(
            f"element_shape: expected {list(network.shape)}, as the configuration says, got {manifest.element_shape}"
        )
    classes = network.module.get_submodule("classifier").get_parameter("weight").shape[0]
    if classes != manifest.n_classes:
        raise ModelError(f"n_classes: expected {classes}, as the configuration says, got {manifest.n_classes}")
    return placed_model(network, prior, feature_dim=prod(network.shape), longest=network.longest)


def _check_sizes(config: Any, given: int) -> None:
    """Refuse sizes that no network has, or not one with so many weights, before memory is allocated for them."""
    for name, most in _MOST.items():
        value = getattr(config, name, 1)
        if not all(type(side) is int and 1 <= side <= most for side in (value if isinstance(value, list) else [value])):
            raise ModelError(f"config: {name}: expected a whole number from 1 to {most}, got {value!r:.60}")
    sides = [size if isinstance(size, list) else [size] * 2 for size in (config.image_size, config.patch_size)]
    patches = prod(side // patch for side, patch in zip(*sides, strict=True)) * config.num_frames
    if not 1 <= patches * config.hidden_size <= _MOST_PLACES:
        raise ModelError(
            f"config: expected patches of all frames, {patches}, times hidden_size, {config.hidden_size}, from 1 to "
            f"{_MOST_PLACES}"
        )
    hidden, layers = config.hidden_size, config.num_hidden_layers
    least = layers * (4 * hidden**2 + 2 * hidden * config.intermediate_size)
    if given < least:
        raise ModelError(f"weights: expected at least {least:,} numbers, as the configuration says, got {given:,}")
    if config.num_channels != 3:
        raise ModelError(f"config: num_channels: expected 3, got {config.num_channels!r:.60}")


def _loaded(name: str, config: Any, state: Mapping[str, Tensor]) -> Any:
    """Return a network of the library with weights.

    Raises:
        ModelError: they are not those of it.
    """
    import transformers

    with _quiet():
        try:
            network, found = getattr(transformers, name).from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except _FAULTS as error:
            shapes = _other_shapes(name, config, state)
            raise ModelError(f"weights: cannot be loaded into a {name}: {shapes or short_text(error, 200)}") from None
    faults = {"missing": found["missing_keys"], "not in the network": found["unexpected_keys"]}
    listed = [f"{kind}: {few(sorted(map(str, keys)), _MOST_NAMED)}" for kind, keys in faults.items() if keys]
    if listed:
        raise ModelError(f"weights: expected those of a {name}, {'; '.join(listed)}; it needs a fine-tuned classifier")
    return network


def _other_shapes(name: str, config: Any, state: Mapping[str, Tensor]) -> str:
    """Return the tensors that have other shapes than in the network, in words; nothing if there are none."""
    import transformers

    try:
        with torch.device("meta"):
            own = getattr(transformers, name)(config).state_dict()
    except _FAULTS:
        return ""
    differ = [
        f"{re.sub('[^ -~]', '?', key)[:100]} {tuple(tensor.shape)}, in the network {tuple(own[key].shape)}"
        for key, tensor in state.items()
        if key in own and own[key].shape != tensor.shape
    ]
    return few(differ, _MOST_NAMED)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from writing progress bars and reports to standard error."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
