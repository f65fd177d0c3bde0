"""The plan of the adjusted estimator: its subsequences, and fixed operators over them. Shape only, no features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.adjusted.attribution import attribute_adjusted
from esv_ray.core.adjusted.joint import JointOperators
from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, binned_permutation
from esv_ray.core.scales import Scales
from esv_ray.core.tensor_fields import by_number, moved, numbered, tensor_fields, total_bytes
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output


@dataclass(frozen=True)
class Size:
    """The evaluated subsequences of one size, and operators on their values.

    Tensors are in the model's dtype and on its device.

    Attributes:
        k: the size.
        count: N, number of evaluated subsequences.
        member: (n + 1, N) uint8, the last row ones; None if it is single.
        elements: (N, k) int32 ascending; None if no head is evaluated, or if it is single.
        fit: (P + L, N) from f^k / k to the means b, a, c of f^k and its residual contrasts (L = 0 if all subsequences
            of the size are evaluated and there are no more of them than means); None without a head, or for the full
            sequence.
        readout: (n + L, N): contrasts of values by elements, then residual contrasts; L = 0 for the full sequence. In
            a plan with joint operators (L, N), and L = 0 if all subsequences of the size are evaluated.
        scales: (P, 1): 1 / k, 1 and 2 / (k (k - 1)), factors of b, a, c applied to sums over X.
        errors: (P, L): from the head's residual contrasts to one draw of the error of its surrogate's means; None if
            they have none.
        single_response: (1,) factor of the error of b, less its mean, in the ESVs' part of this size, before softmax.
        pair_response: (G, P_2): the same of the error of c, for the elements of each bin.
        borrowed: share of the head's own residual that is added once more.
        evaluated: whether the head is evaluated.
        single: whether the subsequences are all n of size 1, or all of size n - 1: subsequence i is, or lacks, element
            i. Then the head's means are its scores themselves, and there is no `fit`.
        share: N / C(n, k); 0 for the full sequence, whose value is no mean over others.
        own, shared, link, output: operators from this size's values to the estimates of sizes
            (`regression.estimates`); None for the full sequence, and in a plan without marginals.
        noise, signs: `regression.noise.Noise` at some of the subsequences; None if F has no error there.
    """

    k: int
    count: int
    member: Tensor | None
    elements: Tensor | None
    fit: Tensor | None
    readout: Tensor
    scales: Tensor
    errors: Tensor | None
    single_response: Tensor
    pair_response: Tensor
    borrowed: float
    evaluated: bool
    single: bool = False
    share: float = 0.0
    own: Tensor | None = None
    shared: Tensor | None = None
    link: Tensor | None = None
    output: Tensor | None = None
    noise: Tensor | None = None
    signs: Tensor | None = None

    def memberships(self, start: int, stop: int, n: int, dtype: torch.dtype) -> Tensor:
        """Return the memberships (n + 1, R) of some subsequences of n elements, the last row ones."""
        if self.member is not None:
            return self.member[:, start:stop].to(dtype)
        out = torch.full((n + 1, stop - start), float(self.k != 1), dtype=dtype, device=self.readout.device)
        out[start:stop].fill_diagonal_(float(self.k == 1))
        out[n] = 1
        return out

    def positions(self, start: int, stop: int) -> Tensor:
        """Return the positions (R, k) of some subsequences whose heads are evaluated, int32, ascending."""
        if self.elements is not None:
            return self.elements[start:stop]
        assert self.single, "others have elements where heads are evaluated"
        own = torch.arange(start, stop, dtype=torch.int32, device=self.readout.device)[:, None]
        if self.k == 1:
            return own
        every = torch.arange(self.k, dtype=torch.int32, device=own.device)
        return every + (every >= own).int()


@dataclass(frozen=True)
class AdjustedPlan:
    """The shape-only part of an attribution by the adjusted estimator (`core.plan.Plan`).

    Attributes:
        n: number of elements.
        sizes: the evaluated sizes, ascending; the last is n.
        bins: (n,) int64 bin of each element.
        pairs: (P_2, 2) int64 bins of the interactions of order 2; empty if the surrogate is additive.
        weights: (n, rows): variance of ESVs per square of a residual contrast, sizes concatenated, then per square of a
            random sum of changes of v (`Size.signs`), likewise; (1, rows) with joint operators, the mean over elements.
        exact: False.
        mixes: (2, n, sizes - 1): marginals of each scale from the contrasts, and from the means, of each size but n;
            None in a plan without marginals.
        joint: operators that read out all sizes together, of long sequences; None: each size has a `readout`.
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
    joint: JointOperators | None = None

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
        return np.stack([binned_permutation(key, self._host_bins) for key in keys])

    @cached_property
    def _host_bins(self) -> Int64Array:
        """The bins in host memory: fetching them for each batch would wait for the device."""
        return self.bins.cpu().numpy()

    def evaluations(self, scales: Scales | None) -> int:
        """Return the head evaluations per video."""
        return sum(self.rows(scales))

    def rows(self, scales: Scales | None) -> list[int]:
        """Return the number of subsequences of each size whose heads are evaluated."""
        del scales
        return [size.count for size in self.sizes if size.evaluated]

    def largest(self) -> int:
        """Return the number of subsequences of the largest size."""
        return max(size.count for size in self.sizes)

    def score_rows(self) -> int:
        """Return the rows of scores read and written per video: F of each subsequence."""
        return sum(size.count for size in self.sizes)

    def nbytes(self) -> int:
        """Return the bytes held by the plan's tensors."""
        joint = 0 if self.joint is None else total_bytes(self.joint)
        return total_bytes(self) + joint + sum(total_bytes(size) for size in self.sizes)

    def to(self, device: torch.device, dtype: torch.dtype) -> AdjustedPlan:
        """Copy the plan to a device in a dtype."""
        sizes = tuple(moved(size, device, dtype) for size in self.sizes)
        joint = None if self.joint is None else moved(self.joint, device, dtype)
        return replace(moved(self, device, dtype), sizes=sizes, joint=joint)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`)."""
        out = tensor_fields(self) | ({} if self.joint is None else self.joint.tensors())
        for size in self.sizes:
            numbers = [size.count, size.borrowed, size.evaluated, size.single, size.share]
            out |= numbered(size.k, tensor_fields(size) | {"numbers": torch.tensor(numbers, dtype=torch.float64)})
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> AdjustedPlan:
        """Rebuild a plan from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        sizes = []
        for k, parts in by_number(tensors):
            count, borrowed, evaluated, single, share = parts["numbers"].tolist()
            optional = ("member", "elements", "fit", "errors", "own", "shared", "link", "output", "noise", "signs")
            sizes.append(
                Size(
                    k=k,
                    count=int(count),
                    readout=parts["readout"],
                    scales=parts["scales"],
                    single_response=parts["single_response"],
                    pair_response=parts["pair_response"],
                    borrowed=borrowed,
                    evaluated=bool(evaluated),
                    single=bool(single),
                    share=share,
                    **{name: parts.get(name) for name in optional},
                )
            )
        return cls(
            len(tensors["bins"]),
            tuple(sizes),
            tensors["bins"],
            tensors["pairs"],
            tensors["weights"],
            mixes=tensors.get("mixes"),
            ends=tensors.get("ends"),
            joint=JointOperators.from_tensors(tensors),
        )
