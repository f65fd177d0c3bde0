"""Zero-shot classification as with CLIP: cosines between the mean image embedding and the texts' embeddings.

esv import model --from module clip_zero_shot:make --code clip_zero_shot --weights clip.safetensors --prior prior.csv \
  --argument feature_dim=512 --argument n_classes=174 --output models/clip

The weights are `texts` (C, D), the text encoder's output for each class, and `scale`, the logit scale (for CLIP 100).
"""

import torch
from torch import nn
from torch.nn import functional as F

import esv_ray


class ClipZeroShot(nn.Module):
    """F(X) = decode(sum over X of encode(x), |X|)."""

    def __init__(self, feature_dim: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("texts", torch.randn(n_classes, feature_dim))
        self.register_buffer("scale", torch.tensor(100.0))

    def encode(self, elements: torch.Tensor) -> torch.Tensor:
        """Return what is added up, (N, E), of elements (N, D): here E = D."""
        return F.normalize(elements, dim=-1)

    def decode(self, total: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        """Return logits (R, C) of sums (R, E) over subsequences of sizes (R,)."""
        mean = total / size[:, None]
        return self.scale * F.normalize(mean, dim=-1) @ F.normalize(self.texts, dim=-1).T

    def forward(self, elements: torch.Tensor) -> torch.Tensor:
        """Return logits (N, C) of sequences (N, s, D)."""
        size = torch.full((len(elements),), elements.shape[1], dtype=elements.dtype, device=elements.device)
        return self.decode(self.encode(elements).sum(dim=1), size)


@esv_ray.factory
def make(feature_dim: int = 12, n_classes: int = 9) -> nn.Module:
    """Return the module; the bundle has the texts' embeddings."""
    return ClipZeroShot(feature_dim, n_classes)
