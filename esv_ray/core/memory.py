"""Memory of an attribution, in bytes: it decides whether exact ESVs are affordable, and the size of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, inf, log

import torch

from esv_ray.core.adjusted.build import sizes_of
from esv_ray.core.adjusted.marginals import operator_sizes
from esv_ray.core.adjusted.needs import joint_bytes, reads_jointly
from esv_ray.core.games.model import VideoModel
from esv_ray.core.lattices.lattice import MAX_FULL, WORD_BITS
from esv_ray.core.recipe import longest_scale, widest_scale
from esv_ray.core.regression.design import nodes, subsequences_of
from esv_ray.core.regression.noise import PROBES
from esv_ray.core.regression.surrogate import CONTRASTS, of_heads, of_logits, of_values
from esv_ray.core.scales import Scales

# Subsequences of the largest scale in a batch. Paper's dimensions, one thread, total over bare products: n = 8 with 32,
# 64, 256 videos 1.70, 1.59, 1.52; n = 12 with 1, 4, 16: 2.61, 1.94, 1.76; n = 14 with 1, 2, 4: 2.10, 2.00, 1.76.
_CPU_ROWS, _MAX_CPU_BATCH = 2**14, 256
_CPU_TERMS = 2304  # n = 16, m = 256, 91 terms, time over Algorithm 1's with 4, 16, 64 videos: 1.75, 1.42, 1.59
_CUDA_ROWS, _MAX_CUDA_BATCH = 2**18, 4096  # not measured

_MAX_COUNTED = 10_000  # elements; plans of longer sequences are approximated
_PARENTS_GUESS = 8  # sampled parents per subsequence of a long sequence; most have one to three


def default_batch(largest: int, device: torch.device, terms: int = 1) -> int:
    """Return how many videos are computed together: enough to share the reading of weights.

    It depends on shape and kind of device alone, so that results have the same bits on all machines of a kind.

    Args:
        largest: subsequences of the largest scale.
        device: the model's device.
        terms: coefficients of an adjusted plan's surrogate, which should stay in a CPU's cache; 1: no surrogate.
    """
    rows, most = (_CUDA_ROWS, _MAX_CUDA_BATCH) if device.type == "cuda" else (_CPU_ROWS, _MAX_CPU_BATCH)
    most = most if device.type == "cuda" else min(most, _CPU_TERMS // terms)
    return max(1, min(most, rows // largest))


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model that determine memory, looked up once since each lookup searches the module.

    Attributes:
        scales: scales of the heads, or None.
        columns: width of scores.
        itemsize: bytes per number.
        feature_dim: numbers held per element, at least D; of an image as many as its bytes take.
        widths: numbers held per subsequence beside its scores, for each head; without heads, for one element: longer
            subsequences hold proportionally more.
        images: whether elements are images.
        longest: most elements of a sequence, or None.
    """

    scales: Scales | None
    columns: int
    itemsize: int
    feature_dim: int
    widths: tuple[int, ...]
    images: bool = False
    longest: int | None = None

    @classmethod
    def of(cls, model: VideoModel) -> Sizes:
        """Look up the sizes of a model."""
        scorer = model.scorer
        widths = tuple(scorer.width(s) for s in range(1, (model.n_max or 1) + 1))
        columns, itemsize = scorer.columns(model.n_classes), model.dtype.itemsize
        dim = -(-model.feature_dim * model.element_dtype.itemsize // itemsize)
        if not scorer.ordered:  # of the elements that are held: features, or what is summed in their place
            dim = max(dim, widths[0])
        return cls(model.scales, columns, itemsize, dim, widths, model.shape is not None, scorer.longest)

    def together(self, n: int, working_set: int) -> int:
        """Return how many videos of images fit a chunk of the work: a subsequence of each is in it."""
        widest = n * self.widths[0] if self.scales is None else max(self.widths)
        return max(1, working_set // max(1, widest * self.itemsize))


def constant_bytes(model: Sizes, n: int, batch: int) -> int:
    """Return the memory of a batch of sequences that are shorter than every head: features and results."""
    return batch * n * (2 * model.columns + 3 * model.feature_dim) * model.itemsize


def exact_bytes(model: Sizes, n: int, *, batch: int, working_set: int, stored: bool) -> int:
    """Return the memory that exact ESVs of a batch of videos of n elements take.

    Args:
        model: sizes of the model.
        n: number of elements.
        batch: number of videos.
        working_set: bytes of a chunk's intermediate results.
        stored: whether the lattice's indices are stored; otherwise each chunk recomputes them.
    """
    heads = longest_scale(n, model.scales)
    masks = 2 * 8 * (1 << n)  # twice while they are built
    kept = index_bytes(n, model.scales) if stored else 0
    return masks + kept + _working_bytes(model, n, heads, comb(n, n // 2), batch, working_set)


def values_bytes(model: Sizes, n: int, batch: int) -> int:
    """Return the memory of the values of all subsequences of a batch, and of what is computed from them."""
    return 2 * batch * (1 << n) * model.columns * model.itemsize


def index_bytes(n: int, scales: Scales | None) -> int:
    """Return the memory of the parents and elements of a full lattice."""
    heads = longest_scale(n, scales)
    parents = 0 if scales is None else n * (1 << (n - 1))
    return 4 * (parents + sum(s * comb(n, s) for s in range(1, heads + 1)))


def sampled_bytes(model: Sizes, n: int, *, m: int, iterations: int, batch: int, working_set: int) -> int:
    """Return the memory of Algorithm 1 for a batch: the plan, building one lattice, and the work."""
    heads = longest_scale(n, model.scales)
    rows = max(n, int(min(m, widest_scale(n))))  # all singletons are evaluated, whatever m is
    words = -(-n // WORD_BITS)
    parents = 0 if model.scales is None else 4 * min(n, _PARENTS_GUESS) * n
    lattice = rows * (8 * words * n + parents + 4 * heads * (heads + 1) // 2)
    making = rows * n * 48  # all one-element extensions of a scale: parts, hashes and order
    weights = 3 * 8 * (n + 1) * n * (iterations + 1)
    return iterations * lattice + making + weights + _working_bytes(model, n, heads, rows, batch, working_set)


def adjusted_bytes(model: Sizes, n: int, *, rows: int, batch: int, working_set: int) -> int:
    """Return the memory of the adjusted estimator for a batch: operators, building them, and the work.

    Args:
        model: sizes of the model.
        n: number of elements.
        rows: most subsequences per size.
        batch: number of videos.
        working_set: bytes of a chunk's intermediate results.
    """
    heads = longest_scale(n, model.scales)
    if reads_jointly(n, rows, model.scales):
        width = model.columns * batch
        plan = joint_bytes(n, rows, model.scales, width=width, itemsize=model.itemsize)
        return plan + _working_bytes(model, n, heads, n, batch, working_set)
    largest = max(n, int(min(rows, widest_scale(n))))
    few = n <= _MAX_COUNTED
    terms = sum(of_values(n, rows).features.counts()) if few else n
    kept = sum(of_heads(n, rows).features.counts()[:3]) if few else n
    sizes = len(nodes(n)) if few else int(12 + 6 * log(n))
    fitted = 0 if model.scales is None else len(model.scales.heads(n))
    operators = (2 * n + 9) * largest * sizes + fitted * (kept + 8) * largest
    # Draws of the errors of F at each size, from the contrasts of all heads; their sums; scores and values with them.
    drawn = 0 if model.scales is None else min(PROBES, largest) * CONTRASTS * (fitted + 1) * sizes
    errors = (
        0 if model.scales is None else (CONTRASTS * (fitted + sizes) + 8 * min(PROBES, largest)) * model.columns * batch
    )
    making = 8 * (sizes * (terms * terms + largest * (2 * n + 9)) + 3 * largest * terms)
    if model.scales is None:  # the plan consists of features of the values: held twice, with their blocks
        making = 2 * making + 2**23
    means = 0 if model.scales is None else 4 * kept * model.columns * batch * model.itemsize
    means += model.itemsize * errors
    return (
        model.itemsize * (operators + drawn)
        + 8 * drawn
        + making
        + means
        + _working_bytes(model, n, heads, largest, batch, working_set)
    )


def logit_bytes(model: Sizes, n: int, *, rows: int | None, batch: int, working_set: int) -> int:
    """Return the memory of ESVs in logits for a batch: subsequences, operators, building them, and the work.

    Args:
        model: sizes of the model.
        n: number of elements.
        rows: most subsequences per scale; None: all.
        batch: number of videos.
        working_set: bytes of a chunk's intermediate results.
    """
    heads = longest_scale(n, model.scales)
    every = range(1, n + 1) if model.scales is None else model.scales.heads(n)
    counted = every[:_MAX_COUNTED]
    totals = [subsequences_of(n, s) for s in counted]
    most = inf if rows is None else max(rows, n)
    kept = [min(size, most) for size in totals]
    if max(kept) == inf:
        return 2**62
    counts = [int(size) for size in kept]
    cells = sum(size * (4 * s + n + 1) for s, size in zip(counted, counts, strict=True))
    # To enumerate them: positions, order and memberships of one scale.
    making = max(size * (14 * s + 3 * n + 40) for s, size in zip(counted, counts, strict=True))
    operators = 0
    sampled = [size for size, total in zip(counts, totals, strict=True) if size < total]
    if sampled:
        few = n <= _MAX_COUNTED
        features = sum(of_logits(n, rows or 0).features.counts()) if few else n + 1
        operators = sum((n + 1 + CONTRASTS) * size * (8 + model.itemsize) for size in sampled)
        making += 8 * (7 * features * features + max(sampled) * (3 * features + 8 * n))
    results = 2 * CONTRASTS * len(sampled) * model.columns * batch * model.itemsize
    work = _working_bytes(model, n, heads, max(counts), batch, working_set, closed=True)
    operators = operators * 3 // 2  # copied while they are converted to the model's dtype
    return 2**22 + (cells + operators + results) * len(every) // len(counted) + making + work


def marginal_bytes(model: Sizes, n: int, *, batch: int, estimated: int = 0) -> int:
    """Return the memory of a batch's marginals, beside that of its ESVs.

    Args:
        model: sizes of the model.
        n: number of elements.
        batch: number of videos.
        estimated: scales whose estimates are kept until all are known; 0 if sums over lattices are added at once.
    """
    # Sums, results in the videos' own order, and those of the batch before; estimates, and a copy without means.
    return n * (3 * n + 2 * estimated) * model.columns * batch * model.itemsize


def adjusted_marginal_bytes(model: Sizes, n: int, *, rows: int, batch: int) -> int:
    """Return the memory of a batch's marginals by the adjusted estimator, operators and building them included.

    Args:
        model: sizes of the model.
        n: number of elements.
        rows: most subsequences per size.
        batch: number of videos.
    """
    if reads_jointly(n, rows, model.scales):
        shape = {"width": model.columns * batch, "itemsize": model.itemsize}
        own = [joint_bytes(n, rows, model.scales, marginals=extra, **shape) for extra in (True, False)]
        return own[0] - own[1] + marginal_bytes(model, n, batch=batch, estimated=len(sizes_of(n, model.scales)))
    few = min(n, _MAX_COUNTED)
    sizes = operator_sizes(few, rows, sizes_of(few, model.scales))
    states = sizes.sizes * sizes.rows * model.columns * batch * model.itemsize
    # Targets of all sizes, held until the last is eliminated; or each size's root, beside its link.
    making = sizes.sizes * sizes.coefficients * (sizes.coefficients if sizes.chained else sizes.columns)
    results = marginal_bytes(model, n, batch=batch, estimated=sizes.sizes)
    return (8 + model.itemsize) * sizes.numbers + 8 * making + states + results


def _working_bytes(
    model: Sizes, n: int, heads: int, largest: int, batch: int, working_set: int, *, closed: bool = False
) -> int:
    """Return the memory of buffers and results of a batch, without the plan."""
    columns, itemsize = model.columns, model.itemsize
    scales = 0 if closed or model.scales is None else 2 * (largest + 1) * columns
    widest = heads * model.widths[0] if model.scales is None else max(model.widths[:heads])
    rows = min(largest, max(1, working_set // (batch * (columns + widest) * itemsize)))
    chunk = rows * (3 * columns + 2 * widest)
    tables = [s * (n - s + 1) * width for s, width in enumerate(model.widths[:heads], start=1)]
    table = 0 if model.scales is None else max(tables)
    results = 6 * n * columns + 3 * n * model.feature_dim
    return batch * (scales + chunk + table + results) * itemsize


def largest_fitting(needs: Callable[[int], int], budget: int, most: int) -> int:
    """Return the largest of 1..most whose needs, which must increase, are within the budget; 0 if there is none."""
    if needs(most) <= budget:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needs(middle) <= budget else (low, middle)
    return low


def longest_exact(model: Sizes, budget: int, *, working_set: int, marginals: bool = False) -> int:
    """Return the largest n whose exact ESVs, and marginals if requested, fit, one video at a time."""

    def needs(n: int) -> int:
        own = exact_bytes(model, n, batch=1, working_set=working_set, stored=False)
        return own + (marginal_bytes(model, n, batch=1) if marginals else 0)

    return largest_fitting(needs, budget, MAX_FULL)


def format_bytes(size: float) -> str:
    """Format bytes with a decimal unit, e.g. "268 MB"."""
    size = min(size, 10**300)  # an int may exceed the range of floats
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000 or unit == "PB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError
