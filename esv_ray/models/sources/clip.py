"""Zero-shot classifiers: a matrix of text embeddings, as CLIP (Radford et al. 2021) compares them with images."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray import storage
from esv_ray.errors import ModelError, short_text
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.sources.checkpoint_kinds import is_safetensors
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.pooled import imported_pooled
from esv_ray.models.weights import tensors_of
from esv_ray.unpickling import unpickle

_DEFAULT_SCALE = 100.0  # of the released models: exp(logit_scale), which training limits to 100
_SCALE = "logit_scale"  # its logarithm, in a state dict
_MOST_BYTES = 2**31
_UNIT = 1e-2  # of the length of a vector that counts as normalised: float16 embeddings


def read_clip(file: str, *, scale: float | None) -> Imported:
    """Read a zero-shot classifier.

    Args:
        file: a .npy, .safetensors or torch file with one matrix (C, D): the text embedding of each class. If it also
            holds a number `logit_scale`, as CLIP's state dict does, its exponential is the scale.
        scale: factor of the logits; None: that of the file, or 100.

    Raises:
        ModelError: the file holds something else.
    """
    data = storage.read_bytes(file, "read the text embeddings", most=_MOST_BYTES)
    with in_file(file):
        text, own_scale = _matrix(data)
        lengths = text.norm(dim=1)
        if not text.isfinite().all() or not bool((lengths > 0).all()):
            raise ModelError("expected finite text embeddings other than zero")
    rows = []
    if bool(((lengths - 1).abs() > _UNIT).any()):
        span = f"{float(lengths.min()):.3g} to {float(lengths.max()):.3g}"
        rows.append(("note", f"the text embeddings are normalised; their lengths were {span}"))
    factor = scale or own_scale or _DEFAULT_SCALE
    source = "given" if scale else "of the file" if own_scale else "CLIP's; --scale sets another"
    rows.append(("scale", f"{factor:.6g} ({source})"))
    return imported_pooled(
        PoolingManifest(form="cosine"),
        {"text": F.normalize(text, dim=1), "scale": torch.tensor(factor)},
        feature_dim=text.shape[1],
        found="zero-shot classifier",
        f=f"{factor:.6g} x cosine of the mean of the normalised elements and each class's text embedding",
        rows=tuple(rows),
    )


def _matrix(data: bytes) -> tuple[Tensor, float | None]:
    """Return the text embeddings (C, D) of a file, and its scale or None."""
    content: object
    if data.startswith(b"\x93NUMPY"):
        try:
            content = torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))
        except (ValueError, TypeError, EOFError) as error:
            raise ModelError(f"expected a .npy file of numbers: {short_text(error, 100)}") from None
    elif is_safetensors(data):
        content = tensors_of(data)
    else:
        try:
            content = unpickle(data)
        except ValueError as error:
            raise ModelError(f"expected a .npy, .safetensors or torch file: {short_text(error, 100)}") from None
    named = {"the matrix": content} if not isinstance(content, Mapping) else {str(k): v for k, v in content.items()}
    tensors = {name: torch.as_tensor(value) for name, value in named.items() if isinstance(value, Tensor | np.ndarray)}
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.is_floating_point()}
    if len(matrices) != 1:
        shapes = [f"{name:.40} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
        raise ModelError(f"expected one matrix (C, D) of text embeddings, got {few(shapes) or type(content).__name__}")
    (text,) = matrices.values()
    log_scale = tensors.get(_SCALE, torch.zeros(2)).flatten()
    return text.float(), float(log_scale.exp()) if log_scale.numel() == 1 else None
