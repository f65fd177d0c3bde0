"""The interface of a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esv_ray.extraction.backbones.preprocessing import Preprocessing

Images = npt.NDArray[np.uint8]
"""(N, H, W, 3) RGB; of clips (N, k, H, W, 3)."""


@dataclass(frozen=True)
class BackboneInfo:
    """What a feature table records of its backbone.

    Attributes:
        name: as the user writes it.
        digest: hash of its weights; of a built-in one its version.
        preprocessing: of its images.
        dim: D, the size of a feature.
    """

    name: str
    digest: str
    preprocessing: Preprocessing
    dim: int

    def asdict(self) -> dict[str, Any]:
        """Return what the metadata of the table holds, as JSON holds it."""
        return {"backbone": self.name, "digest": self.digest, "dim": self.dim, **self.preprocessing.asdict()}


class Backbone(Protocol):
    """A loaded backbone."""

    @property
    def info(self) -> BackboneInfo:
        """What is recorded of it."""

    def encode(self, images: Images, before: Images | None) -> npt.NDArray[np.float32]:
        """Return the features of some images or clips of one video.

        Args:
            images: (N, H, W, 3), consecutive; of clips (N, k, H, W, 3).
            before: (1, H, W, 3) or (1, k, H, W, 3), what comes before the first of them; None: it is the video's first.

        Returns:
            (N, D).
        """
