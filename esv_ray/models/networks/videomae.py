"""VideoMAE (Tong et al. 2022): an element is a tubelet, a clip of as many frames as the network joins."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from esv_ray.errors import ModelError
from esv_ray.models.networks.network import Network
from esv_ray.models.networks.preparation import Preparation


class VideoMae(Network):
    """The network with the tubelets that are not in a subsequence masked, as in its pretraining.

    Its encoder sees only the patches of the subsequence's tubelets, at their own positions in time. Their mean goes
    through its norm and its classifier. For a sequence of all its tubelets, these are the network's own logits.
    A shorter sequence of n tubelets has the places floor((i + 1/2) P / n) of the P that the network has.
    """

    f = "logits of the network with the other elements masked: mean over the patches of the subsequence's elements"

    def __init__(self, module: nn.Module, shape: tuple[int, ...], preparation: Preparation) -> None:
        """Take a network, the shape of its elements and its preparation, as `Network`."""
        super().__init__(module, shape, preparation)
        config: Any = module.config
        self.longest = int(config.num_frames // config.tubelet_size)

    def logits(self, images: Tensor, places: Tensor, n: int) -> Tensor:
        """Return logits (N, C) of tubelets (N, s, k, 3, H, W) at places (N, s) of n."""
        network: Any = self.module
        count, slots = len(images), self.longest or 0
        at = (2 * places + 1) * slots // (2 * n)  # (N, s)
        rows = torch.arange(count, device=images.device)[:, None]
        frames = images.new_zeros((count, slots, *images.shape[2:]))
        frames[rows, at] = images
        masked = torch.ones((count, slots), dtype=torch.bool, device=images.device)
        masked[rows, at] = False
        patches = network.videomae.embeddings.num_patches // slots  # of a tubelet
        states = network.videomae(
            frames.flatten(1, 2), bool_masked_pos=masked.repeat_interleave(patches, dim=1)
        ).last_hidden_state  # (N, s * patches, hidden)
        out: Tensor = network.classifier(network.fc_norm(states.mean(1)))
        return out


def element_shape(config: Any) -> tuple[int, ...]:
    """Return the shape of an element.

    Raises:
        ModelError: the classifier reads a single patch, or frames are left over.
    """
    if not config.use_mean_pooling:
        raise ModelError(
            "config: use_mean_pooling: expected true, as in networks that were fine-tuned, got false: the classifier "
            "reads only the first patch"
        )
    if config.num_frames % config.tubelet_size:
        raise ModelError(
            f"config: num_frames: expected a multiple of tubelet_size {config.tubelet_size}, got {config.num_frames}"
        )
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    frames = [config.tubelet_size] if config.tubelet_size > 1 else []
    return (*frames, height, width, 3)
