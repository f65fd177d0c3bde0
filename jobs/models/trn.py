"""A multi-scale TRN: one relation module for each scale, averaged as in the paper.

esv import model --from module trn:make --code trn --weights trn.safetensors --prior prior.csv --output models/trn

The names of the weights begin with the scale: `1.1.weight`, `2.1.weight`, ... TRNs of MLP heads, and those of
TRN-pytorch and mmaction2, are a built-in kind, which is faster; import their checkpoints instead.
"""

from torch import nn

import esv_ray


def relation(scale: int, feature_dim: int, hidden: int, n_classes: int) -> nn.Module:
    """Return a module (N, scale, D) -> (N, C)."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(scale * feature_dim, hidden), nn.GELU(), nn.Dropout(0.5), nn.Linear(hidden, n_classes)
    )


@esv_ray.factory
def make(n_max: int = 4, feature_dim: int = 12, hidden: int = 32, n_classes: int = 9) -> dict[int, nn.Module]:
    """Return a module for each scale; the bundle has their weights."""
    return {scale: relation(scale, feature_dim, hidden, n_classes) for scale in range(1, n_max + 1)}
