"""A GRU whose last state is classified, for sequences of any length.

The tutorial imports it with `esv import model --from module gru:make --code gru ...`.
"""

import torch
from torch import nn

import esv_ray


class GruClassifier(nn.Module):
    """Logits of the last hidden state."""

    def __init__(self, feature_dim: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(feature_dim, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, n_classes)

    def forward(self, elements: torch.Tensor) -> torch.Tensor:
        """Return logits (N, C) of sequences (N, s, D)."""
        return self.classifier(self.gru(elements)[0][:, -1])


@esv_ray.factory
def make(feature_dim: int = 12, hidden: int = 32, n_classes: int = 9) -> nn.Module:
    """Return the module; the bundle has its weights."""
    return GruClassifier(feature_dim, hidden, n_classes)
