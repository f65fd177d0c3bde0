"""Sequences that are given to `explain`: arrays, tensors, lists of numbers, batches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.games.model import VideoModel
from esv_ray.core.memory import format_bytes
from esv_ray.errors import DataError, SpecError, short_text

_IMAGE = 3  # axes

Array = Tensor | npt.NDArray[Any]
Features = Array | Sequence[Array] | Sequence[Sequence[float]]


def split_sequences(features: object, axes: int = 1) -> tuple[list[Array], bool]:
    """Return sequences (n, D), not checked yet, and whether there is a single one.

    Args:
        features: one sequence (n, D), a batch (B, n, D), or a list of sequences of any lengths.
        axes: of an element: 1 of a vector (D,), 3 of an image (H, W, 3), 4 of a clip (k, H, W, 3).

    Raises:
        DataError: it is neither.
    """
    if isinstance(features, Tensor | np.ndarray):
        return (list(features), False) if features.ndim == axes + 2 else ([features], True)
    if isinstance(features, list | tuple):
        if not features:
            return [], False
        if all(_is_frame(item, axes) for item in features):
            return [_array(features)], True
        return [item if isinstance(item, Tensor) else _array(item) for item in features], False
    if hasattr(features, "__array__"):  # a data frame, an array of another library
        return split_sequences(_array(features), axes)
    raise DataError(
        f"features: expected an array or tensor (n, D) or (B, n, D), or a list of them, got {type(features).__name__}"
    )


def axes_of(model: object, features: object) -> int:
    """Return the axes of an element: those of a loaded model, or, for a torch module, 3 of uint8 images, else 1."""
    if isinstance(model, VideoModel):
        return 1 if model.shape is None else len(model.shape)
    first = features[0] if isinstance(features, list | tuple) and features else features
    images = isinstance(first, Tensor | np.ndarray) and first.dtype in (np.uint8, torch.uint8) and first.ndim > _IMAGE
    return _IMAGE if images else 1


def _is_frame(item: object, axes: int) -> bool:
    """Return whether an item is one element: a vector (D,), or an image."""
    if isinstance(item, Tensor | np.ndarray):
        return item.ndim == axes
    return (
        axes == 1
        and isinstance(item, list | tuple)
        and all(isinstance(value, int | float | np.number) for value in item)
    )


def _array(value: object) -> npt.NDArray[Any]:
    """Return numbers as an array.

    Raises:
        DataError: they are ragged, or no numbers.
    """
    try:
        if isinstance(value, list | tuple) and all(isinstance(item, Tensor) for item in value):
            return torch.stack([item.detach().cpu() for item in value]).numpy()
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"features: expected numbers of shape (n, D), got {short_text(error, 120)}") from None


def check_sequence(index: int, sequence: Array, model: VideoModel, budget: int) -> Tensor:
    """Return a sequence (n, D) on the model's device in its dtype; of images in bytes.

    Raises:
        DataError: it is not finite, real and (n, D) with n >= 1.
        SpecError: it is larger than the memory budget.
    """
    if isinstance(sequence, Tensor):
        if sequence.layout is not torch.strided or sequence.is_meta or sequence.is_quantized:
            raise DataError(
                f"sequence {index}: features must be a dense tensor with values, got layout {sequence.layout}, device "
                f"{sequence.device.type}, {sequence.dtype}; call to_dense() or dequantize(), if that is the reason"
            )
        real, kind = not sequence.is_complex(), str(sequence.dtype)
    else:
        sequence = np.asarray(sequence)
        real, kind = sequence.dtype.kind in "fiub", str(sequence.dtype)
    if not real:
        raise DataError(f"sequence {index}: features must be real numbers, got {kind}")
    shape = tuple(sequence.shape)
    if model.shape is not None:
        _check_images(index, shape, kind, model.shape)
    elif len(shape) != 2 or shape[0] < 1 or shape[1] != model.feature_dim:
        raise DataError(f"sequence {index}: features must be (n, {model.feature_dim}) with n >= 1, got {shape}")
    size = shape[0] * model.feature_dim * model.element_dtype.itemsize
    if size > budget:  # a broadcast array has any shape in no memory: check before copying it
        raise SpecError(
            f"sequence {index}: features {shape} take {format_bytes(size)} of memory, but only "
            f"{format_bytes(budget)} is available; sample frames"
        )
    if not isinstance(sequence, Tensor):
        # A copy in this machine's byte order: torch supports neither negative strides nor foreign byte orders.
        sequence = torch.from_numpy(np.array(sequence, dtype=sequence.dtype.newbyteorder("="), order="C"))
    tensor = sequence.to(model.device, model.element_dtype).reshape(len(sequence), -1)
    if not tensor.isfinite().all():
        raise DataError(f"sequence {index}: features must be finite, got NaN or infinity")
    return tensor


def _check_images(index: int, got: tuple[int, ...], kind: str, shape: tuple[int, ...]) -> None:
    """Raise DataError unless a sequence is at least one uint8 image (n, *shape), or (n, D) as tables hold them."""
    if got[1:] not in (shape, (prod(shape),)) or not got[0] or not kind.endswith("uint8"):
        raise DataError(
            f"sequence {index}: the model takes uint8 images (n, {', '.join(map(str, shape))}) with n >= 1, got {kind} "
            f"{got}; decode them with esv extract --backbone pixels, not normalized"
        )
