"""The plan of the adjusted estimator: its subsequences, and fixed operators over them. Shape only, no features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.adjusted.attribution import attribute_adjusted
from esv_ray.core.adjusted.marginals import mixes, size_operators
from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, binned_permutation
from esv_ray.core.recipe import longest_scale
from esv_ray.core.regression.design import draw, nodes, quadrature, subsequences_of
from esv_ray.core.regression.interactions import FloatArray
from esv_ray.core.regression.readout import Node, read_out
from esv_ray.core.regression.surrogate import fit_head, of_heads, of_values
from esv_ray.core.scales import Scales
from esv_ray.core.tensor_fields import by_number, moved, numbered, tensor_fields, total_bytes
from esv_ray.core.threads import one_thread
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output

# Share of a head's residual that is carried over to each shorter head, because their residuals are correlated. Error
# with 0, 0.15, 0.25 and 0.3 on the demo's model (n = 16), 256 rows 0.28, 0.265, 0.260, 0.259 %, 1,024 rows 0.060,
# 0.057, 0.055, 0.056 %; on one of the paper's dimensions 1.62, 1.56, 1.55, 1.55 and 0.50, 0.43, 0.44, 0.46 %, with
# 4,096 rows 0.33, 0.21, 0.14, 0.13 %; of random heads, which are uncorrelated, 2 to 7 % more than without.
_BORROWED = 0.25


@dataclass(frozen=True)
class Size:
    """The evaluated subsequences of one size, and operators on their values.

    The head is evaluated if there are `elements`. Tensors are in the model's dtype and on its device.

    Attributes:
        k: the size.
        count: N, number of evaluated subsequences.
        member: (n + 1, N) uint8, the last row ones.
        elements: (N, k) int32 ascending; None if no head is evaluated.
        fit: (P + L, N) from f^k / k to the means b, a, c of f^k and its residual contrasts (L = 0 if all subsequences
            of the size are evaluated); None without a head, or for the full sequence.
        readout: (n + L, N): contrasts of values by elements, then residual contrasts; L = 0 for the full sequence.
        scales: (P, 1): 1 / k, 1 and 2 / (k (k - 1)), factors of b, a, c applied to sums over X.
        responses: (n, L * heads): from the residual contrasts of all shorter heads to one draw of the error that their
            surrogates cause in the ESVs' part of this size, before the softmax.
        borrowed: share of the head's own residual that is added once more.
        own, shared, link, output: operators to the estimates of sizes, of this size (`regression.estimates`); None for
            the full sequence, and in a plan without marginals.
    """

    k: int
    count: int
    member: Tensor
    elements: Tensor | None
    fit: Tensor | None
    readout: Tensor
    scales: Tensor
    responses: Tensor
    borrowed: float
    own: Tensor | None = None
    shared: Tensor | None = None
    link: Tensor | None = None
    output: Tensor | None = None


@dataclass(frozen=True)
class AdjustedPlan:
    """The shape-only part of an attribution by the adjusted estimator (`core.plan.Plan`).

    Attributes:
        n: number of elements.
        sizes: the evaluated sizes, ascending; the last is n.
        bins: (n,) int64 bin of each element.
        pairs: (P_2, 2) int64 bins of the interactions of order 2; empty if the surrogate is additive.
        weights: (n, rows): variance of ESVs per square of a residual contrast, sizes concatenated.
        exact: False.
        mixes: (2, n, sizes - 1): marginals of each scale from the contrasts, and from the means, of each size but n;
            None in a plan without marginals.
        ends: (2, n): marginals of each scale from the value of the empty and of the full sequence; likewise.
    """

    n: int
    sizes: tuple[Size, ...]
    bins: Tensor
    pairs: Tensor
    weights: Tensor
    exact: bool = False
    mixes: Tensor | None = None
    ends: Tensor | None = None

    @property
    def terms(self) -> int:
        """P, the means b, a, c of the surrogate."""
        return self.sizes[0].scales.shape[0]

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
        """Compute the ESVs of a batch of videos (`attribute_adjusted`)."""
        assert output == "probability", "logits have a plan of their own"
        return attribute_adjusted(
            model, features, self, relabelling=relabelling, workspace=workspace, marginals=extras.marginals
        )

    def relabelling(self, keys: Sequence[np.uint64]) -> Int64Array:
        """Return a random permutation (B, n) for each key that keeps elements of one bin together."""
        bins = self.bins.cpu().numpy()
        return np.stack([binned_permutation(key, bins) for key in keys])

    def evaluations(self, scales: Scales | None) -> int:
        """Return the head evaluations per video."""
        return sum(self.rows(scales))

    def rows(self, scales: Scales | None) -> list[int]:
        """Return the number of subsequences of each size whose heads are evaluated."""
        del scales
        return [size.count for size in self.sizes if size.elements is not None]

    def largest(self) -> int:
        """Return the number of subsequences of the largest size."""
        return max(size.count for size in self.sizes)

    def score_rows(self) -> int:
        """Return the rows of scores read and written per video: F of each subsequence."""
        return sum(size.count for size in self.sizes)

    def nbytes(self) -> int:
        """Return the bytes held by the plan's tensors."""
        return total_bytes(self) + sum(total_bytes(size) for size in self.sizes)

    def to(self, device: torch.device, dtype: torch.dtype) -> AdjustedPlan:
        """Copy the plan to a device in a dtype."""
        return replace(moved(self, device, dtype), sizes=tuple(moved(size, device, dtype) for size in self.sizes))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`)."""
        out = tensor_fields(self)
        for size in self.sizes:
            borrowed = torch.tensor(size.borrowed, dtype=torch.float64)
            out |= numbered(size.k, tensor_fields(size) | {"borrowed": borrowed})
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> AdjustedPlan:
        """Rebuild a plan from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        sizes = tuple(
            Size(
                k=k,
                count=parts["member"].shape[1],
                member=parts["member"],
                elements=parts.get("elements"),
                fit=parts.get("fit"),
                readout=parts["readout"],
                scales=parts["scales"],
                responses=parts["responses"],
                borrowed=float(parts["borrowed"]),
                **{name: parts.get(name) for name in ("own", "shared", "link", "output")},
            )
            for k, parts in by_number(tensors)
        )
        return cls(
            len(tensors["bins"]),
            sizes,
            tensors["bins"],
            tensors["pairs"],
            tensors["weights"],
            mixes=tensors.get("mixes"),
            ends=tensors.get("ends"),
        )


def build_adjusted(n: int, *, rows: int, seed: int, scales: Scales | None, marginals: bool = False) -> AdjustedPlan:
    """Build the plan.

    Args:
        n: number of elements.
        rows: most subsequences per size (m times iterations, pooled into one design; n singletons always).
        seed: seed of the draws.
        scales: scales of the model's heads; None for a model that scores every size itself.
        marginals: whether it can give marginals; all else is the same with and without.
    """
    with one_thread():
        return _build(n, rows, seed, scales, marginals)


def _build(n: int, rows: int, seed: int, scales: Scales | None, marginals: bool) -> AdjustedPlan:
    heads = longest_scale(n, scales)
    looked = sizes_of(n, scales)
    smooth_from = 1 if scales is None else min(heads, max(n - 1, 1))
    quadratures = quadrature(n, looked, smooth_from=smooth_from) if looked else np.zeros(0)
    members: dict[int, FloatArray] = {}
    for k in looked:
        if k > heads and n - k in members:
            members[k] = 1.0 - members[n - k]  # antithetic partners
        else:
            members[k] = draw(n, k, rows if k > 1 else n, seed).astype(np.float64)
    shares = {k: len(member) / subsequences_of(n, k) for k, member in members.items()}
    chosen = [Node(k, members[k], shares[k], float(quadratures[i])) for i, k in enumerate(looked)]
    readout = read_out(chosen, n, of_values(n, rows), seed=seed, with_estimates=marginals) if chosen else None
    expected = of_heads(n, rows)
    means = expected.features
    pairs = means.products(2) if means.order > 1 else np.zeros((0, 2), dtype=np.int64)
    sizes, weights, errors = [], [], np.zeros((n + 1 + len(pairs), 0))
    for index, node in enumerate(chosen):
        assert readout is not None
        fit, has_head = None, scales is None or scales.has_head(node.k)
        if scales is not None and has_head:
            fit = fit_head(node.member, node.k, node.share, expected, seed=seed)
        rows_of = readout.contrasts[index]
        divisor = 1.0 if scales is None else scales.divisor(node.k)
        weights += [readout.weights[:, index : index + 1].repeat(len(rows_of), axis=1) / max(len(rows_of), 1)]
        sizes.append(
            Size(
                k=node.k,
                count=len(node.member),
                member=_with_ones(node.member),
                elements=_positions(node.member) if has_head else None,
                fit=None if fit is None else _tensor(np.concatenate([fit.means, fit.contrasts]) * divisor),
                readout=_tensor(np.concatenate([readout.operators[index], rows_of])),
                scales=_scales(n, node.k, len(pairs)),
                responses=_tensor(means.mean_contrasts(node.k) @ errors * (node.weight / n / divisor)),
                borrowed=_borrowed(scales, node.k) if fit is not None and node.share < 1 else 0.0,
                **size_operators(readout.estimates, index),
            )
        )
        if fit is not None:
            errors = np.concatenate([errors, fit.errors], axis=1)
    everything = np.ones((1, n))
    sizes.append(
        Size(
            k=n,
            count=1,
            member=_with_ones(everything),
            elements=_positions(everything) if scales is None or scales.has_head(n) else None,
            fit=None,
            readout=torch.zeros((n, 1), dtype=torch.float64),
            scales=_scales(n, n, len(pairs)),
            responses=torch.zeros((n, 0), dtype=torch.float64),
            borrowed=0.0,
        )
    )
    mix, ends = mixes(n, looked, smooth_from) if marginals else (None, None)
    return AdjustedPlan(
        n,
        tuple(sizes),
        torch.tensor(means.bins, dtype=torch.int64),
        torch.from_numpy(pairs),
        _tensor(np.concatenate([np.zeros((n, 0)), *weights], axis=1)),
        mixes=mix,
        ends=ends,
    )


def sizes_of(n: int, scales: Scales | None) -> list[int]:
    """Return the sizes below n whose subsequences have values of their own, those of the heads among them, ascending.

    Shorter subsequences than the shortest head have the value of the empty sequence, and add nothing.
    """
    if scales is None:
        return nodes(n)
    every = {*nodes(n), *range(1, min(longest_scale(n, scales), n - 1) + 1)}
    return sorted(k for k in every if k >= scales.shortest)


def _borrowed(scales: Scales | None, k: int) -> float:
    """Return the share of the residual of head k that is added to F once more, for all shorter heads together."""
    assert scales is not None, "only heads have residuals"
    return _BORROWED * sum(scales.weights[: k - 1]) / scales.weights[k - 1]


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _with_ones(member: FloatArray) -> Tensor:
    count, n = member.shape
    out = torch.ones((n + 1, count), dtype=torch.uint8)
    out[:n] = torch.from_numpy(member.T.astype(np.uint8))
    return out


def _positions(member: FloatArray) -> Tensor:
    count = len(member)
    return torch.from_numpy(member.nonzero()[1].reshape(count, -1).astype(np.int32))


def _scales(n: int, k: int, pairs: int) -> Tensor:
    parts = [np.full(n, 1 / k), np.ones(1), np.full(pairs, 2 / max(k * (k - 1), 1))]
    return _tensor(np.concatenate(parts)[:, None])
