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

MAX_SINGLE_BINS = 24  # elements; in shorter sequences each element is its own bin
_BINS = 16  # number of bins of longer sequences


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

    def features(self, member: FloatArray, k: int) -> FloatArray:
        """Compute features of subsequences of size k, each order scaled to a total variance of about one.

        Args:
            member: (N, n) memberships.
            k: their size.

        Returns:
            (N, sum of counts).
        """
        q, spread = _center(self.n, k)
        out = [np.ones((len(member), 1)), (member - q) / spread / np.sqrt(self.n)]
        for d in range(2, self.order + 1):
            held = _bin_sums(member, self.bins_of(d))  # (N, G)
            elementary = [_elementary(held, self.sizes(d), q, j) for j in range(d + 1)]
            bins = self.products(d)
            value = np.ones((len(member), len(bins)))
            for g, times in _multiplicities(bins):
                value *= np.where(times[None] > 0, _choose(elementary, g, times), 1.0)
            out.append(value / spread**d / np.sqrt(comb(self.n, d)))
        return np.concatenate(out, axis=1)

    def contrasts(self, k: int) -> FloatArray:
        """Return (n, sum of counts): mean of each feature over the X of size k with an element, minus that without it.

        A product of d distinct centered memberships has one mean if it holds the element, and another if not."""
        q, spread = _center(self.n, k)
        return self._contrasts(k, q, [1.0] + [1 / spread**d / np.sqrt(comb(self.n, d)) for d in (1, 2, 3)])

    def means(self, k: int) -> FloatArray:
        """Return (sum of counts,): mean of each feature over all X of size k."""
        q, spread = _center(self.n, k)
        out = [np.ones(1), np.zeros(self.n)]
        for d in range(2, self.order + 1):
            scale = 1 / spread**d / np.sqrt(comb(self.n, d))
            out.append(_terms(self.products(d), self.sizes(d)) * _moment(self.n, k, q, d) * scale)
        return np.concatenate(out)

    def mean_contrasts(self, k: int) -> FloatArray:
        """Return the contrasts of the means b, a, c of `to_means`: (n, n + 1 + P_2)."""
        plain = self._contrasts(k, 0.0, [1.0, 1 / k, 2 / max(k * (k - 1), 1), 0.0])
        kept = sum(self.counts()[:3])
        return np.concatenate([plain[:, 1 : self.n + 1], plain[:, :1], plain[:, self.n + 1 : kept]], axis=1)

    def _contrasts(self, k: int, q: float, scales: list[float]) -> FloatArray:
        out = [np.zeros((self.n, 1))]
        for d in range(1, self.order + 1):
            holding = (1 - q) * _moment(self.n - 1, k - 1, q, d - 1) + q * _moment(self.n - 1, k, q, d - 1)
            missing = _moment(self.n - 1, k - 1, q, d) - _moment(self.n - 1, k, q, d)
            if d == 1:
                mean = np.where(np.eye(self.n) > 0, holding, missing)
            else:
                bins, sizes = self.products(d), self.sizes(d)
                total = _terms(bins, sizes)  # number of products per feature
                times = (bins[None] == np.arange(len(sizes))[:, None, None]).sum(axis=2)  # (G, P_d)
                share = (times / sizes[:, None])[self.bins_of(d)]  # share of the products that hold the element
                mean = total * (share * holding + (1 - share) * missing)
            out.append(mean * scales[d])
        return np.concatenate(out, axis=1)

    def to_means(self, s: int) -> FloatArray:
        """Return the map from coefficients of the features of order 0 to 2 at size s to those of means.

        f(T) = a + mean over i in T of b_i + mean over pairs in T of c; the mean over the s-subsets T of any X is the
        same expression with means over X (Price & Damen 2020, Eq. 8).

        Returns:
            (n + 1 + P_2, 1 + n + P_2): rows b, a, c.
        """
        n, sizes = self.n, self.sizes(2)
        q, spread = _center(n, s)
        pairs = self.products(2) if self.order > 1 else np.zeros((0, 2), dtype=np.int64)
        out = np.zeros((n + 1 + len(pairs), 1 + n + len(pairs)))
        out[n, 0] = 1
        scale = 1 / spread / np.sqrt(n)
        out[:n, 1 : n + 1] = s * scale * np.eye(n)
        out[n, 1 : n + 1] = -q * scale
        if len(pairs):
            scale = 1 / spread**2 / np.sqrt(comb(n, 2))
            columns = np.arange(len(pairs))
            out[n + 1 + columns, 1 + n + columns] = scale * s * (s - 1) / 2
            out[n, 1 + n :] = scale * q * q * _terms(pairs, sizes)
            bins = self.bins_of(2)[:, None]
            g, h = pairs[:, 0], pairs[:, 1]
            partners = np.where(g == h, (bins == g) * (sizes[g] - 1), (bins == g) * sizes[h] + (bins == h) * sizes[g])
            out[:n, 1 + n :] = -q * s * scale * partners
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
    count = min(n if n <= MAX_SINGLE_BINS else _BINS, bins or n)
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


def _terms(bins: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> FloatArray:
    """Return (P,): number of products of distinct elements that each feature sums."""
    return np.array(
        [prod(comb(int(sizes[g]), row.count(g)) for g in set(row)) for row in bins.tolist()], dtype=np.float64
    )


def _center(n: int, k: int) -> tuple[float, float]:
    q = k / n
    return q, float(np.sqrt(q * (1 - q))) or 1.0


def _bin_sums(member: FloatArray, bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return np.add.reduceat(member, starts, axis=1).astype(np.int64)


def _elementary(held: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], q: float, d: int) -> FloatArray:
    """Return elementary symmetric polynomials of order d of each bin's centered memberships, (N, G), from counts."""
    out = np.zeros(held.shape)
    for g, size in enumerate(sizes.tolist()):
        table = np.array(
            [
                sum(comb(y, j) * comb(size - y, d - j) * (1 - q) ** j * (-q) ** (d - j) for j in range(d + 1))
                for y in range(size + 1)
            ]
        )
        out[:, g] = table[held[:, g]]
    return out


def _multiplicities(bins: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return for each column the bin, and how often it occurs in its row; 0 unless this is its first occurrence."""
    out = []
    for column in range(bins.shape[1]):
        g = bins[:, column]
        first = (bins[:, :column] != g[:, None]).all(axis=1)
        out.append((g, np.where(first, (bins == g[:, None]).sum(axis=1), 0)))
    return out


def _choose(elementary: list[FloatArray], g: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> FloatArray:
    out = np.ones((len(elementary[0]), len(g)))
    for d in range(1, len(elementary)):
        chosen = times == d
        if chosen.any():
            out[:, chosen] = elementary[d][:, g[chosen]]
    return out


def _moment(others: int, held: int, q: float, d: int) -> float:
    """Return the mean of the product of d distinct centered memberships, if `held` of `others` elements are in."""
    total = 0.0
    for j in range(d + 1):
        together = prod(max(held - a, 0) / (others - a) if others > a else 0.0 for a in range(j))
        total += comb(d, j) * (-q) ** (d - j) * together
    return total
