"""Set functions of low order: polynomials in membership, the features of surrogates and read-outs.

A function of subsequences X of n elements is written in orthogonal-like features of order 1, 2 and 3: products of
centered memberships x_i = [i in X] - |X| / n of distinct elements. Beyond order 1 elements are taken together in bins,
runs of neighbors in time (bins of one element while n is small): neighboring frames interact alike, and the number of
features does not grow with n. A feature of bins g <= h is the sum of x_i x_j over i in g, j in h, i < j.

Everything needed is in closed form: their mean over all X of a size that contain, or omit, an element,
and the mean of order-2 features over the s-subsets of any X.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb, prod

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_SINGLE_BINS = 24  # elements; in shorter sequences each element is its own bin
BINS = 16  # number of bins of longer sequences


@dataclass(frozen=True)
class Interactions:
    """The interaction features of n elements up to an order.

    Attributes:
        n: number of elements.
        bins: (n,) bin of each element in pairs, ascending: bins are runs of neighbors.
        triple_bins: (n,) likewise in triples.
        order: 1, 2 or 3.
    """

    n: int
    bins: tuple[int, ...]
    triple_bins: tuple[int, ...]
    order: int

    def bins_of(self, d: int) -> npt.NDArray[np.int64]:
        """Return (n,): bin of each element in features of order d."""
        return np.asarray(self.triple_bins if d > 2 else self.bins)

    def sizes(self, d: int) -> npt.NDArray[np.int64]:
        """Return (G,): number of elements of each of those bins."""
        return np.bincount(self.bins_of(d))

    def products(self, d: int) -> npt.NDArray[np.int64]:
        """Return (P_d, d): bins, ascending in each row, of the features of order d that sum at least one product."""
        return _products(tuple(self.sizes(d).tolist()), d)

    def counts(self) -> list[int]:
        """Return the number of features of order 0, 1, .. `order`; those of order 1 are single elements."""
        return [1, self.n, *(len(self.products(d)) for d in range(2, self.order + 1))]

    def features(self, member: FloatArray | BoolArray, k: int) -> FloatArray:
        """Compute features of subsequences of size k, each order scaled to a total variance of about one.

        Args:
            member: (N, n) memberships.
            k: their size.

        Returns:
            (N, sum of counts).
        """
        q, spread = _center(self.n, k)
        out = [np.ones((1, len(member))), (member.T.astype(np.float64) - q) / spread / np.sqrt(self.n)]
        if self.order > 1:
            out.append(self.higher(self.held(member), k).T)
        return np.concatenate(out).T

    def held(self, member: FloatArray | BoolArray) -> FloatArray:
        """Return (N, G): how many elements of each bin the subsequences (N, n) hold."""
        starts = np.flatnonzero(np.diff(self.bins_of(2), prepend=-1))
        return np.add.reduceat(member, starts, axis=1, dtype=np.float64)

    def higher(self, held: FloatArray, k: int) -> FloatArray:
        """Compute the features of orders above 1, which depend on how many elements of each bin are held.

        Args:
            held: (N, G), as returned by `held`.
            k: size of the subsequences.

        Returns:
            (N, sum of counts of these orders).
        """
        q, spread = _center(self.n, k)
        # A feature after the other in memory: its factors are read and multiplied as wholes.
        out = np.empty((sum(self.counts()[2:]), len(held)))
        end = 0
        for d in range(2, self.order + 1):
            counts = np.add.reduceat(held, self._starts(d), axis=1)
            places = _places(tuple(self.sizes(d).tolist()), d)
            table = np.ascontiguousarray(_elementary(counts, self.sizes(d), q, d).T)
            value = out[end : end + len(places)]
            end += len(places)
            np.take(table, places[:, 0], axis=0, out=value)
            for column in places.T[1:]:
                value *= table[column]
            value /= spread**d * np.sqrt(comb(self.n, d))
        return out.T

    def _starts(self, d: int) -> npt.NDArray[np.int64]:
        """Return the first bin of pairs in each bin of order d; each of these is a run of bins of pairs."""
        first = np.flatnonzero(np.diff(self.bins_of(2), prepend=-1))
        return np.flatnonzero(np.diff(self.bins_of(d)[first], prepend=-1))

    def contrasts(self, k: int) -> FloatArray:
        """Return (n, sum of counts): mean of each feature over the X of size k with an element, minus that without it.

        A product of d distinct centered memberships has one mean if it holds the element, and another if not."""
        q, spread = _center(self.n, k)
        return self._contrasts(k, q, [1.0] + [1 / spread**d / np.sqrt(comb(self.n, d)) for d in (1, 2, 3)])

    def bin_contrasts(self, k: int) -> FloatArray:
        """Return (G, counts of orders above 1): `contrasts` of these features for the elements of each bin."""
        q, spread = _center(self.n, k)
        return self._contrasts_by_bin(k, q, [1.0] + [1 / spread**d / np.sqrt(comb(self.n, d)) for d in (1, 2, 3)])

    def means(self, k: int) -> FloatArray:
        """Return (sum of counts,): mean of each feature over all X of size k."""
        q, spread = _center(self.n, k)
        out = [np.ones(1), np.zeros(self.n)]
        for d in range(2, self.order + 1):
            scale = 1 / spread**d / np.sqrt(comb(self.n, d))
            out.append(_terms(tuple(self.sizes(d).tolist()), d) * _moment(self.n, k, q, d) * scale)
        return np.concatenate(out)

    def pair_contrasts(self, k: int) -> FloatArray:
        """Return (G, P_2): contrasts of the part c of the means (`to_means`) for the elements of each bin.

        Those of b are (b_i - mean of b) n / (n - 1) / k, that of a is 0.
        """
        pairs = 2 / max(k * (k - 1), 1)
        return self._contrasts_by_bin(k, 0.0, [1.0, 1 / k, pairs, 0.0])[:, : sum(self.counts()[2:3])]

    def _contrasts(self, k: int, q: float, scales: list[float]) -> FloatArray:
        single = np.full((self.n, self.n), -1 / max(self.n - 1, 1)) * scales[1]
        np.fill_diagonal(single, scales[1])
        higher = self._contrasts_by_bin(k, q, scales)
        return np.concatenate([np.zeros((self.n, 1)), single, higher[self.bins_of(2)]], axis=1)

    def _contrasts_by_bin(self, k: int, q: float, scales: list[float]) -> FloatArray:
        groups = len(self.sizes(2))
        out = [np.zeros((groups, 0))]
        for d in range(2, self.order + 1):
            holding = (1 - q) * _moment(self.n - 1, k - 1, q, d - 1) + q * _moment(self.n - 1, k, q, d - 1)
            missing = _moment(self.n - 1, k - 1, q, d) - _moment(self.n - 1, k, q, d)
            sizes = tuple(self.sizes(d).tolist())
            total, share = _terms(sizes, d), _shares(sizes, d)
            mean = total * (share * holding + (1 - share) * missing)  # (G_d, P_d)
            own = np.repeat(np.arange(len(sizes)), np.diff(self._starts(d), append=groups))
            out.append((mean * scales[d])[own])
        return np.concatenate(out, axis=1)

    def mean_features(self, member: FloatArray | BoolArray, k: int) -> FloatArray:
        """Return what multiplies the means b, a, c (`to_means`) for subsequences (N, n) of size k: (N, n + 1 + P_2)."""
        out = [member / k, np.ones((len(member), 1))]
        if self.order > 1:
            held = self.held(member)
            g, h = self.products(2).T
            same = (g == h).astype(np.float64)
            out.append(held[:, g] * (held[:, h] - same) / (1 + same) * (2 / max(k * (k - 1), 1)))
        return np.concatenate(out, axis=1)

    def to_means(self, s: int, coefficients: FloatArray) -> FloatArray:
        """Map coefficients of the features of order 0 to 2 at size s to those of means.

        f(T) = a + mean over i in T of b_i + mean over pairs in T of c; the mean over the s-subsets T of any X is the
        same expression with means over X (Price & Damen 2020, Eq. 8).

        Args:
            s: the size.
            coefficients: (1 + n + P_2, K).

        Returns:
            (n + 1 + P_2, K): rows b, a, c.
        """
        n = self.n
        q, spread = _center(n, s)
        out = np.empty_like(coefficients)
        scale = 1 / spread / np.sqrt(n)
        single = coefficients[1 : n + 1]
        out[:n] = s * scale * single
        out[n] = coefficients[0] - q * scale * single.sum(axis=0)
        if self.order > 1:
            sizes = self.sizes(2)
            scale = 1 / spread**2 / np.sqrt(comb(n, 2))
            pairs = coefficients[1 + n :]
            out[n + 1 :] = scale * s * (s - 1) / 2 * pairs
            out[n] += scale * q * q * (_terms(tuple(sizes.tolist()), 2) @ pairs)
            g, h = self.products(2).T
            bins = np.arange(len(sizes))[:, None]
            partners = np.where(g == h, (bins == g) * (sizes[g] - 1), (bins == g) * sizes[h] + (bins == h) * sizes[g])
            out[:n] -= (q * s * scale * (partners @ pairs))[self.bins_of(2)]
        return out


@lru_cache(maxsize=1024)
def interactions(n: int, order: int, *, bins: int | None = None, triple_bins: int | None = None) -> Interactions:
    """Return the features of n elements.

    Args:
        n: number of elements.
        order: 1, 2 or 3.
        bins: most bins of pairs; None: one per element up to 24 elements, 16 of nearly equal size beyond.
        triple_bins: most bins of triples; None: the same number.
    """
    count = min(n if n <= MAX_SINGLE_BINS else BINS, bins or n)
    return Interactions(n, _runs(n, count), _runs(n, min(count, triple_bins or n)), order)


def _runs(n: int, count: int) -> tuple[int, ...]:
    return tuple((np.arange(n) * count // n).tolist())


@lru_cache(maxsize=4096)
def _products(sizes: tuple[int, ...], d: int) -> npt.NDArray[np.int64]:
    rows = [
        bins
        for bins in combinations_with_replacement(range(len(sizes)), d)
        if all(bins.count(g) <= sizes[g] for g in set(bins))
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, d)


@lru_cache(maxsize=256)
def _places(sizes: tuple[int, ...], d: int) -> npt.NDArray[np.int64]:
    """Return (P_d, d): the factors of each feature of order d, as columns of `_elementary`."""
    bins = _products(sizes, d)
    times = (bins[:, :, None] == bins[:, None, :]).sum(axis=2)  # how often each entry's bin occurs in its row
    first = np.ones_like(bins, dtype=np.bool_)
    first[:, 1:] = bins[:, 1:] != bins[:, :-1]  # ascending rows
    return np.where(first, 1 + (times - 1) * len(sizes) + bins, 0)


@lru_cache(maxsize=256)
def _terms(sizes: tuple[int, ...], d: int) -> FloatArray:
    """Return (P_d,): number of products of distinct elements that each feature sums."""
    chosen = [1.0, *(float(comb(size, times)) for times in range(1, d + 1) for size in sizes)]
    return np.asarray(np.array(chosen)[_places(sizes, d)].prod(axis=1))


@lru_cache(maxsize=256)
def _shares(sizes: tuple[int, ...], d: int) -> FloatArray:
    """Return (G, P_d): share of the products of each feature that hold an element of a bin."""
    times = (_products(sizes, d)[None] == np.arange(len(sizes))[:, None, None]).sum(axis=2)
    return np.asarray(times / np.array(sizes)[:, None])


def _center(n: int, k: int) -> tuple[float, float]:
    q = k / n
    return q, float(np.sqrt(q * (1 - q))) or 1.0


def _elementary(held: FloatArray, sizes: npt.NDArray[np.int64], q: float, d: int) -> FloatArray:
    """Return (N, 1 + d * G): one, then the elementary symmetric polynomials of orders 1 .. d of each bin.

    Their arguments are the centered memberships of the bin's elements: 1 - q for those held, -q for the others.
    """
    missing = sizes - held
    first = held * (1 - q) - missing * q
    out = [np.ones((len(held), 1)), first]
    if d > 1:
        second = held * (1 - q) ** 2 + missing * q**2
        out.append((first**2 - second) / 2)
    if d > 2:
        third = held * (1 - q) ** 3 - missing * q**3
        out.append((first**3 - 3 * first * second + 2 * third) / 6)
    return np.concatenate(out, axis=1)


def _moment(others: int, held: int, q: float, d: int) -> float:
    """Return the mean of the product of d distinct centered memberships, if `held` of `others` elements are in."""
    total = 0.0
    for j in range(d + 1):
        together = prod(max(held - a, 0) / (others - a) if others > a else 0.0 for a in range(j))
        total += comb(d, j) * (-q) ** (d - j) * together
    return total
