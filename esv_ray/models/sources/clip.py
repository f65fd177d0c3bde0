"""Zero-shot classifiers: a matrix of text embeddings, as CLIP (Radford et al. 2021) compares them with images."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray import storage
from esv_ray.errors import ModelError, short_text
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.sources.checkpoint_content import MOST_DEPTH, as_tensors
from esv_ray.models.sources.checkpoint_kinds import is_safetensors
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.notes import counted
from esv_ray.models.sources.pooled import imported_pooled
from esv_ray.models.weights import tensors_of
from esv_ray.unpickling import unpickle

_DEFAULT_SCALE = 100.0  # of the released models: exp(logit_scale), which training limits to 100
_SCALE = "logit_scale"  # its logarithm, in a state dict
_MOST_BYTES = 2**31
_LEAST_SCALE, _MOST_SCALE = 1e-6, 1e6
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error)
_UNIT = 1e-2  # of the length of a vector that counts as normalised: float16 embeddings


def read_clip(file: str, *, scale: float | None) -> Imported:
    """Read a zero-shot classifier.

    Args:
        file: a .npy, .npz, .safetensors or torch file with one matrix (C, D): the text embedding of each class. If it
            also holds a number `logit_scale`, as CLIP's state dict does, its exponential is the scale.
        scale: factor of the logits; None: that of the file, or 100.

    Raises:
        ModelError: the file holds something else.
    """
    data = storage.read_bytes(file, "read the text embeddings", most=_MOST_BYTES)
    with in_file(file):
        text, own_scale, others = _matrix(data)
        lengths = text.norm(dim=1)
        if not text.isfinite().all() or not bool(((lengths > 0) & lengths.isfinite()).all()):
            raise ModelError("expected finite text embeddings other than zero")
    rows = []
    if bool(((lengths - 1).abs() > _UNIT).any()):
        span = f"{float(lengths.min()):.3g} to {float(lengths.max()):.3g}"
        rows.append(("note", f"the text embeddings are normalised; their lengths were {span}"))
    if scale is not None and not _LEAST_SCALE <= scale <= _MOST_SCALE:
        raise ModelError(f"--scale: expected a factor from {_LEAST_SCALE:g} to {_MOST_SCALE:g}, got {scale:g}")
    factor = scale or own_scale or _DEFAULT_SCALE
    source = "given" if scale else "of the file" if own_scale else "CLIP's; --scale sets another"
    if others:
        rows.append(("not used", few([counted(name, 1) for name in others])))
    rows.append(("scale", f"{factor:.6g} ({source})"))
    return imported_pooled(
        PoolingManifest(form="cosine"),
        {"text": F.normalize(text, dim=1), "scale": torch.tensor(factor)},
        feature_dim=text.shape[1],
        found="zero-shot classifier",
        f=f"{factor:.6g} x cosine of the mean of the normalised elements and each class's text embedding",
        rows=tuple(rows),
    )


def _matrix(data: bytes) -> tuple[Tensor, float | None, list[str]]:
    """Return the text embeddings (C, D) of a file, its scale or None, and the names of its other tensors."""
    content = _content(data)
    named = dict(_named(content)) if isinstance(content, Mapping) else {"the matrix": content}
    tensors = {name: tensor for name, value in named.items() if (tensor := _dense(value)) is not None}
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.is_floating_point()}
    if len(matrices) != 1:
        shapes = [f"{name:.40} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
        raise ModelError(f"expected one matrix (C, D) of text embeddings, got {few(shapes) or type(content).__name__}")
    (text,) = matrices.values()
    scales = [name for name in tensors if name.rpartition(".")[2] == _SCALE]
    others = [name for name in tensors if name not in matrices and name not in scales[:1]]
    scale = _scale(tensors[scales[0]]) if scales else None
    return text.float(), scale, others


def _content(data: bytes) -> object:
    """Return what a file holds: an array, a tensor, or a mapping of them."""
    if data.startswith(b"\x93NUMPY") or _is_npz(data):
        try:
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except (ValueError, TypeError, EOFError, KeyError, OSError, NotImplementedError, *_ARCHIVE_ERRORS) as error:
            raise ModelError(f"expected a .npy or .npz file of numbers: {short_text(error, 100)}") from None
    if is_safetensors(data):
        return tensors_of(data)
    try:
        return as_tensors(unpickle(data))[0]
    except ValueError as error:
        raise ModelError(f"expected a .npy, .npz, .safetensors or torch file: {short_text(error, 100)}") from None


def _is_npz(data: bytes) -> bool:
    """Return whether data are an archive of NumPy arrays, as np.savez writes it.

    Raises:
        ModelError: it unpacks to more than 2 GiB.
    """
    if not data.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (*_ARCHIVE_ERRORS, ValueError, NotImplementedError):
        return False
    if not members or not all(member.filename.endswith(".npy") for member in members):
        return False
    size = sum(member.file_size for member in members)
    if size > _MOST_BYTES:
        raise ModelError(f"expected at most {_MOST_BYTES} bytes, got an archive that unpacks to {size}")
    return True


def _named(content: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield the values of nested mappings by their names, joined by dots."""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            yield f"{prefix}{key}", value
        elif depth < MOST_DEPTH:
            yield from _named(value, f"{prefix}{key}.", depth + 1)


def _scale(log_scale: Tensor) -> float | None:
    """Return the scale from its logarithm."""
    if log_scale.numel() != 1:
        return None
    scale = float(log_scale.double().exp())
    if not 0 < scale <= _MOST_SCALE:
        raise ModelError(
            f"{_SCALE}: expected the logarithm of the scale, up to log {_MOST_SCALE:g}, got {log_scale.item():.6g}"
        )
    return scale


def _dense(value: object) -> Tensor | None:
    """Return a number, an array of any byte order or a tensor of numbers as a dense tensor; None for others."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(float(value))
    if isinstance(value, np.ndarray):
        numbers = value.dtype.kind in "fiu"
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="))) if numbers else None
    dense = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return value.detach() if dense and not value.is_quantized and not value.is_nested else None  # type: ignore[attr-defined]
