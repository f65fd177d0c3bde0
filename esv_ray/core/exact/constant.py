"""The plan of sequences that are shorter than every head: all subsequences have the value of the empty sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array
from esv_ray.core.scales import Scales
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output


@dataclass(frozen=True)
class ConstantPlan:
    """A plan that evaluates nothing: ESVs are 0 (`core.plan.Plan`).

    Attributes:
        n: number of elements.
        exact: True.
    """

    n: int
    exact: bool = True

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
        """Return ESVs and marginals of 0, and the value of the empty sequence as scores."""
        del relabelling
        batch, n, _ = features.shape
        empty = workspace.like(model.empty_value(output))
        return Attribution(
            esv=empty.new_zeros((batch, n, model.n_classes)),
            stderr=None,
            scores=empty.repeat(batch, 1),
            gaps=empty.new_zeros(batch),
            evaluations=0,
            exact=True,
            marginals=empty.new_zeros((batch, n, n, model.n_classes)) if extras.marginals else None,
            values=() if extras.values else None,
        )

    def relabelling(self, keys: Sequence[np.uint64]) -> Int64Array | None:
        """Return None: nothing is sampled."""
        del keys
        return None

    def evaluations(self, scales: Scales | None) -> int:
        """Return 0."""
        del scales
        return 0

    def rows(self, scales: Scales | None) -> list[int]:
        """Return no scales."""
        del scales
        return []

    def largest(self) -> int:
        """Return 1, for batches of any size."""
        return 1

    def score_rows(self) -> int:
        """Return 0."""
        return 0

    def nbytes(self) -> int:
        """Return 0."""
        return 0

    def to(self, device: torch.device, dtype: torch.dtype) -> ConstantPlan:
        """Return the plan itself."""
        del device, dtype
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`)."""
        return {"n": torch.tensor(self.n)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ConstantPlan:
        """Rebuild a plan from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        return cls(int(tensors["n"]))
