"""Linear operators that learn a set function from few subsequences: Gaussian-process regression on interactions.

Before looking, a function of the subsequences of one size is taken to be a sum of orders (`interactions`): most of its
variance is additive, some lies in pairs, little in triples, the rest is noise. Shares are stated relative to a total
variance of one, so operators are fixed by the plan and scale with what they are applied to. The shares below are those
of trained heads, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import torch

from esv_ray.core.keyed import derive_key, mix64, normals
from esv_ray.core.regression.interactions import MOST_SINGLE, FloatArray, Interactions, interactions

CONTRASTS = 8  # rows by which the size of what is not explained is estimated
_INTERCEPT = 1e4  # variance of the mean: nothing is known of it
_FEW_BINS = 8  # of pairs, or triples, where there are not as many as elements
_MOST_BINS = 16  # of pairs in a surrogate of heads, of triples where elements are more
_MOST_TRIPLES = 16  # elements of whose triples each is a feature; with more, plans would take seconds
_MANY_ROWS = 2048  # from where each of up to 24 elements is a bin of heads
_MAX_LOGIT_FEATURES = 2048  # of logits; beyond, and with fewer subsequences than features, only single elements
_ROWS_PER_FEATURE = 1.5  # subsequences per feature of logits
_ROWS_PER_ELEMENT = 3  # subsequences, from where an additive head (TSN) is fitted without error
_FREE_VARIANCE = 1e4  # prior variance of a part that is fitted whatever its size
_COMPLETE_NOISE = 1e-7  # where every subsequence is there, the fit is the projection


@dataclass(frozen=True)
class Shares:
    """Prior variance of the orders 1, 2, .. of a function, and of what is beyond them."""

    orders: tuple[float, ...]
    noise: float

    def variances(self, features: Interactions) -> FloatArray:
        """Prior variance of every feature's coefficient."""
        counts = features.counts()
        parts = [np.full(counts[0], _INTERCEPT)]
        parts += [np.full(count, share) for count, share in zip(counts[1:], self.orders, strict=True)]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Expectation:
    """What is expected of a function: which interactions, and how much of its variance lies in each order."""

    features: Interactions
    shares: Shares


def of_heads(n: int, rows: int) -> Expectation:
    """What is expected of a head f^s of n elements, that as many subsequences a size can tell.

    Every pair costs time for every subsequence of every video, so they are few bins where rows are few. n = 16, error
    with 8, 12 and 16 bins: 256 rows 2.6, 2.4 and 2.0 %, 1,024 rows 1.6, - and 0.5 %. n = 20, 16 and 20 bins: 4,096
    rows 0.53 and 0.38 %, in a tenth more time.
    """
    most = n if n <= MOST_SINGLE and rows >= _MANY_ROWS else min(n, _MOST_BINS)
    bins = most if 4 * rows >= 5 * comb(most, 2) else _FEW_BINS
    features = interactions(n, 2, bins=bins)
    if 4 * rows < len(features.products(2)):
        return Expectation(interactions(n, 1, bins=bins), Shares((0.92,), 0.08))
    if n <= _MOST_TRIPLES and bins == n and 4 * rows >= 3 * comb(n, 3):
        return Expectation(interactions(n, 3), Shares((0.92, 0.06, 0.015), 0.01))
    return Expectation(features, Shares((0.92, 0.06), 0.02))


def of_values(n: int, rows: int) -> Expectation:
    """What is expected of v at the subsequences of a size; here interactions cost time for the plan alone.

    n = 16, error with pairs, triples of 8 bins and all triples: 64 rows 7.7, 7.0 and 7.6 %, 256 rows 2.0, 2.1 and
    1.6 %. n = 20, triples of 8 and 16 bins and all: 1,024 rows 1.03, 0.95 and 0.79 %, plans in 0.4, 1.2 and 3.1 s.
    """
    pairs = interactions(n, 2)
    if 4 * rows < len(pairs.products(2)):
        return Expectation(interactions(n, 1), Shares((0.7,), 0.3))
    if n <= _MOST_TRIPLES and 5 * rows >= 2 * comb(n, 3):
        return Expectation(interactions(n, 3), Shares((0.7, 0.25, 0.06), 0.015))
    if n <= MOST_SINGLE and 5 * rows >= 2 * comb(_MOST_BINS, 3):
        return Expectation(interactions(n, 3, triple_bins=_MOST_BINS), Shares((0.7, 0.25, 0.045), 0.02))
    return Expectation(interactions(n, 3, triple_bins=_FEW_BINS), Shares((0.7, 0.25, 0.03), 0.03))


