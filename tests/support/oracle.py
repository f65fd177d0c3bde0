"""Slow and plain: ESVs by their definition over all orders, and F by Eq. 8, sharing no code with the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]
Game = Callable[[tuple[int, ...]], Array]


def esv_by_orders(game: Game, n: int) -> Array:
    """(n, C): the mean over all n! orders of what each element adds when it joins those before it."""
    values = {x: game(x) for s in range(n + 1) for x in combinations(range(n), s)}
    total = np.zeros((n, len(values[()])))
    orders = list(permutations(range(n)))
    for order in orders:
        for place, element in enumerate(order):
            before = tuple(sorted(order[:place]))
            total[element] += values[tuple(sorted(order[: place + 1]))] - values[before]
    return total / len(orders)


def marginals_by_scale(game: Game, n: int) -> Array:
    """(n, n, C): for scale s and element i, the mean of v(X + i) - v(X) over the X of length s - 1 without i."""
    values = {x: game(x) for s in range(n + 1) for x in combinations(range(n), s)}
    total = np.zeros((n, n, len(values[()])))
    for element in range(n):
        others = [other for other in range(n) if other != element]
        for s in range(1, n + 1):
            added = [values[tuple(sorted([*x, element]))] - values[x] for x in combinations(others, s - 1)]
            total[s - 1, element] = np.mean(added, axis=0)
    return total


def multiscale_game(heads: Mapping[int, nn.Module], features: Tensor, prior: Tensor, *, logits: bool = False) -> Game:
    """v(X) = softmax of F(X), or F(X), by Eq. 8: the mean over scales of the mean over subsequences of X."""

    @torch.no_grad()
    def value(x: tuple[int, ...]) -> Array:
        if not x:
            return np.asarray((prior.double().log() if logits else prior.double()).numpy())
        scales = range(1, min(len(x), max(heads)) + 1)
        means = [
            heads[s](torch.stack([features[list(t)] for t in combinations(x, s)])).double().mean(dim=0) for s in scales
        ]
        scores = torch.stack(means).mean(dim=0)
        return np.asarray((scores if logits else torch.softmax(scores, dim=0)).numpy())

    return value


def module_game(module: nn.Module, features: Tensor, prior: Tensor, *, logits: bool = False) -> Game:
    """v(X) = softmax of a module of any length, or its logits."""

    @torch.no_grad()
    def value(x: tuple[int, ...]) -> Array:
        if not x:
            return np.asarray((prior.double().log() if logits else prior.double()).numpy())
        scores = module(features[list(x)][None])[0].double()
        return np.asarray((scores if logits else torch.softmax(scores, dim=0)).numpy())

    return value
