"""Plans of ESVs in logits: the closed form, exact or sampled without bias. Shape only, no features.

With v(X) = F(X), no softmax, all of Eq. 4 to 9 (Price & Damen 2020) is linear in the heads: F(X) of k elements is the
mean over s = 1 .. h_k = min(k, n_max) of the mean of f^s over the subsequences of X of length s, and so

    phi_i = (F(all) - F(none)) / n + sum over s of  w_s * D_s(i),    w_s = 1/n * sum over k = s .. n-1 of s / (k h_k),

(with weights of scales: weight_s / divisor_k in place of 1 / h_k, see `Scales`)

with the contrast D_s(i) = mean of f^s(T) over T with i - mean over T without i, |T| = s. Nothing longer than n_max is
evaluated: n = 64 with heads up to 3 takes 43,744 subsequences. A model that scores any length has w_s = 1/n, all s < n.

Sampled, D_s is estimated from a few subsequences of length s by kriging: weights W[i, T] of least expected error if f^s
is mostly a sum of low-order interactions (`surrogate`), under the constraints

    sum over T of W[i, T] = 0,    sum over T with i of W[i, T] = 1.

They make the estimate unbiased for any f^s: each video's elements are relabeled by a uniformly random permutation,
under which the mean of W[i, T] depends only on whether T holds i, and the constraints leave one such mean: that of D_s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, derive_key, permutations
from esv_ray.core.logit.attribution import attribute_logits
from esv_ray.core.regression.design import draw, subsequences_of
from esv_ray.core.regression.interactions import FloatArray
from esv_ray.core.regression.surrogate import CONTRASTS, inverse, of_logits, residual_contrasts
from esv_ray.core.scales import Scales
from esv_ray.core.tensor_fields import by_number, moved, numbered, tensor_fields, total_bytes
from esv_ray.core.threads import one_thread
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output


@dataclass(frozen=True)
class LogitScale:
    """The subsequences of one length s, and operators on f^s.

    Attributes:
        s: the length.
        elements: (N, s) int32 ascending.
        member: (n + 1, N) uint8, the last row ones.
        operator: (n + 1 + L, N): share of the ESVs, share of F(all), residual contrasts; None if every subsequence is
            evaluated: means suffice.
        weight: w_s.
        mean_weight: weight of the mean of f^s in F(all).
        mean: (1, N) operator to the mean of f^s; None if every subsequence is evaluated, and in a plan without
            marginals.
    """

    s: int
    elements: Tensor
    member: Tensor
    operator: Tensor | None
    weight: float
    mean_weight: float
    mean: Tensor | None = None

    def __len__(self) -> int:
        return self.member.shape[1]


@dataclass(frozen=True)
class LogitPlan:
    """The shape-only part of an attribution in logits (`core.plan.Plan`).

    Attributes:
        n: number of elements.
        scales: ascending.
        weights: (n, rows): variance of ESVs per square of a residual contrast.
        exact: whether every subsequence up to the longest head is evaluated.
    """

    n: int
    scales: tuple[LogitScale, ...]
    weights: Tensor
    exact: bool

    @property
    def terms(self) -> int:
        """1: there is no surrogate."""
        return 1

    def apply(
        self,
        model: VideoModel,
        features: Tensor,
        *,
        output: Output,
        relabelling: Tensor | None,
        workspace: Workspace,
        extras: Extras = NO_EXTRAS,
    ) -> Attribution:
        """Compute the ESVs of a batch of videos (`attribute_logits`)."""
        return attribute_logits(
            model,
            features,
            self,
            output=output,
            relabelling=relabelling,
            workspace=workspace,
            marginals=extras.marginals,
        )

    def relabelling(self, keys: Sequence[np.uint64]) -> Int64Array | None:
        """Return a random permutation (B, n) of the elements for each key; None if exact."""
        return None if self.exact else permutations(keys, self.n)

    def evaluations(self, scales: Scales | None) -> int:
        """Return the head evaluations per video."""
        return sum(self.rows(scales))

    def rows(self, scales: Scales | None) -> list[int]:
        """Return the number of subsequences of each scale."""
        del scales
        return [len(scale) for scale in self.scales]

    def largest(self) -> int:
        """Return the number of subsequences of the largest scale."""
        return max(len(scale) for scale in self.scales)

    def score_rows(self) -> int:
        """Return the rows of scores read and written per video: those of each subsequence."""
        return sum(len(scale) for scale in self.scales)

    def nbytes(self) -> int:
        """Return the bytes held by the plan's tensors."""
        return total_bytes(self) + sum(total_bytes(scale) for scale in self.scales)

    def to(self, device: torch.device, dtype: torch.dtype) -> LogitPlan:
        """Copy the plan to a device in a dtype."""
        return replace(moved(self, device, dtype), scales=tuple(moved(scale, device, dtype) for scale in self.scales))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`)."""
        out = tensor_fields(self) | {"exact": torch.tensor(self.exact)}
        for scale in self.scales:
            factors = torch.tensor([scale.weight, scale.mean_weight], dtype=torch.float64)
            out |= numbered(scale.s, tensor_fields(scale) | {"factors": factors})
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> LogitPlan:
        """Rebuild a plan from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        scales = tuple(
            LogitScale(
                s,
                parts["elements"],
                parts["member"],
                parts.get("operator"),
                weight=float(parts["factors"][0]),
                mean_weight=float(parts["factors"][1]),
                mean=parts.get("mean"),
            )
            for s, parts in by_number(tensors)
        )
        return cls(len(tensors["weights"]), scales, tensors["weights"], bool(tensors["exact"]))


def scale_weights(n: int, scales: Scales | None) -> FloatArray:
    """Return w_s for s = 1 .. min(n, n_max), or .. n for a model of any length; 0 for s = n and without a head."""
    if scales is None:
        return np.append(np.full(n - 1, 1 / n), 0.0)
    s = np.arange(1, min(n, scales.n_max) + 1)
    k = np.arange(1, n)
    divisors = np.array([scales.divisor(size) if size >= scales.shortest else np.inf for size in range(1, n)])
    per_size = 1 / (k * divisors)
    after = np.append(np.cumsum(per_size[::-1])[::-1], 0.0)  # sums over k >= s, for s = 1 .. n
    return np.asarray(np.array(scales.weights[: len(s)]) * s * after[s - 1] / n)


def build_logit(n: int, *, rows: int | None, seed: int, scales: Scales | None, marginals: bool = False) -> LogitPlan:
    """Build the plan.

    Args:
        n: number of elements.
        rows: most subsequences per length, but at least n, so that each element is in some and not in others; None:
            all of them.
        seed: seed of the draws.
        scales: scales of the model's heads; None for a model that scores every length itself.
        marginals: whether it can give marginals; all else is the same with and without.
    """
    with one_thread():
        return _build(n, rows, seed, scales, marginals)


def _build(n: int, rows: int | None, seed: int, scales: Scales | None, marginals: bool) -> LogitPlan:
    evaluated, variances = [], []
    for s, weight in enumerate(scale_weights(n, scales).tolist(), start=1):
        if scales is not None and not scales.has_head(s):
            continue
        count = comb(n, s) if rows is None else max(rows, n)
        member = draw(n, s, count, seed)
        mean_weight = float(s == n) if scales is None else scales.weights[s - 1] / scales.divisor(n)
        operator, mean = None, None
        if len(member) < subsequences_of(n, s):
            operator, mean, variance = _kriging(member.astype(np.float64), s, weight, mean_weight, rows or 0, seed)
            variances.append(np.repeat(variance[:, None] / CONTRASTS, CONTRASTS, axis=1))
        ones = torch.ones((n + 1, len(member)), dtype=torch.uint8)
        ones[:n] = torch.from_numpy(np.ascontiguousarray(member.T).view(np.uint8))
        positions = torch.from_numpy(member.nonzero()[1].reshape(len(member), s).astype(np.int32))
        kept = mean if marginals else None
        evaluated.append(LogitScale(s, positions, ones, operator, weight, mean_weight, kept))
    weights = np.concatenate(variances, axis=1) if variances else np.zeros((n, 0))
    return LogitPlan(n, tuple(evaluated), torch.from_numpy(weights), not variances)


def _kriging(
    member: FloatArray, s: int, weight: float, mean_weight: float, rows: int, seed: int
) -> tuple[Tensor, Tensor, FloatArray]:
    """Return the operator (n + 1 + L, N), the one to the mean (1, N), and the variance (n,) of the ESVs' part per unit
    of prior variance.

    Weights are expressed by coefficients of the features: weights of a functional t are features @ coefficients.
    """
    n = member.shape[1]
    expected = of_logits(n, rows)
    values, prior = expected.features.features(member, s), expected.shares.variances(expected.features)
    noise = expected.shares.noise
    gram = values.T @ values
    covariance = inverse(gram / noise + np.diag(1 / prior))
    solved = (covariance / prior) / noise  # inverse of the prior covariance of values, times the features
    # Memberships z_i, and the constant, as coefficients.
    q, spread = s / n, np.sqrt(s / n * (1 - s / n))
    constant = np.zeros(len(prior))
    constant[0] = 1
    element = np.zeros((n, len(prior)))
    element[:, 0] = q
    element[np.arange(n), 1 + np.arange(n)] = spread * np.sqrt(n)
    # Contrasts of f^s: those of its features, and of each subsequence's noise, which is part of the contrast too.
    holding, missing = comb(n - 1, s - 1), comb(n - 1, s)
    own = element * (1 / holding + 1 / missing) - constant / missing
    contrasts = expected.features.contrasts(s)  # (n, P)
    target = contrasts * prior + noise * own
    base = solved @ target.T  # (P, n) coefficients of the weights before the constraints
    # Two Lagrange multipliers for each element, of the constant and of its membership.
    fix = solved @ np.concatenate([constant[None], element]).T  # (P, 1 + n)
    answers = gram @ fix
    a = np.full(n, constant @ answers[:, 0])
    b = element @ answers[:, 0]
    c = np.einsum("ip,pi->i", element, answers[:, 1:])
    short = np.stack([-(constant @ gram @ base), 1 - np.einsum("ip,pi->i", element, gram @ base)])
    determinant = a * c - b * b
    first = (c * short[0] - b * short[1]) / determinant
    second = (a * short[1] - b * short[0]) / determinant
    coefficients = base + fix[:, :1] * first + fix[:, 1:] * second  # (P, n)
    contrast = (values @ coefficients).T  # (n, N)
    # The mean: constraint sum over T of W[T] = 1.
    total = float(subsequences_of(n, s))
    flat = solved @ (constant * (prior + noise / total))
    flat += fix[:, 0] * (1 - constant @ gram @ flat) / a[0]
    mean = values @ flat
    contrast -= contrast.mean(axis=0)  # contrasts of all elements sum to zero
    centered = coefficients - coefficients.mean(axis=1, keepdims=True)
    # Error of the weights, in the features and in each subsequence's noise: those of D_s, and of each element's share
    # of F(all).
    part = mean_weight / n
    off = (gram @ (weight * centered + part * flat[:, None])).T - weight * contrasts
    off[:, 0] = 0.0  # exactly, by the constraints
    truth = weight * np.where(member.T > 0, 1 / holding, -1 / missing) + part / total
    every = weight**2 * (1 / holding + 1 / missing) + part**2 / total  # their cross terms vanish
    omitted = every - np.square(truth).sum(axis=1)
    estimate = weight * contrast + part * mean
    variance = np.square(off) @ prior + noise * (np.square(estimate - truth).sum(axis=1) + omitted)
    key = int(derive_key(seed, "logit contrasts", n, s))
    residuals = residual_contrasts(values, covariance, noise, key)
    operator = np.concatenate([weight * contrast, mean_weight * mean[None], residuals])
    own_variance = np.asarray(np.maximum(variance, 0.0))
    return torch.from_numpy(np.ascontiguousarray(operator)), torch.from_numpy(mean[None].copy()), own_variance
