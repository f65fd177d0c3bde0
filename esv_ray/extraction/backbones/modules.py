"""Backbones that are torch modules."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esv_ray.errors import ModelError
from esv_ray.extraction.backbones.backbone import BackboneInfo, Images
from esv_ray.extraction.backbones.preprocessing import Preprocessing
from esv_ray.models.user_code import user_code

_MOST_DIM = 2**24
_CACHED = 2**18  # numbers that a core keeps at hand while they are normalized


class ModuleBackbone:
    """A module from images (N, 3, H, W), or clips (N, 3, k, H, W), to features (N, D)."""

    def __init__(self, name: str, module: nn.Module, preprocessing: Preprocessing, *, clip: int, device: str) -> None:
        """Move the module to a device, and try it on black images.

        Args:
            name: of the backbone.
            module: in eval mode from now on.
            preprocessing: of its images.
            clip: frames of an element; 1: images.
            device: torch device.

        Raises:
            ModelError: it fails, or returns something else than (N, D) finite numbers.
        """
        self._device, self._name = torch.device(device), name
        with user_code(f"backbone {name}: cannot be moved to {device}"):
            self._module = module.eval().requires_grad_(False).to(self._device)
        self._is_bgr = preprocessing.color == "BGR"
        # Images come with their channels last. On CPUs convolutions are fastest on them as they are: 1.8 times.
        self._channels_last = self._device.type == "cpu"
        height, width = preprocessing.size
        self._mean, self._std = (  # of a row of pixels: operations on three numbers at a time take four times as long
            torch.tensor(values, device=self._device).repeat(width)
            for values in (preprocessing.mean, preprocessing.std)
        )
        black = np.zeros((2, *((clip,) if clip > 1 else ()), height, width, 3), np.uint8)
        try:
            dim = self._checked(black).shape[1]
        except ModelError:  # a module that takes views of its input; or it fails in any case
            if not self._channels_last:
                raise
            self._channels_last = False
            dim = self._checked(black).shape[1]
        self.info = BackboneInfo(name, digest_of(module), preprocessing, dim)

    def encode(self, images: Images) -> npt.NDArray[np.float32]:
        """Return (N, D) features; as `Backbone.encode`."""
        with user_code(f"backbone {self._name} failed"):
            return self._checked(images)

    def _checked(self, images: Images) -> npt.NDArray[np.float32]:
        with user_code(f"backbone {self._name} failed on images {images.shape}"), torch.inference_mode():
            returned = self._module(self._tensor(images))
        if not isinstance(returned, Tensor) or returned.ndim != 2 or len(returned) != len(images):
            shape = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
            raise ModelError(f"backbone {self._name}: expected features ({len(images)}, D), got {shape}")
        if not 1 <= returned.shape[1] <= _MOST_DIM:
            raise ModelError(f"backbone {self._name}: expected a feature size D above 0, got {returned.shape[1]}")
        return returned.float().cpu().numpy()

    def _tensor(self, images: Images) -> Tensor:
        """Return (N, 3, H, W) or (N, 3, k, H, W) float32 from (N, H, W, 3) or (N, k, H, W, 3)."""
        pixels = torch.from_numpy(images).to(self._device)
        pixels = pixels.flip(-1) if self._is_bgr else pixels
        rows = pixels.reshape(-1, len(self._mean))
        values = torch.empty(rows.shape, device=self._device)
        at_once = _CACHED // rows.shape[1] + 1 if self._device.type == "cpu" else len(rows)
        for begin in range(0, len(rows), at_once):
            part = values[begin : begin + at_once]
            torch.div(rows[begin : begin + at_once], 255, out=part).sub_(self._mean).div_(self._std)
        values = values.view(pixels.shape).movedim(-1, 1)
        return values if self._channels_last else values.contiguous()


def digest_of(module: nn.Module) -> str:
    """Return a hash of the weights and buffers of a module, and of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
