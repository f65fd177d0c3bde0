"""What a memory budget allows an estimator to do: exact ESVs or sampling, lengths, batch sizes, stored lattices."""

from __future__ import annotations

from dataclasses import dataclass

from esv_ray.core.attribution import NO_EXTRAS, Extras
from esv_ray.core.lattices.lattice import MAX_FULL
from esv_ray.core.memory import (
    Sizes,
    adjusted_bytes,
    adjusted_marginal_bytes,
    constant_bytes,
    exact_bytes,
    format_bytes,
    index_bytes,
    largest_fitting,
    logit_bytes,
    longest_exact,
    marginal_bytes,
    sampled_bytes,
    values_bytes,
)
from esv_ray.core.recipe import closed_form, complete, is_constant, resolve, subsequence_counts
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Resolved

# Beyond it, the needs of sampling grow with n. Largest step down: n = 130, for m = 4 to 256 and 1 to 4 iterations.
# Where plans of `adjusted` become linear in n (`regression.joint.is_joint`), needs may step down by up to 7 %.
_LAST_STEP = 256


@dataclass(frozen=True)
class Budget:
    """A memory budget for an estimator and a model.

    Attributes:
        estimator: the estimator.
        model: sizes of the model.
        n_bytes: bytes that plan, buffers and videos may take together.
        working_set: bytes of a chunk's intermediate results.
        extras: what attributions return besides ESVs.
    """

    estimator: Estimator
    model: Sizes
    n_bytes: int
    working_set: int
    extras: Extras = NO_EXTRAS

    def kind(self, n: int) -> Resolved:
        """Return the kind that the estimator resolves to for n elements; `auto` is exact only if that fits."""
        kind = resolve(self.estimator, n, self.model.scales)
        if kind == "exact" and not complete(self.estimator, n, self.model.scales) and not self._fits(n, "exact"):
            return "adjusted"
        return kind

    def fits(self, n: int) -> bool:
        """Return whether one video of n elements fits."""
        return not self._too_long(n) and self._fits(n, self.kind(n))

    def check(self, n: int) -> None:
        """Refuse lengths that do not fit, before any work.

        Raises:
            SpecError: names n, the memory needed, the largest n that fits, and what to use instead; or the model takes
                no sequence of this length.
        """
        if self._too_long(n):
            raise SpecError(
                f"the model takes sequences of at most {self.model.longest} elements, got n = {n}: sample frames, for "
                f"example with frames={self.model.longest}"
            )
        kind = self.kind(n)
        if self._fits(n, kind):
            return
        needed = f"{format_bytes(self._needs(n, kind))} of memory"
        available = f"but only {format_bytes(self.n_bytes)} is available"
        if kind == "exact":
            # Sampling with an m that covers every subsequence is exact, too.
            instead = "the estimator adjusted or auto" if self.estimator.kind == "exact" else "a smaller m"
            count, longest = f"2^{n} - 1", self._longest_exact(n)
            if self._closed(kind) and self.model.scales is not None:
                count = f"{sum(subsequence_counts(n, self.model.scales)):.3g}"
            raise SpecError(
                f"exact ESVs of n = {n} elements evaluate {count} subsequences and take {needed}, {available}; the "
                f"largest n that fits is {min(longest, n)}: sample frames, or use {instead}"
            )
        raise SpecError(
            f"sampling subsequences of n = {n} elements with m = {self.estimator.m} and {self.estimator.iterations} "
            f"iteration(s) takes {needed}, {available}; {self._what_fits(n)}: sample frames, or use a smaller m"
        )

    def largest_batch(self, n: int, preferred: int) -> int:
        """Return how many videos of n elements fit together, from 1 to `preferred`."""
        kind = self.kind(n)
        if self.model.images:
            preferred = min(preferred, self.model.together(n, self.working_set))
        return max(1, largest_fitting(lambda batch: self._needs(n, kind, batch), self.n_bytes, preferred))

    def needed_bytes(self, n: int, batch: int) -> int:
        """Return the memory that a batch of videos of n elements takes, its plan included."""
        return self._needs(n, self.kind(n), batch)

    def stored(self, n: int) -> bool:
        """Return whether a full lattice stores its indices; otherwise each chunk recomputes them, which is slower."""
        if n > MAX_FULL or is_constant(n, self.model.scales) or 4 * index_bytes(n, self.model.scales) > self.n_bytes:
            return False
        needed = exact_bytes(self.model, n, batch=1, working_set=self.working_set, stored=True)
        return needed + self._needs_of_extras(n, "exact", 1) <= self.n_bytes

    def _needs(self, n: int, kind: Resolved, batch: int = 1) -> int:
        """Return the bytes that a batch takes with an estimator of a kind."""
        return self._needs_of_esvs(n, kind, batch) + self._needs_of_extras(n, kind, batch)

    def _needs_of_extras(self, n: int, kind: Resolved, batch: int) -> int:
        """Return the bytes that a batch takes for what it returns besides ESVs."""
        model = self.model
        if not self.extras.marginals:
            return 0
        if is_constant(n, model.scales):
            return marginal_bytes(model, n, batch=batch)
        if self._closed(kind):
            estimated = n if model.scales is None else len(model.scales.heads(n))
            return marginal_bytes(model, n, batch=batch, estimated=estimated)
        if kind == "adjusted":
            rows = self.estimator.m * self.estimator.iterations
            return adjusted_marginal_bytes(model, n, rows=rows, batch=batch)
        return marginal_bytes(model, n, batch=batch)

    def _needs_of_esvs(self, n: int, kind: Resolved, batch: int) -> int:
        """Return the bytes that a batch takes for its ESVs."""
        model, estimator, chunk = self.model, self.estimator, self.working_set
        if is_constant(n, model.scales):
            return constant_bytes(model, n, batch)
        rows = estimator.m * estimator.iterations
        if self._closed(kind):
            return logit_bytes(model, n, rows=None if kind == "exact" else rows, batch=batch, working_set=chunk)
        if kind == "adjusted":
            return adjusted_bytes(model, n, rows=rows, batch=batch, working_set=chunk)
        if kind == "algorithm1":
            m, iterations = estimator.m, estimator.iterations
            return sampled_bytes(model, n, m=m, iterations=iterations, batch=batch, working_set=chunk)
        n = min(n, 64)  # beyond any memory already; larger numbers only take time
        needed = exact_bytes(model, n, batch=batch, working_set=chunk, stored=self.stored(n))
        return needed + (values_bytes(model, n, batch) if self.extras.values else 0)

    def _fits(self, n: int, kind: Resolved) -> bool:
        scales = self.model.scales
        feasible = kind != "exact" or n <= MAX_FULL or self._closed(kind) or is_constant(n, scales)
        return feasible and self._needs(n, kind) <= self.n_bytes

    def _too_long(self, n: int) -> bool:
        return self.model.longest is not None and n > self.model.longest

    def _closed(self, kind: Resolved) -> bool:
        """Return whether ESVs of a kind take the closed form (`recipe_for`)."""
        return closed_form(self.estimator, self.model.scales) and not (self.extras.values and kind == "exact")

    def _what_fits(self, n: int) -> str:
        """Return the largest n that fits, in words, for n elements whose sampled subsequences do not.

        The memory that sampling needs grows with n, except for a few steps down: a short sequence of which all
        subsequences are evaluated takes more than a longer one of which only a few are. So longer sequences may fit.
        """
        shorter = largest_fitting(lambda at: 0 if self.fits(at) else self.n_bytes + 1, self.n_bytes, n)
        # Above `shorter` the search met lengths that do not fit; where needs step down, some longer ones may fit.
        shorter = next((at for at in range(min(n - 1, _LAST_STEP), shorter, -1) if self.fits(at)), shorter)
        longer = any(self.fits(at) for at in range(n + 1, _LAST_STEP + 1))
        if not shorter:
            return "no shorter sequence fits"
        return f"the largest {f'n below {n}' if longer else 'n'} that fits is {shorter}"

    def _longest_exact(self, n: int) -> int:
        """Return the largest number of elements, at most about n, whose exact ESVs fit."""
        if self.extras.values or self._closed("exact"):
            most = min(n, MAX_FULL) if self.extras.values else n
            return largest_fitting(lambda n: self._needs(n, "exact"), self.n_bytes, most)
        marginals = self.extras.marginals
        return longest_exact(self.model, self.n_bytes, working_set=self.working_set, marginals=marginals)
