"""The interface of a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esv_ray.extraction.backbones.preprocessing import Preprocessing

Images = npt.NDArray[np.uint8]
"""(N, H, W, 3) RGB; of clips (N, k, H, W, 3)."""
Features = npt.NDArray[np.float32] | Images
"""(N, D)."""


@dataclass(frozen=True)
class BackboneInfo:
    """What a feature table records of its backbone.

    Attributes:
        name: as the user writes it.
        digest: hash of its weights; of a built-in one its version.
        preprocessing: of its images.
        dim: D, the size of a feature.
        shape: of elements that are images (H, W, 3), or clips (k, H, W, 3), of D bytes; None: feature vectors.
    """

    name: str
    digest: str
    preprocessing: Preprocessing
    dim: int
    shape: tuple[int, ...] | None = None

    def asdict(self) -> dict[str, Any]:
        """Return what the metadata of the table holds, as JSON holds it. Images are not normalized yet."""
        prepared = self.preprocessing.asdict()
        if self.shape is not None:
            prepared = {key: value for key, value in prepared.items() if key not in ("mean", "std")}
        return {"backbone": self.name, "digest": self.digest, "dim": self.dim, **prepared}

    def dtype(self, asked: str) -> str:
        """Return the type of the features: the one that is asked for, or bytes of images."""
        return asked if self.shape is None else "uint8"


class Backbone(Protocol):
    """A loaded backbone."""

    @property
    def info(self) -> BackboneInfo:
        """What is recorded of it."""

    def encode(self, images: Images) -> Features:
        """Return the features of some images or clips of one video.

        Args:
            images: (N, H, W, 3), consecutive; of clips (N, k, H, W, 3).

        Returns:
            (N, D) float32; uint8 of a backbone that keeps images.
        """
