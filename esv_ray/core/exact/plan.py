"""Plans over lattices: the fixed linear operators that turn values into ESVs, for exact ESVs and for Algorithm 1.

The ESV of element i is

    sum over s of  a[s, i] * (sum of v over evaluated X, |X| = s, that contain i)
                 - b[s, i] * (sum of v over evaluated X, |X| = s, that do not),

with a and b one over counts (Price & Damen 2020, Eq. 4 to 6 and Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.exact.attribution import attribute
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, permutations
from esv_ray.core.lattices.lattice import Lattice, membership
from esv_ray.core.scales import Scales
from esv_ray.core.tensor_fields import by_number, moved, numbered
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output

# A plan keeps its membership matrices up to this size, in the dtype of the products or else as uint8; larger ones are
# computed chunk by chunk.
_MEMBERSHIP_BYTES = 32 * 2**20
_MOST_AT_ONCE = 2**9  # subsequences of a full lattice whose values may be taken together


@dataclass(frozen=True)
class Weights:
    """Coefficients of the sums over a lattice.

    Attributes:
        within: (n + 1, n), ``within[s, i]`` of the sum of values of length s with element i.
        without: (n + 1, n), ``without[s, i]`` of the sum without element i; row 0 is the empty sequence.
        constant: (n + 1, n), contribution of a value that is the same for all subsequences of length s: a pair of means
            cancels it, so it is zero except for the full and the empty sequence and for scales that are left out.
    """

    within: Tensor
    without: Tensor
    constant: Tensor


@dataclass(frozen=True)
class LatticePlan:
    """The shape-only part of an attribution over lattices (`core.plan.Plan`).

    Attributes:
        n: number of elements.
        exact: whether every subsequence is evaluated.
        lattices: one per iteration; a single full one if exact.
        pooled: operator over the sums pooled over iterations.
        single: operator of each iteration alone, for the spread between them; empty for one iteration.
        memberships: per iteration and scale the (N_s, n + 1) matrices, whose rows a chunk takes as they are; None:
            computed chunk by chunk.
        operator: (n, 2^n - 1), `pooled` as one matrix over the values of all subsequences; None unless exact and small.
    """

    n: int
    exact: bool
    lattices: tuple[Lattice, ...]
    pooled: Weights
    single: tuple[Weights, ...]
    memberships: tuple[tuple[Tensor, ...], ...] | None = None
    operator: Tensor | None = None

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
        """Compute the ESVs of a batch of videos (`attribute`)."""
        return attribute(
            model, features, self, output=output, relabelling=relabelling, workspace=workspace, extras=extras
        )

    def relabelling(self, keys: Sequence[np.uint64]) -> Int64Array | None:
        """Return a random permutation (B, n) of the elements for each key; None if exact."""
        return None if self.exact else permutations(keys, self.n)

    def evaluations(self, scales: Scales | None) -> int:
        """Return the head evaluations per video, for a model with heads at some scales (None: any length)."""
        return sum(self.rows(scales))

    def rows(self, scales: Scales | None) -> list[int]:
        """Return the number of subsequences of each scale and iteration whose heads are evaluated."""
        evaluated = range(1, self.n + 1) if scales is None else scales.heads(self.n)
        return [len(lattice.scales[s - 1]) for lattice in self.lattices for s in evaluated]

    def largest(self) -> int:
        """Return the number of subsequences of the largest scale."""
        return max(len(scale) for lattice in self.lattices for scale in lattice.scales)

    def score_rows(self) -> int:
        """Return the rows of scores read and written per video: F of each subsequence, and of each of its parents."""
        rows = 0
        for lattice in self.lattices:
            for s, scale in enumerate(lattice.scales, start=1):
                parents = 0 if s == 1 else s if scale.parents is None else scale.parents.shape[1]
                rows += len(scale) * (1 + parents)
        return rows

    def nbytes(self) -> int:
        """Return the bytes held by lattices and membership matrices."""
        total = sum(lattice.nbytes() for lattice in self.lattices)
        total += 0 if self.operator is None else self.operator.nbytes
        return total + sum(part.nbytes for per_scale in self.memberships or () for part in per_scale)

    def to(self, device: torch.device, dtype: torch.dtype) -> LatticePlan:
        """Copy the plan to a device in a dtype, with its membership matrices if they are small."""
        lattices = tuple(lattice.to(device, dtype) for lattice in self.lattices)
        cells = (self.n + 1) * sum(len(scale) for lattice in lattices for scale in lattice.scales)
        memberships = None
        if cells <= _MEMBERSHIP_BYTES:
            kept = dtype if cells * dtype.itemsize <= _MEMBERSHIP_BYTES else torch.uint8
            memberships = tuple(
                tuple(membership(scale.masks, self.n, kept).t().contiguous() for scale in lattice.scales)
                for lattice in lattices
            )
        single = tuple(moved(weights, device, dtype) for weights in self.single)
        operator = None
        if lattices[0].full and 2**self.n <= _MOST_AT_ONCE:
            operator = _operator(self.lattices[0], self.pooled).to(device, dtype)
        pooled = moved(self.pooled, device, dtype)
        return LatticePlan(self.n, self.exact, lattices, pooled, single, memberships, operator)

    def membership(self, iteration: int, s: int, start: int, stop: int) -> Tensor:
        """Return the (n + 1, stop - start) membership of some subsequences of length s; the last row is ones."""
        dtype = self.pooled.within.dtype
        if self.memberships is not None:
            return self.memberships[iteration][s - 1][start:stop].t().to(dtype)
        return membership(self.lattices[iteration].scales[s - 1].masks[start:stop], self.n, dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`): the lattices, from which all else is computed."""
        out = {"exact": torch.tensor(self.exact)}
        for iteration, lattice in enumerate(self.lattices):
            out |= numbered(iteration, lattice.tensors())
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> LatticePlan:
        """Rebuild a plan from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        lattices = tuple(Lattice.from_tensors(parts) for _, parts in by_number(tensors))
        return lattice_plan(lattices, exact=bool(tensors["exact"]))


def lattice_plan(lattices: tuple[Lattice, ...], *, exact: bool) -> LatticePlan:
    """Compute the operators over lattices of equal n, in float64; sums and counts are pooled over them."""
    n = lattices[0].n
    if exact:
        sizes = torch.tensor([comb(n, s) for s in range(n + 1)], dtype=torch.float64)[:, None].expand(n + 1, n)
        share = torch.arange(n + 1, dtype=torch.float64)[:, None] / n
        counts = [torch.stack([sizes * share, sizes * (1 - share)])]
    else:
        counts = [_counts(lattice) for lattice in lattices]
    single = tuple(_weights(count) for count in counts) if len(counts) > 1 else ()
    return LatticePlan(n, exact, lattices, _weights(torch.stack(counts).sum(dim=0)), single)


def _operator(lattice: Lattice, weights: Weights) -> Tensor:
    """Return the coefficients (n, N) of the values of all N subsequences of a lattice."""
    parts = []
    for s, scale in enumerate(lattice.scales, start=1):
        held = membership(scale.masks, lattice.n, torch.bool)[:-1]  # (n, N_s)
        parts.append(torch.where(held, weights.within[s, :, None], -weights.without[s, :, None]))
    return torch.cat(parts, dim=1)


def _counts(lattice: Lattice) -> Tensor:
    """Return (2, n + 1, n): how many subsequences of each length hold, and do not hold, each element."""
    n = lattice.n
    counts = torch.zeros((2, n + 1, n), dtype=torch.float64)
    counts[1, 0] = 1  # the empty sequence holds no element
    for s, scale in enumerate(lattice.scales, start=1):
        counts[0, s] = membership(scale.masks, n, torch.float32)[:n].sum(dim=1, dtype=torch.float64)
        counts[1, s] = len(scale) - counts[0, s]
    return counts


def _weights(counts: Tensor) -> Weights:
    """Return coefficients from counts (2, n + 1, n).

    A scale whose "with" or "without" group is empty for an element says nothing about it and is left out of that
    element's mean; counted as zero it would bias the ESV.
    """
    held, missed = counts
    known = (held[1:] > 0) & (missed[:-1] > 0)  # (n, n): scale s = 1..n says something about element i
    share = known.double() / known.sum(dim=0)  # (n, n)
    within, without = torch.zeros_like(held), torch.zeros_like(missed)
    within[1:] = torch.where(known, share / held[1:].clamp(min=1), 0.0)
    without[:-1] = torch.where(known, share / missed[:-1].clamp(min=1), 0.0)
    return Weights(within, without, within * held - without * missed)
