"""TimeSformer (Bertasius et al. 2021): an element is a frame."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.networks.network import Network

_ATTENTION = ("divided_space_time", "joint_space_time")


class TimeSformer(Network):
    """The network on the s frames of a subsequence alone, with time embeddings for s frames.

    The library's layers take the number of frames from the configuration, not from their input: unless it is set for
    each call, some lengths fail, and others mix up patches and frames without an error. If s is not the length of
    training, the network interpolates its time embeddings (nearest neighbor).
    """

    f = "logits of the network for the subsequence's frames, its time embeddings interpolated to their number"

    def logits(self, images: Tensor, places: Tensor, n: int) -> Tensor:
        """Return logits (N, C) of images (N, s, 3, H, W); they depend on the order of the frames alone."""
        del places, n
        network: Any = self.module
        network.config.num_frames = images.shape[1]
        out: Tensor = network(images).logits
        return out


def element_shape(config: Any) -> tuple[int, ...]:
    """Return the shape of an element.

    Raises:
        ModelError: the network gives logits of single frames.
    """
    if config.attention_type not in _ATTENTION:
        raise ModelError(
            f"config: attention_type: expected {' or '.join(_ATTENTION)}, got {config.attention_type!r:.60}, which "
            "computes logits frame by frame"
        )
    if type(config.image_size) is not int or type(config.patch_size) is not int:
        raise ModelError(
            f"config: image_size and patch_size: expected one number each, got {config.image_size!r:.60} and "
            f"{config.patch_size!r:.60}"
        )
    return config.image_size, config.image_size, 3
