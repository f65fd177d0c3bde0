"""Zero-shot classifiers: a matrix of text embeddings, as CLIP (Radford et al. 2021) compares them with images."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

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
_LEAST_SCALE, _MOST_SCALE = 1e-6, 1e6
_MOST_DEPTH = 8  # of mappings in mappings
_MOST_MAPPINGS = 1000
_UNIT = 1e-2  # of the length of a vector that counts as normalized: float16 embeddings


def read_clip(file: str, *, scale: float | None) -> Imported:
    """Read a zero-shot classifier.

    Args:
        file: a .npy, .npz, .safetensors or torch file with one matrix (C, D), at any depth: the text embedding of each
            class. If it also holds a number `logit_scale`, as CLIP's state dict does, its exponential is the scale.
        scale: factor of the logits; None: that of the file, or 100.

    Raises:
        ModelError: the file holds something else.
    """
    data = storage.read_bytes(file, "read the text embeddings", most=_MOST_BYTES)
    with in_file(file):
        text, own_scale, unused = _text(data)
        lengths = text.norm(dim=1)
        if not text.isfinite().all() or not bool(((lengths > 0) & lengths.isfinite()).all()):
            raise ModelError("expected finite text embeddings other than zero")
    rows = [("not used", few(unused))] if unused else []
    if bool(((lengths - 1).abs() > _UNIT).any()):
        span = f"{float(lengths.min()):.3g} to {float(lengths.max()):.3g}"
        rows.append(("note", f"the text embeddings are normalized; their lengths were {span}"))
    if scale is not None and not _LEAST_SCALE <= scale <= _MOST_SCALE:
        raise ModelError(f"--scale: expected a factor from {_LEAST_SCALE:g} to {_MOST_SCALE:g}, got {scale:g}")
    factor = scale or own_scale or _DEFAULT_SCALE
    source = "given" if scale else "of the file" if own_scale else "CLIP's; --scale sets another"
    rows.append(("scale", f"{factor:.6g} ({source})"))
    return imported_pooled(
        PoolingManifest(form="cosine"),
        {"text": F.normalize(text, dim=1), "scale": torch.tensor(factor)},
        feature_dim=text.shape[1],
        found="zero-shot classifier",
        f=f"{factor:.6g} x cosine of the mean of the normalized elements and each class's text embedding",
        rows=tuple(rows),
    )


class _Text(NamedTuple):
    """What a file holds.

    Attributes:
        matrix: (C, D) float32, the text embeddings.
        scale: factor of the logits, or None.
        unused: the other tensors, with their shapes; no plain numbers, as training leaves them.
    """

    matrix: Tensor
    scale: float | None
    unused: list[str]


def _text(data: bytes) -> _Text:
    """Return the text embeddings of a file, its scale, and what else is in it."""
    content = _content(data)
    named = _flat(content) if isinstance(content, Mapping) else {"the matrix": content}
    tensors = {name: tensor for name, value in named.items() if (tensor := _dense(value)) is not None}
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.is_floating_point()}
    if len(matrices) != 1:
        shapes = [_shown(name, tensor) for name, tensor in tensors.items()]
        raise ModelError(f"expected one matrix (C, D) of text embeddings, got {few(shapes) or type(content).__name__}")
    ((chosen, text),) = matrices.items()
    scales = {name: t for name, t in tensors.items() if name.rpartition(".")[2] == _SCALE and t.numel() == 1}
    if len({float(each) for each in scales.values()}) > 1:
        raise ModelError(f"expected one {_SCALE}, got {few([f'{name:.80}' for name in scales])}")
    unused = [_shown(name, tensor) for name, tensor in tensors.items() if tensor.ndim and name not in (chosen, *scales)]
    if not scales:
        return _Text(text.float(), None, unused)
    log_scale = next(iter(scales.values()))
    scale = float(log_scale.double().exp())
    if not 0 < scale <= _MOST_SCALE:
        raise ModelError(
            f"{_SCALE}: expected the logarithm of the scale, up to log {_MOST_SCALE:g}, got {log_scale.item():.6g}"
        )
    return _Text(text.float(), scale, unused)


def _content(data: bytes) -> object:
    """Return what a file holds: a tensor or an array, or a mapping with them."""
    if data.startswith(b"\x93NUMPY"):
        array = _arrays(data, "a .npy file")
        if _dense(array) is None:
            raise ModelError(f"expected a .npy file of numbers, got {getattr(array, 'dtype', 'objects')}")
        return array
    if data.startswith(b"PK") and b".npy" in data and _is_npz(data):
        return _arrays(data, "a .npz file")
    if is_safetensors(data):
        return tensors_of(data)
    try:
        return unpickle(data)
    except ValueError as error:
        raise ModelError(f"expected a .npy, .npz, .safetensors or torch file: {short_text(error, 100)}") from None


def _is_npz(data: bytes) -> bool:
    """Return whether a zip archive holds arrays only; torch's has a pickle.

    Raises:
        ModelError: its arrays are too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    if not infos or not all(info.filename.endswith(".npy") for info in infos):
        return False
    if sum(info.file_size for info in infos) > _MOST_BYTES:
        raise ModelError(f"expected at most {_MOST_BYTES} bytes of text embeddings, got an archive of more")
    return True


def _arrays(data: bytes, kind: str) -> object:
    """Return the array of a .npy file, or those of a .npz file by name; arrays of objects are refused."""
    try:
        content = np.load(io.BytesIO(data), allow_pickle=False)
        return dict(content) if isinstance(content, Mapping) else content
    except (ValueError, TypeError, EOFError, OSError, OverflowError, MemoryError, SyntaxError) as error:
        raise ModelError(f"expected {kind} of numbers: {short_text(error, 100)}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"expected {kind}, got one that is damaged: {short_text(error, 100)}") from None


def _flat(content: Mapping[object, object]) -> dict[str, object]:
    """Return the values in nested mappings, such as a checkpoint's state dict, by names joined with dots."""
    flat: dict[str, object] = {}
    waiting: list[tuple[str, Mapping[object, object], int]] = [("", content, 0)]
    for path, entry, depth in waiting:  # grows; a mapping that holds itself ends at the depth
        for key, value in entry.items():
            name = f"{path}{key!s:.200}"
            if not isinstance(value, Mapping):
                flat[name] = value
            elif depth < _MOST_DEPTH and len(waiting) < _MOST_MAPPINGS:
                waiting.append((f"{name}.", value, depth + 1))
    return flat


def _shown(name: str, tensor: Tensor) -> str:
    """Describe a tensor; the name may be anything."""
    return f"{name if name.isprintable() else repr(name):.60} {tuple(tensor.shape)}"


def _dense(value: object) -> Tensor | None:
    """Return a number, an array or a tensor of numbers as a dense tensor; None for anything else."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return None if isinstance(value, np.complexfloating) else torch.tensor(_number(value), dtype=torch.float64)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu":
            return None
        # A copy in this machine's byte order: torch knows neither the other one nor wider floats.
        wide = value.dtype.kind == "f" and value.dtype.itemsize > 8
        return torch.from_numpy(np.array(value, dtype=np.float64 if wide else value.dtype.newbyteorder("=")))
    dense = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return value.detach() if dense and not value.is_quantized and not value.is_nested else None  # type: ignore[attr-defined]


def _number(value: float | np.number[Any]) -> float:
    """Return a number as a float; infinity for a whole number beyond floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
