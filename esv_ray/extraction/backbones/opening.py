"""Backbones by their names: `pooled`, `pixels`, `package.module:function`, `onnx:FILE`, `timm:MODEL`, ..."""

from __future__ import annotations

from torch import nn

from esv_ray import storage
from esv_ray.errors import ModelError, SpecError
from esv_ray.extraction.backbones import pixels, pooled
from esv_ray.extraction.backbones.backbone import Backbone
from esv_ray.extraction.backbones.modules import ModuleBackbone
from esv_ray.extraction.backbones.onnx_files import OnnxBackbone
from esv_ray.extraction.backbones.preprocessing import IMAGENET, Preprocessing, preprocessing_of
from esv_ray.extraction.backbones.ready import LIBRARIES, open_ready
from esv_ray.models.factory import find_factory, working_folder_importable
from esv_ray.models.module_weights import load_weights
from esv_ray.models.sources.checkpoints import read_checkpoint
from esv_ray.models.user_code import user_code
from esv_ray.spec_extract import ExtractSpec

_ONNX = "onnx"
_SHORT_SIDE = "short_side"
KINDS = (pooled.NAME, pixels.NAME, "package.module:function", f"{_ONNX}:FILE", *(f"{each}:MODEL" for each in LIBRARIES))
"""What a backbone may be."""


def open_backbone(spec: ExtractSpec, device: str = "cpu") -> Backbone:
    """Load the backbone of an extraction.

    Args:
        spec: an extraction of one backbone.
        device: torch device.

    Raises:
        SpecError: there is no such backbone, its package is not installed, or an option does not go with it.
        ModelError: consent is missing, or it cannot be loaded or used.
        DataError: its file cannot be read.
    """
    kind, colon, name = spec.backbone_name.partition(":")
    size = None if spec.size is None else (spec.size[0], spec.size[1])
    if spec.backbone == pooled.NAME:
        return _pooled(spec, size)
    if spec.backbone == pixels.NAME:
        return _pixels(spec, size)
    if not colon or not name:
        raise SpecError(f"backbone: expected one of {', '.join(KINDS)}, got {spec.backbone_name!r:.100}")
    if kind == _ONNX:
        _check_unused(spec, "weights", "arguments")
        found = IMAGENET.resized(size)
        return OnnxBackbone(
            spec.backbone_name, storage.absolute(name), found, clip=spec.clip, threads=spec.compute.threads
        )
    if kind in LIBRARIES:
        _check_unused(spec, "arguments")
        if spec.clip > 1:
            raise SpecError(f"clip: the backbone {spec.backbone_name} takes single frames, expected 1, got {spec.clip}")
        module, found = open_ready(kind, name, spec.weights)
    else:
        module, found = _made(spec)
    return ModuleBackbone(spec.backbone_name, module, found.resized(size), clip=spec.clip, device=device)


def _pooled(spec: ExtractSpec, size: tuple[int, int] | None) -> Backbone:
    _check_unused(spec, "weights", "arguments")
    if spec.clip > 1:
        raise SpecError(f"clip: the backbone pooled takes single frames, expected 1, got {spec.clip}")
    try:
        return pooled.PooledPixels(size)
    except ValueError as error:
        raise SpecError(f"size: {error}") from None


def _pixels(spec: ExtractSpec, size: tuple[int, int] | None) -> Backbone:
    _check_unused(spec, "weights")
    if spec.dtype != "float32":
        raise SpecError(f"dtype: the backbone pixels writes uint8, got {spec.dtype}; leave it out")
    unknown = [name for name in spec.arguments if name != _SHORT_SIDE]
    if unknown:
        raise SpecError(f"arguments: the backbone pixels takes {_SHORT_SIDE}, got {unknown[0]!r:.60}")
    try:
        return pixels.Pixels(size, short_side=spec.arguments.get(_SHORT_SIDE), clip=spec.clip)
    except ValueError as error:
        raise SpecError(f"arguments.{_SHORT_SIDE}: {error}") from None


def _check_unused(spec: ExtractSpec, *keys: str) -> None:
    for key in keys:
        if getattr(spec, key):
            raise SpecError(f"{key}: the backbone {spec.backbone} takes none; leave it out")


def _made(spec: ExtractSpec) -> tuple[nn.Module, Preprocessing]:
    """Call the user's factory, to whose code the user has consented."""
    factory = find_factory(spec.backbone_name, spec.arguments, spec.code)
    with working_folder_importable():
        with user_code(f"backbone: {factory.name} failed; check its arguments and what it reads"):
            returned = factory.function(**spec.arguments)
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[0], nn.Module):
            raise ModelError(
                f"backbone: expected (module, preprocessing) from {factory.name}, got {type(returned).__name__}"
            )
        module, found = returned[0], preprocessing_of(returned[1])
        if spec.weights is not None:
            names = set(module.state_dict())
            read = read_checkpoint(spec.weights, names.__contains__)
            load_weights(module, {name: read.tensor(name) for name in read.state})
    return module, found
