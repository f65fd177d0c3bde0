"""Surrogates: operators that fit a set function to few subsequences, by Gaussian-process regression on interactions.

The prior of a function of the subsequences of one size is a sum of orders (`interactions`): most of the variance is
additive, some is in pairs, little in triples, the rest is noise. Shares are relative to a total variance of one, so
that operators are fixed by the plan and scale with the values. The shares below are those of trained heads, rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
import torch

from esv_ray.core.keyed import derive_key, mix64, normals
from esv_ray.core.regression.interactions import MAX_SINGLE_BINS, BoolArray, FloatArray, Interactions, interactions

CONTRASTS = 8  # random contrasts from which the size of the residual is estimated
_INTERCEPT = 1e4  # variance of the mean: uninformative
_FEW_BINS = 8  # of pairs or triples, if elements share bins
_MAX_BINS = 16  # of pairs in a surrogate of heads, of triples in longer sequences
_MAX_TRIPLES = 16  # elements; in longer sequences single triples as features would make plans take seconds
_MANY_ROWS = 2048  # from here on each of up to 24 elements is its own bin in surrogates of heads
_MAX_LOGIT_FEATURES = 2048  # of logits; beyond, and with fewer subsequences than features, only single elements
_ROWS_PER_FEATURE = 1.5  # subsequences per feature of logits
_ROWS_PER_ELEMENT = 3  # subsequences, from where an additive head (TSN) is fitted without error
_FREE_VARIANCE = 1e4  # prior variance of a part that is fitted whatever its size
_COMPLETE_NOISE = 1e-7  # if every subsequence is evaluated, the fit is the projection


@dataclass(frozen=True)
class Shares:
    """Prior variance of the orders 1, 2, .. of a function, and of the rest (noise)."""

    orders: tuple[float, ...]
    noise: float

    def variances(self, features: Interactions) -> FloatArray:
        """Return the prior variance of every feature's coefficient."""
        counts = features.counts()
        parts = [np.full(counts[0], _INTERCEPT)]
        parts += [np.full(count, share) for count, share in zip(counts[1:], self.orders, strict=True)]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Expectation:
    """Prior of a function: its interactions, and the share of its variance in each order."""

    features: Interactions
    shares: Shares


def of_heads(n: int, rows: int) -> Expectation:
    """Return the expectation of a head f^s of n elements, for `rows` subsequences per size.

    Every pair costs time for every subsequence of every video, so there are few bins if rows are few. n = 16, error
    with 8, 12 and 16 bins: 256 rows 2.6, 2.4 and 2.0 %, 1,024 rows 1.6, - and 0.5 %. n = 20, 16 and 20 bins: 4,096
    rows 0.53 and 0.38 %, in a tenth more time.
    """
    most = n if n <= MAX_SINGLE_BINS and rows >= _MANY_ROWS else min(n, _MAX_BINS)
    bins = most if 4 * rows >= 5 * comb(most, 2) else _FEW_BINS
    features = interactions(n, 2, bins=bins)
    if 4 * rows < len(features.products(2)):
        return Expectation(interactions(n, 1, bins=bins), Shares((0.92,), 0.08))
    if n <= _MAX_TRIPLES and bins == n and 4 * rows >= 3 * comb(n, 3):
        return Expectation(interactions(n, 3), Shares((0.92, 0.06, 0.015), 0.01))
    return Expectation(features, Shares((0.92, 0.06), 0.02))


