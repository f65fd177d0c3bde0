"""A transformer of eight frames, with a position embedding for each: a module of a fixed length.

esv import model --from module transformer:make --code transformer --weights transformer.safetensors --prior prior.csv \
  --argument how=repeat --output models/transformer
"""

import torch
from torch import nn

import esv_ray


class Transformer(nn.Module):
    """Logits of a class token that attends to the frames."""

    def __init__(self, feature_dim: int, frames: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(feature_dim, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + frames, width))
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=2 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, elements: torch.Tensor) -> torch.Tensor:
        """Return logits (N, C) of sequences (N, frames, D)."""
        tokens = torch.cat([self.token.expand(len(elements), -1, -1), self.embedding(elements)], dim=1)
        return self.classifier(self.encoder(tokens + self.positions)[:, 0])


@esv_ray.factory
def make(feature_dim: int = 12, width: int = 32, n_classes: int = 9, how: str = "interpolate") -> nn.Module:
    """Return the module for sequences of any length; `how` says what it gets for other lengths than eight."""
    return esv_ray.fixed_length(Transformer(feature_dim, 8, width, n_classes), 8, how=how)
