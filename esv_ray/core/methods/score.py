"""F of whole sequences, differentiable in their features: the scores that an attribution reports, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from esv_ray.core.attribution import relabel_positions
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import derive_key
from esv_ray.core.methods.form import Form, Term, form_for
from esv_ray.core.plan import BuildPlan
from esv_ray.core.transfer import to_device
from esv_ray.estimator import Estimator

_HELD = 4  # copies of a chunk's scores or hidden layer that its forward and backward pass hold
# Bytes of a chunk. Paper's dimensions, n = 16, one thread, 10 sequences, ms of a gradient each with 2, 8, 32, 128 MiB:
# 555, 183, 167, 158. Fixed, not by the number of threads: the bits of a result depend on the chunks.
_CPU_CHUNK, _CUDA_CHUNK = 16 * 2**20, 512 * 2**20  # of CUDA not measured
_CHUNK_ROWS = 256  # subsequences in a chunk of as many sequences as are evaluated together


@dataclass(frozen=True, eq=False)
class ScoreFunction:
    """The score of sequences of n elements, by an estimator.

    Attributes:
        model: the model.
        estimator: the estimator; its output is `probability` or `logit`.
        form: the estimator's form for n elements.
        working_set: bytes of a chunk's intermediate results.
    """

    model: VideoModel
    estimator: Estimator
    form: Form
    working_set: int

    def relabelling(self, video_ids: Sequence[str]) -> Tensor | None:
        """Return the permutation of each video's elements (B, n), int32, as in an attribution; None: none is needed."""
        if self.form.plan is None:
            return None
        keys = [derive_key(self.estimator.seed, "relabel", video_id) for video_id in video_ids]
        labels = self.form.plan.relabelling(keys)
        return None if labels is None else to_device(torch.from_numpy(labels.astype(np.int32)), self.model.device)

    def together(self) -> int:
        """Return how many sequences are best evaluated together; it depends on the shape alone."""
        terms = [term for iteration in self.form.iterations for term in iteration]
        widest = max((self._row_bytes(term) for term in terms), default=1)
        return max(1, self.working_set // (_CHUNK_ROWS * widest))

    def scores(self, features: Tensor, relabelling: Tensor | None) -> Tensor:
        """Return the scores (B, C) of features (B, n, D): class probabilities, or logits.

        Args:
            features: (B, n, D) on the model's device and in its dtype.
            relabelling: (B, n), of `relabelling`.
        """
        return self._values(features, relabelling, occluded=False)[0]

    def occluded_scores(self, features: Tensor, relabelling: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the scores (B, C), and those without each element (B, n, C), from the same subsequences.

        Raises:
            ValueError: the form does not hold the coefficients (`Form.occluded`).
        """
        if not self.form.occluded:
            raise ValueError("this form holds no coefficients of sequences without an element")
        values = self._values(features, relabelling, occluded=True)  # (1 + n, B, C)
        without = values[1:].transpose(0, 1)
        if self.form.empty_without:
            without = self._empty(without).expand_as(without)
        elif relabelling is not None:
            without = torch.empty_like(without).scatter_(1, relabelling.long()[..., None].expand_as(without), without)
        return values[0], without

    def _values(self, features: Tensor, relabelling: Tensor | None, *, occluded: bool) -> Tensor:
        """Return the values (K, B, C) of F(X), and of F(X minus i) in the plan's order of elements."""
        rows = 1 + self.form.n if occluded else 1
        if not self.form.iterations:
            # Not a constant for autograd: its gradient is 0.
            zero = 0 * self._numbers(features).sum(dim=(1, 2))[:, None]
            return self._empty(zero).expand(rows, len(features), -1) + zero
        elements = self.model.scorer.embed(features)
        values = [self._value(elements, terms, relabelling, occluded) for terms in self.form.iterations]
        return torch.stack(values).mean(dim=0)

    def _value(self, elements: Tensor, terms: Sequence[Term], relabelling: Tensor | None, occluded: bool) -> Tensor:
        """Return the values (K, B, C) of one iteration."""
        scorer, total = self.model.scorer, None
        for term in terms:
            if term.whole is None and not occluded:
                continue
            laid_out = scorer.lay_out(elements, term.elements.shape[1])
            for start, stop in self._chunks(term, elements):
                part = self._chunk(laid_out, term, start, stop, relabelling, occluded)
                total = part if total is None else total + part
        assert total is not None, "every form has a term"
        return total.softmax(dim=-1) if scorer.softmax and self.estimator.output == "probability" else total

    def _chunk(
        self, laid_out: Tensor, term: Term, start: int, stop: int, relabelling: Tensor | None, occluded: bool
    ) -> Tensor:
        """Return the share (K, B, C) of some subsequences; a gradient recomputes them instead of holding them."""
        scorer, n_classes = self.model.scorer, self.model.n_classes

        def share(laid_out: Tensor) -> Tensor:
            weights = term.coefficients(start, stop, self._numbers(laid_out), occluded=occluded)
            positions = relabel_positions(term.elements[start:stop], relabelling)
            return scorer.weighted(laid_out, positions, weights)[..., :n_classes]

        if torch.is_grad_enabled() and laid_out.requires_grad and stop - start < len(term.elements):
            part: Tensor = checkpoint(share, laid_out, use_reentrant=False, preserve_rng_state=False)
            return part
        return share(laid_out)

    def _chunks(self, term: Term, elements: Tensor) -> list[tuple[int, int]]:
        """Return the ranges of subsequences that are evaluated together."""
        count = len(term.elements)
        rows = max(1, self.working_set // (len(elements) * self._row_bytes(term)))
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]

    def _row_bytes(self, term: Term) -> int:
        """Return the bytes that one subsequence of a sequence takes."""
        scorer, s = self.model.scorer, term.elements.shape[1]
        numbers = scorer.columns(self.model.n_classes) + scorer.width(s) + s * (self.form.n - s + 1)
        return _HELD * numbers * self.model.dtype.itemsize

    def _numbers(self, elements: Tensor) -> Tensor:
        """Return elements in the model's dtype: images are bytes, coefficients are not."""
        return elements if elements.is_floating_point() else elements[..., :0].to(self.model.dtype)

    def _empty(self, like: Tensor) -> Tensor:
        """Return the value of the empty sequence (C,)."""
        return self.model.empty_value(self.estimator.output).to(like)


def score_function(
    model: VideoModel,
    estimator: Estimator,
    n: int,
    *,
    build: BuildPlan | None = None,
    working_set: int | None = None,
) -> ScoreFunction:
    """Return the score of sequences of n elements by an estimator, whose values are the `scores` of an attribution.

    Args:
        model: on its device, in its dtype.
        estimator: the estimator; a kind of `auto` is resolved by its cost.
        n: number of elements.
        build: builds plans; None: `core.plan.build_plan`.
        working_set: bytes of a chunk's intermediate results; None: chosen by the device.

    Raises:
        SpecError: the estimator's output is `logit`, and the model has no logits, or not for every class.
    """
    model.check_output(estimator.output)
    form = form_for(estimator, n, scales=model.scales, dtype=model.dtype, device=model.device, build=build)
    chunk = _CUDA_CHUNK if model.device.type == "cuda" else _CPU_CHUNK
    return ScoreFunction(model, estimator, form, working_set or chunk)
