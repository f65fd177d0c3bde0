"""A request for an estimator of ESVs."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from esv_ray.errors import SpecError

Kind = Literal["auto", "exact", "algorithm1", "adjusted"]
Resolved = Literal["exact", "algorithm1", "adjusted"]
Output = Literal["probability", "logit"]
Method = Literal["integrated_gradients", "grad_cam", "occlusion", "random"]
"""Other methods of attribution than ESVs (`core.methods`)."""


@dataclass(frozen=True)
class Estimator:
    """A request for an estimator of ESVs.

    Attributes:
        kind: `exact`; `algorithm1`, the paper's sampling; `adjusted`, sampling with regression, more accurate; `auto`:
            exact if that costs no more than sampling, else adjusted.
        m: most subsequences sampled per scale and iteration.
        iterations: iterations of the sampling, pooled: independent repetitions; for `adjusted`, a factor on m.
        seed: seed of the sampling.
        tolerance: double the iterations until the mean standard error of the chosen classes is at most this share of
            their mean |ESV| (the paper's relative error), and Algorithm 1 has run at least four; None: exactly
            `iterations`.
        max_iterations: limit for videos that do not meet the tolerance.
        output: the attributed score: class probabilities, or the logits F before the softmax. For logits `exact` and
            `adjusted` evaluate subsequences up to the longest head only (`core.logit.plan`).
    """

    kind: Kind = "auto"
    m: int = 1024
    iterations: int = 4
    seed: int = 0
    tolerance: float | None = None
    max_iterations: int = 64
    output: Output = "probability"

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            SpecError: a value is out of its range.
            ValueError: a value has the wrong type.
        """
        for name in ("m", "iterations", "seed", "max_iterations"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name}: expected a whole number, got {value!r}")
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, int | float | None):
            raise ValueError(f"tolerance: expected a number or None, got {self.tolerance!r}")
        if self.kind not in get_args(Kind):
            raise SpecError(f"estimator: expected auto, exact, algorithm1 or adjusted, got {self.kind!r}")
        if self.output not in get_args(Output):
            raise SpecError(f"estimator: expected the output probability or logit, got {self.output!r}")
        if self.m < 1 or self.iterations < 1:
            raise SpecError(
                f"estimator: expected m and iterations of at least 1, got m = {self.m}, iterations = {self.iterations}"
            )
        if self.tolerance is not None and not 0 < self.tolerance < inf:
            raise SpecError(
                f"estimator: expected a tolerance above 0, a share of the ESVs such as 0.05, got {self.tolerance}"
            )
        if self.max_iterations < 1:
            raise SpecError(f"estimator: expected max_iterations of at least 1, got {self.max_iterations}")
        if self.tolerance is not None and self.max_iterations < self.iterations:
            raise SpecError(
                f"estimator: expected max_iterations of at least iterations = {self.iterations}, "
                f"got {self.max_iterations}"
            )