def of_logits(n: int, rows: int) -> Expectation:
    """Return the expectation of f^s, for ESVs in logits from `rows` subsequences per length.

    Bins would follow the plan's order of elements, which relabelling makes meaningless: each element is its own bin.
    """
    single = tuple(range(n))
    pairs = 1 + n + comb(n, 2)
    additive = _FREE_VARIANCE if rows >= _ROWS_PER_ELEMENT * n else 0.92
    if n <= _MOST_TRIPLES and rows >= _ROWS_PER_FEATURE * comb(n, 3):
        return Expectation(Interactions(n, single, single, 3), Shares((additive, 0.06, 0.015), 0.01))
    if pairs <= _MAX_LOGIT_FEATURES and rows >= pairs / _ROWS_PER_FEATURE:
        return Expectation(Interactions(n, single, single, 2), Shares((additive, 0.06), 0.02))
    return Expectation(Interactions(n, single, single, 1), Shares((additive,), 0.08))


@dataclass(frozen=True)
class Fit:
    """Operators on values (N, C) of the subsequences of one size.

    Attributes:
        means: (P, N) to the means b, a, c (`Interactions.to_means`).
        contrasts: (L, N): rows whose squares have, in the mean, the variance that is left, over that of the prior; none
            where all subsequences are there.
        errors: (P, L): applied to the contrasts, one draw of the error of the means.
    """

    means: FloatArray
    contrasts: FloatArray
    errors: FloatArray


def fit_head(member: FloatArray, s: int, share: float, expected: Expectation, *, seed: int) -> Fit:
    """Fit of f^s.

    Args:
        member: (N, n) memberships of the evaluated subsequences.
        s: their size.
        share: N / C(n, s); 1: all of them.
        expected: of the head (`of_heads`).
        seed: of the error's draw.
    """
    n = member.shape[1]
    features = expected.features
    kept = sum(features.counts()[:3])
    to_means = features.to_means(s)
    values, prior = features.features(member, s), expected.shares.variances(features)
    if share >= 1:  # triples of a complete size tell nothing about the rest
        values, prior = values[:, :kept], prior[:kept]
    noise = expected.shares.noise * max(1 - share, 0.0) + _COMPLETE_NOISE
    covariance = inverse(values.T @ values / noise + np.diag(1 / prior))
    fitted = to_means @ (covariance[:kept] @ values.T / noise)
    if share >= 1:
        return Fit(fitted, np.zeros((0, len(member))), np.zeros((kept, 0)))
    key = derive_key(seed, "error", n, s)
    drawn = normals(key, kept * CONTRASTS).reshape(kept, CONTRASTS) / np.sqrt(CONTRASTS)
    drawn *= np.sqrt(1 - share)  # contrasts are over a noise that shrinks as fast as what is left of all subsequences
    root = np.linalg.cholesky(covariance[:kept, :kept] + 1e-12 * np.eye(kept))
    return Fit(fitted, residual_contrasts(values, covariance, noise, int(key)), to_means @ root @ drawn)


def inverse(matrix: FloatArray) -> FloatArray:
    """Inverse of a symmetric positive definite matrix: a third of the time of a general one."""
    return np.asarray(torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(matrix))).numpy())


def residual_contrasts(values: FloatArray, covariance: FloatArray, noise: float, key: int) -> FloatArray:
    """(L, N) rows: random signs times what each value differs from its prediction by all others, over that error's
    expected size. The squares of their products with a function are, in the mean, its variance over the prior's.

    Args:
        values: (N, P) features.
        covariance: (P, P) posterior covariance of the coefficients, noise included in its weights.
        noise: variance of a value's own part.
        key: fixes the signs.
    """
    count = len(values)
    spread = values @ covariance  # (N, P)
    own = np.maximum(1 - (spread * values).sum(axis=1) / noise, 1e-6) / noise  # diagonal of the inverse
    words = mix64(np.arange(CONTRASTS * count, dtype=np.uint64) ^ np.uint64(key))
    signs = np.where(words >> np.uint64(63), 1.0, -1.0).reshape(CONTRASTS, count) / np.sqrt(own * count)
    return np.asarray((signs - (signs @ spread) @ values.T / noise) / noise)