def of_values(n: int, rows: int) -> Expectation:
    """Return the expectation of v at the subsequences of a size; here interactions cost time for the plan alone.

    n = 16, error with pairs, triples of 8 bins and all triples: 64 rows 7.7, 7.0 and 7.6 %, 256 rows 2.0, 2.1 and
    1.6 %. n = 20, triples of 8 and 16 bins and all: 1,024 rows 1.03, 0.95 and 0.79 %, plans in 0.4, 1.2 and 3.1 s.
    """
    pairs = interactions(n, 2)
    if 4 * rows < len(pairs.products(2)):
        return Expectation(interactions(n, 1), Shares((0.7,), 0.3))
    if n <= _MAX_TRIPLES and 5 * rows >= 2 * comb(n, 3):
        return Expectation(interactions(n, 3), Shares((0.7, 0.25, 0.06), 0.015))
    if n <= MAX_SINGLE_BINS and 5 * rows >= 2 * comb(_MAX_BINS, 3):
        return Expectation(interactions(n, 3, triple_bins=_MAX_BINS), Shares((0.7, 0.25, 0.045), 0.02))
    return Expectation(interactions(n, 3, triple_bins=_FEW_BINS), Shares((0.7, 0.25, 0.03), 0.03))


def of_logits(n: int, rows: int) -> Expectation:
    """Return the expectation of f^s, for ESVs in logits from `rows` subsequences per length.

    Bins would follow the plan's order of elements, which relabelling makes meaningless: each element is its own bin.
    """
    single = tuple(range(n))
    pairs = 1 + n + comb(n, 2)
    additive = _FREE_VARIANCE if rows >= _ROWS_PER_ELEMENT * n else 0.92
    if n <= _MAX_TRIPLES and rows >= _ROWS_PER_FEATURE * comb(n, 3):
        return Expectation(Interactions(n, single, single, 3), Shares((additive, 0.06, 0.015), 0.01))
    if pairs <= _MAX_LOGIT_FEATURES and rows >= pairs / _ROWS_PER_FEATURE:
        return Expectation(Interactions(n, single, single, 2), Shares((additive, 0.06), 0.02))
    return Expectation(Interactions(n, single, single, 1), Shares((additive,), 0.08))


@dataclass(frozen=True)
class Fit:
    """Fitted operators on values (N, C) of the subsequences of one size.

    Attributes:
        means: (P, N) to the means b, a, c (`Interactions.to_means`).
        contrasts: (L, N): rows whose expected squares are the residual variance over that of the prior; L = 0 if there
            is no residual: all subsequences are evaluated, and no more than there are coefficients.
        errors: (P, L): map from the contrasts to one draw of the error of the means; zero if all subsequences are
            evaluated.
        rest: variance, per square of a contrast, of what the means leave out.
    """

    means: FloatArray
    contrasts: FloatArray
    errors: FloatArray
    rest: float


def fit_head(member: BoolArray, s: int, share: float, expected: Expectation, *, seed: int) -> Fit:
    """Fit the surrogate of a head f^s.

    Args:
        member: (N, n) memberships of the evaluated subsequences.
        s: their size.
        share: N / C(n, s); 1: all of them.
        expected: expectation of the head (`of_heads`).
        seed: seed of the error's draw.
    """
    n = member.shape[1]
    features, share = expected.features, min(share, 1.0)
    kept = sum(features.counts()[:3])
    values, prior = features.features(member, s), expected.shares.variances(features)
    if share == 1:  # there is no rest that triples could predict
        values, prior = values[:, :kept], prior[:kept]
    noise = expected.shares.noise * (1 - share) + _COMPLETE_NOISE
    higher = sum(expected.shares.orders[2:])
    key = derive_key(seed, "error", n, s)
    if share < 1 and len(member) < len(prior):
        return _fit_few(values, prior, noise, kept, share, key, lambda found: features.to_means(s, found))
    covariance = inverse(values.T @ values / noise + np.diag(1 / prior))
    fitted = features.to_means(s, covariance[:kept] @ values.T / noise)
    if share == 1:
        return _complete_fit(fitted, values, covariance / noise, higher + expected.shares.noise, key)
    drawn = normals(key, kept * CONTRASTS).reshape(kept, CONTRASTS) * _error_scale(share)
    root = np.linalg.cholesky(covariance[:kept, :kept] + 1e-12 * np.eye(kept))
    errors = features.to_means(s, root @ drawn)
    return Fit(fitted, residual_contrasts(values, covariance, noise, int(key)), errors, higher + noise)


