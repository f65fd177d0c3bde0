"""Backbones of timm, open_clip and torchvision, by the names that these libraries give their models.

The libraries build the models and say how images are prepared. Weights come from a file of the user; nothing is
downloaded. A model's features are what enters its classifier; of open_clip, the embedding of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esv_ray.errors import EsvError, ModelError, SpecError, one_line, short_text
from esv_ray.extraction.backbones.preprocessing import Preprocessing, preprocessing_of
from esv_ray.models.class_tables import few
from esv_ray.models.module_weights import load_weights
from esv_ray.models.sources.checkpoint_names import unwrapped
from esv_ray.models.sources.checkpoints import read_checkpoint

_NAMED = 3
_COUNTER = ".num_batches_tracked"  # of batch norms; evaluation does not read it, and old files lack it


class _Ready(NamedTuple):
    """A model without its weights.

    Attributes:
        module: from images to features.
        preprocessing: of its images, as `preprocessing_of` reads it.
        names: of all tensors that a file with its weights may hold, with those of the classifier.
    """

    module: nn.Module
    preprocessing: dict[str, Any]
    names: Collection[str]


def open_ready(kind: str, model: str, weights: str | None) -> tuple[nn.Module, Preprocessing]:
    """Build a model of a library, and load its weights.

    Args:
        kind: a key of `LIBRARIES`.
        model: name of the model; of open_clip and torchvision, perhaps a colon and the name of published weights, which
            say how images are prepared.
        weights: location of a checkpoint or safetensors file.

    Returns:
        The module, from images (N, 3, H, W) to features (N, D), and the preparation of the images.

    Raises:
        SpecError: the library is not installed or has no such model, or there are no weights.
        ModelError: the model cannot be a backbone, or the file holds other tensors.
        DataError: the file cannot be read.
    """
    name, build = f"backbone {kind}:{model}", LIBRARIES[kind]
    library = _imported(kind)
    if weights is None:
        raise SpecError(f"{name}: expected a file with its weights (weights), got none; esv_ray downloads nothing")
    try:
        made = build(library, model)
    except EsvError:
        raise
    except Exception as error:  # whatever the library raises
        raise ModelError(f"{name}: cannot be built: {one_line(error)}") from error
    _load(name, made, weights)
    return made.module, preprocessing_of(made.preprocessing)


def _imported(kind: str) -> Any:
    """Import a library.

    Raises:
        SpecError: it is not installed, or fails.
    """
    extra = kind.replace("_", "-")
    try:
        return import_module(kind)
    except ImportError as error:
        raise SpecError(f"backbone {kind} needs {kind}: pip install 'esv-ray[{extra}]' ({one_line(error)})") from error
    except Exception as error:  # a torchvision that was built for another torch raises RuntimeError
        raise SpecError(
            f"backbone {kind}: {kind}, or torchvision, which it needs, cannot be imported beside torch "
            f"{torch.__version__}: {short_text(error, 120)}; install a torchvision that was built for this torch"
        ) from error


def _load(name: str, made: _Ready, url: str) -> None:
    """Load the weights of a model without its classifier.

    Raises:
        ModelError: the file lacks tensors, or holds those of another model.
        DataError: it cannot be read.
    """
    own = made.module.state_dict()
    by_name = {unwrapped(each): each for each in own}  # as a checkpoint names them
    read = read_checkpoint(url, by_name.__contains__, whole=True)
    known = {unwrapped(each) for each in made.names}
    others = [each for each in read.state if each not in known]
    if others:
        raise ModelError(
            f"{name}: expected {url} to hold the weights of this model, got also {few(others, _NAMED)}; check the name "
            "of the model, and the layout of the file: it must be the library's"
        )
    counters = {each: tensor for each, tensor in own.items() if each.endswith(_COUNTER)}
    found = {by_name[each]: read.tensor(each) for each in read.state if each in by_name}
    try:
        load_weights(made.module, {**counters, **found})
    except ModelError as error:
        raise ModelError(f"{name}: {url}: {error}") from None


def _timm(timm: Any, model: str) -> _Ready:
    """Build a model of timm without weights; it says itself how its images are prepared."""
    if ":" in model or "/" in model or not timm.is_model(model):  # hf-hub:NAME would be downloaded
        raise _unknown("timm", model, timm.list_models())
    module = timm.create_model(model, pretrained=False)
    names = set(module.state_dict())
    module.reset_classifier(0)
    config = timm.data.resolve_data_config({}, model=module)
    _, height, width = config["input_size"]
    mode = config["crop_mode"]
    preprocessing = _prepared(config, (height, width), squashed=mode == "squash")
    if mode not in ("center", "squash") or (mode == "center" and (height != width or config["crop_pct"] > 1)):
        raise ModelError(
            f"timm:{model}: expected images that are squashed, or cut to a square, got {mode} {height, width} of "
            f"{config['crop_pct']:.0%}"
        )
    if mode == "center":
        preprocessing["short_side"] = math.floor(height / config["crop_pct"])
    return _Ready(module, preprocessing, names)


class _Visual(nn.Module):
    """The image tower of a model of open_clip, under the names that its weights have there."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, D) embeddings of (N, 3, H, W) images, not normalized, as `encode_image` does."""
        found: Tensor | tuple[Tensor, ...] = self.visual(images)
        return found[0] if isinstance(found, tuple) else found  # CoCa: the embedding, and its tokens


