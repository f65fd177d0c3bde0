"""Errors of F at single subsequences, from the residuals of heads: how far v may be from the values that are read out.

F(X) contains, for each shorter head f^s, the mean of its surrogate over the s-subsets of X. Its error has two parts:

- The surrogate's coefficients are estimated: one draw of their error (`surrogate.Fit.errors`) at X.
- The surrogate leaves out a rest. Its mean over subsets of X has the share C(s, 4) / C(|X|, 4) of the rest's variance
  if the rest consists of interactions of four elements, and 1 / C(|X|, s) if s is smaller, or the rest is noise. With
  order 4 the errors are 0.6 to 1.6 times the true ones at every length (random and trained heads, n = 12 and 16).

The head of X itself is known there, but a part of its residual is carried over to shorter heads (`Size.borrowed`),
which is an error if the residuals of heads are not correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from esv_ray.core.keyed import Int64Array, derive_key, normals
from esv_ray.core.regression.interactions import BoolArray, FloatArray, Interactions
from esv_ray.core.regression.surrogate import CONTRASTS, Fit, random_signs

PROBES = 32  # subsequences per size, at most, at which errors of F are drawn
_FEWEST = 8  # the same, at least; if there are so many
SUMS = 4  # random sums of the changes of v, for each size
_ORDER = 4  # of the interactions that surrogates leave out


@dataclass(frozen=True)
class HeadNoise:
    """What a head adds to the errors of F.

    Attributes:
        s: its scale.
        fit: its surrogate, with residual contrasts.
    """

    s: int
    fit: Fit


@dataclass(frozen=True)
class Noise:
    """Operators of one size.

    Attributes:
        scores: (R, L * heads) from the residual contrasts of all heads so far to a draw of the error of F at each of
            R subsequences (`probes`).
        signs: (L', R) to random sums of the changes of v: the mean of their squares is the mean square of the changes.
    """

    scores: FloatArray
    signs: FloatArray


def probes(count: int) -> Int64Array:
    """Return which of a size's subsequences are probed: a sixteenth, 8 to 32, evenly spaced in their order."""
    rows = min(max(count // 16, _FEWEST), PROBES, count)
    return np.arange(rows, dtype=np.int64) * count // rows


def noise_of(
    member: BoolArray,
    k: int,
    heads: list[HeadNoise],
    features: Interactions,
    *,
    borrowed: float,
    divisor: float,
    seed: int,
) -> Noise | None:
    """Build the operators of a size; None if F has no error there.

    Args:
        member: (R, n) memberships of the probed subsequences; for k = n, `SUMS` copies of it.
        k: their size.
        heads: heads of scales up to k that have residual contrasts, ascending.
        features: interactions of the surrogates.
        borrowed: `Size.borrowed`.
        divisor: of F at this size.
        seed: seed of the draws.
    """
    if not heads or (heads[0].s == k and not borrowed):
        return None
    n, rows = features.n, len(member)
    parts = features.mean_features(member, k)
    columns = []
    for head in heads:
        if head.s == k:
            variance = borrowed**2 * head.fit.rest
        else:
            share = comb(head.s, _ORDER) / comb(k, _ORDER) if head.s >= _ORDER else 1 / comb(k, head.s)
            of_means = float(((parts @ head.fit.errors) ** 2).sum(axis=1).mean())
            variance = of_means + head.fit.rest * share
        key = derive_key(seed, "noise", n, k, head.s)
        columns.append(
            normals(key, rows * CONTRASTS).reshape(rows, CONTRASTS) * np.sqrt(variance / CONTRASTS) / divisor
        )
    if k == n:
        return Noise(np.concatenate(columns, axis=1), np.eye(rows))
    signs = random_signs(int(derive_key(seed, "changes", n, k)), rows)[:SUMS] / np.sqrt(rows)
    return Noise(np.concatenate(columns, axis=1), signs)


def change_weight(n: int, k: int, count: int, weight: float) -> float:
    """Return the variance of an ESV per mean square of independent changes of the values of a size.

    It is that of the difference of means over the subsequences with an element and without it.

    Args:
        n: number of elements.
        k: the size.
        count: N, number of its subsequences that are evaluated.
        weight: weight of the size's contrasts in the sum over sizes; k = n: 1, for the value itself.
    """
    contrast = 1.0 if k == n else n * n / (k * (n - k))
    return (weight / n) ** 2 * contrast / count