def _complete_fit(fitted: FloatArray, values: FloatArray, inverted: FloatArray, rest: float, key: np.uint64) -> Fit:
    """Return the fit of a head whose subsequences are all evaluated: no error, but a residual if there are enough.

    Args:
        fitted: `Fit.means`.
        values: (N, P) features.
        inverted: (P, P) inverse of their Gram matrix.
        rest: variance of the residual under the prior.
        key: key of the contrasts' signs.
    """
    count, terms = values.shape
    if count <= terms:
        return Fit(fitted, np.zeros((0, count)), np.zeros((len(fitted), 0)), rest)
    signs = random_signs(int(key), count) / np.sqrt((count - terms) * rest)
    contrasts = signs - (signs @ values) @ inverted @ values.T
    return Fit(fitted, contrasts, np.zeros((len(fitted), CONTRASTS)), rest)


def _error_scale(share: float) -> float:
    """Return the factor of drawn errors: contrasts are relative to a noise that shrinks like the share missing."""
    return float(np.sqrt((1 - share) / CONTRASTS))


def _fit_few(
    values: FloatArray,
    prior: FloatArray,
    noise: float,
    kept: int,
    share: float,
    key: np.uint64,
    to_means: Callable[[FloatArray], FloatArray],
) -> Fit:
    """Fit fewer subsequences than features: the same fit by the covariance of values, (N, N), in place of theirs."""
    count, terms = values.shape
    carried = prior[:, None] * values.T  # (P, N) covariance of coefficients and values
    inverted = inverse(values @ carried + noise * np.eye(count))
    # A draw of the prior minus what its own values would predict has the posterior's covariance (Matheron's rule).
    words = normals(key, (terms + count) * CONTRASTS).reshape(terms + count, CONTRASTS) * _error_scale(share)
    drawn = np.sqrt(prior)[:, None] * words[:terms]
    seen = values @ drawn + np.sqrt(noise) * words[terms:]
    errors = (drawn - carried @ (inverted @ seen))[:kept]
    contrasts = contrasts_of_inverse(inverted, int(key))
    return Fit(to_means(carried[:kept] @ inverted), contrasts, to_means(errors), noise)


def inverse(matrix: FloatArray) -> FloatArray:
    """Invert a symmetric positive definite matrix, in a third of the time of a general one."""
    return np.asarray(torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(matrix))).numpy())


def residual_contrasts(values: FloatArray, covariance: FloatArray, noise: float, key: int) -> FloatArray:
    """Return (L, N) rows: random signs times each value's leave-one-out error, over that error's expected size.

    The expected squares of their products with a function are its residual variance over the prior's.

    Args:
        values: (N, P) features.
        covariance: (P, P) posterior covariance of the coefficients, noise included in its weights.
        noise: variance of a value's noise.
        key: key of the signs.
    """
    count = len(values)
    spread = values @ covariance  # (N, P)
    own = np.maximum(1 - (spread * values).sum(axis=1) / noise, 1e-6) / noise  # diagonal of the inverse
    signs = random_signs(key, count) / np.sqrt(own * count)
    return np.asarray((signs - (signs @ spread) @ values.T / noise) / noise)


def contrasts_of_inverse(inverted: FloatArray, key: int) -> FloatArray:
    """Return `residual_contrasts` from the inverse (N, N) of the covariance of the values, noise included."""
    own = np.maximum(inverted.diagonal(), 1e-6)
    return np.asarray((random_signs(key, len(inverted)) / np.sqrt(own * len(inverted))) @ inverted)


def random_signs(key: int, count: int) -> FloatArray:
    """Return (L, count) random signs, fixed by their key."""
    words = mix64(np.arange(CONTRASTS * count, dtype=np.uint64) ^ np.uint64(key))
    return np.where(words >> np.uint64(63), 1.0, -1.0).reshape(CONTRASTS, count)