def _open_clip(open_clip: Any, model: str) -> _Ready:
    """Build the image tower of a model of open_clip; the name of published weights says how images are prepared."""
    name, _, tag = model.partition(":")
    config = None if "/" in name else open_clip.get_model_config(name)
    if config is None:
        raise _unknown("open_clip", name, open_clip.list_models())
    if "hf_model_name" in config.get("text_cfg", {}):
        raise ModelError(f"open_clip:{name}: its text encoder would be downloaded to build it; use another model")
    published = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if tag and not published:
        raise _unknown(f"open_clip:{name}", tag, open_clip.list_pretrained_tags_by_model(name))
    quick = bool(published.get("quick_gelu", False))
    built = open_clip.create_model(name, pretrained=None, force_quick_gelu=quick, pretrained_text=False)
    prepared = {**built.visual.preprocess_cfg, **published}
    mode = prepared["resize_mode"]
    height, width = _pair(prepared["size"])
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise ModelError(
            f"open_clip:{name}: expected images that are squashed, or cut to a square, got {mode} {height, width}"
        )
    preprocessing = _prepared(prepared, (height, width), squashed=mode == "squash")
    return _Ready(_Visual(built.visual), preprocessing, set(built.state_dict()))


_REWRITTEN = ("googlenet", "inception_v3")
"""Models of torchvision that change their input themselves if they have weights."""


def _torchvision(torchvision: Any, model: str) -> _Ready:
    """Build a classifier of images of torchvision; the name of published weights says how images are prepared."""
    models, (name, _, tag) = torchvision.models, model.partition(":")
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    published = models.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise _unknown(f"torchvision:{name}", tag, list(published.__members__))
    prepared = (published[tag] if tag else published.DEFAULT).transforms()
    (side,), (short_side,) = set(_pair(prepared.crop_size)), set(_pair(prepared.resize_size))
    options: dict[str, Any] = {}
    if name in _REWRITTEN:
        options = {"transform_input": True, "aux_logits": True, "init_weights": False}
    elif name.startswith("vit_"):  # some of their weights are for larger images
        options = {"image_size": side}
    module = models.get_model(name, weights=None, **options)
    names = set(module.state_dict())
    if name in _REWRITTEN:
        module.aux_logits, module.aux1, module.aux2, module.AuxLogits = False, None, None, None
    _without_classifier(f"torchvision:{name}", module)
    values = {"mean": prepared.mean, "std": prepared.std, "interpolation": prepared.interpolation.value}
    return _Ready(module, {**_prepared(values, (side, side)), "short_side": max(side, short_side)}, names)


def _without_classifier(name: str, module: nn.Module) -> None:
    """Replace the last linear layer of a model, its classifier, by the identity.

    Raises:
        ModelError: it has none.
    """
    linear = [path for path, each in module.named_modules() if isinstance(each, nn.Linear)]
    if not linear:
        raise ModelError(f"{name}: expected a classifier that is a linear layer, found none; use another model")
    parent, _, last = linear[-1].rpartition(".")
    setattr(module.get_submodule(parent), last, nn.Identity())


LIBRARIES: Mapping[str, Callable[[Any, str], _Ready]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "torchvision": _torchvision,
}
"""What builds a model of a library, by the name of its package."""


def _prepared(config: Mapping[str, Any], size: tuple[int, int], *, squashed: bool = False) -> dict[str, Any]:
    """Return a preprocessing as factories return it: squashed, or cut from a short side of the same size."""
    values: dict[str, Any] = {"size": size, "mean": list(config["mean"]), "std": list(config["std"])}
    values["interpolation"] = config["interpolation"]
    return values if squashed else {**values, "short_side": size[0]}


def _pair(value: Any) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, list | tuple) else (value,)
    return (sides[0], sides[-1])


def _unknown(kind: str, name: str, known: Collection[str]) -> SpecError:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=_NAMED, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return SpecError(f"backbone {kind}: expected one of its {len(known)} names, got {name!r:.80}{hint}")
