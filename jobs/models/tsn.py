"""A TSN with a hidden layer: the mean over frames of the logits of each.

esv import model --from module tsn:make --code tsn --weights tsn.safetensors --prior prior.csv --output models/tsn

A TSN with a linear classifier is a built-in kind; import its checkpoint with --from play-fair or mmaction2 instead.
"""

import torch
from torch import nn

import esv_ray


class Tsn(nn.Module):
    """Mean logits of the frames."""

    def __init__(self, feature_dim: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, n_classes)
        )

    def forward(self, elements: torch.Tensor) -> torch.Tensor:
        """Return logits (N, C) of sequences (N, s, D)."""
        return self.mlp(elements).mean(dim=1)


@esv_ray.factory
def make(feature_dim: int = 12, hidden: int = 32, n_classes: int = 9) -> nn.Module:
    """Return the module; the bundle has its weights."""
    return Tsn(feature_dim, hidden, n_classes)
