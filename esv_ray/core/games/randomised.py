"""Models whose upper layers are re-initialized: attributions must change with them (Adebayo et al. 2018; issue 20)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import GatherHead, MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import derive_key, normals, permutation
from esv_ray.errors import ModelError, short_text


def count_layers(model: VideoModel) -> int:
    """Return the number of layers that `randomised` can re-initialize, 0 for a model without weights."""
    return len(_layers(model.scorer, model.n_classes))


@torch.no_grad()
def randomised(model: VideoModel, layers: int, *, seed: int) -> VideoModel:
    """Return a copy of a model with some layers re-initialized, from the top: the one next to the logits first.

    The layers of all heads at one depth are re-initialized together. A matrix is drawn from a normal distribution with
    the root mean square of its weights, and a vector is shuffled, so that logits keep their order of magnitude.

    Args:
        model: the model.
        layers: number of layers.
        seed: seed of the draws.

    Raises:
        ModelError: a user's module cannot be copied.
    """
    try:
        scorer = deepcopy(model.scorer)
    except Exception as error:  # whatever a user's module raises
        raise ModelError(
            f"sanity re-initializes a copy of the model, but its module cannot be copied ({short_text(error, 200)}); "
            "leave what cannot be copied, such as locks and open files, out of the module"
        ) from error
    for depth, tensors in enumerate(_layers(scorer, model.n_classes)[:layers]):
        for number, tensor in enumerate(tensors):
            _draw(tensor, derive_key(seed, "randomised", depth, number))
    return replace(model, scorer=scorer, digest="")


def _draw(tensor: Tensor, key: np.uint64) -> None:
    """Draw new values of a tensor in place."""
    if tensor.ndim < 2:
        order = torch.from_numpy(permutation(key, tensor.numel()))
        tensor.copy_(tensor.clone().flatten()[order.to(tensor.device)].view_as(tensor))
        return
    drawn = torch.from_numpy(normals(key, tensor.numel())).view(tensor.shape)
    tensor.copy_(drawn.to(tensor) * tensor.square().mean().sqrt())


def _layers(scorer: nn.Module, n_classes: int) -> list[list[Tensor]]:
    """Return the weights of each layer, from the top.

    Layers of modules that are not heads of this package are taken in the order in which they were registered.
    """
    if not isinstance(scorer, MultiScale):
        return _of_modules(scorer)[::-1]
    heads = [_of_head(head, n_classes) for head in scorer.heads.values()]
    depth = max(len(head) for head in heads)
    layers = [[tensor for head in heads if place < len(head) for tensor in head[place]] for place in range(depth)]
    return layers + ([] if scorer.projection is None else _of_modules(scorer.projection))


def _of_head(head: nn.Module, n_classes: int) -> list[list[Tensor]]:
    """Return the layers of a head from the top; the idle columns of an MLP's last layer stay as they are."""
    if not isinstance(head, GatherHead):
        return _of_modules(head)[::-1]
    layers = [[head.get_buffer("first"), head.get_buffer("first_bias")]]
    layers += [[head.get_buffer(f"weight_{index}"), head.get_buffer(f"bias_{index}")] for index in range(head.n_rest)]
    layers[-1] = [tensor[..., :n_classes] for tensor in layers[-1]]
    return layers[::-1]


def _of_modules(module: nn.Module) -> list[list[Tensor]]:
    """Return the weights of each module that has some of its own, in the order of their registration."""
    found = []
    for part in module.modules():
        own = [*part.parameters(recurse=False)]
        tensors = [tensor.data for tensor in own if tensor.is_floating_point() and tensor.numel() > 1]
        if tensors:
            found.append(tensors)
    return found
