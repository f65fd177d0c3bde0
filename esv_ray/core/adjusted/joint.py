"""The read-out of long sequences: from the values of all sizes to ESVs at once (`regression.joint`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.regression.joint import Joint
from esv_ray.core.tensor_fields import tensor_fields

if TYPE_CHECKING:
    from esv_ray.core.adjusted.plan import Size

_PREFIX = "joint_"
_ROWS = 2**24  # numbers of memberships converted at once: bounds the memory beside the buffers


@dataclass(frozen=True)
class JointOperators:
    """The operators of a plan whose sizes are read out together: tensors of `regression.joint.Joint`."""

    bins: Tensor
    predict: Tensor
    solve: Tensor
    fine: Tensor
    own_fine: Tensor
    single: Tensor
    coarse: Tensor
    own_coarse: Tensor
    means: Tensor

    @classmethod
    def of(cls, joint: Joint) -> JointOperators:
        """Take the operators, on the CPU and in float64."""
        return cls(*(torch.from_numpy(np.ascontiguousarray(getattr(joint, part.name))) for part in fields(cls)))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name (`from_tensors`)."""
        return {_PREFIX + name: tensor for name, tensor in tensor_fields(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> JointOperators | None:
        """Rebuild the operators from their `tensors`; None if there are none.

        Raises:
            KeyError: a tensor is missing.
        """
        if not any(name.startswith(_PREFIX) for name in tensors):
            return None
        return cls(*(tensors[_PREFIX + part.name] for part in fields(cls)))


class JointValues:
    """The values of a batch at all sizes but n, collected to be read out together."""

    def __init__(self, sizes: Sequence[Size], joint: JointOperators, width: int, like: Tensor) -> None:
        """Allocate the values.

        Args:
            sizes: all sizes but n.
            joint: the operators.
            width: W, columns of the values.
            like: on the device, in the dtype.
        """
        self._sizes, self._joint, self._bins = sizes, joint, joint.bins
        groups = joint.coarse.shape[1]
        counts = like.new_zeros(groups).index_add_(0, self._bins, like.new_ones(len(self._bins)))
        self._inverse = (1 / counts)[:, None]
        self._rows = like.new_zeros((sum(size.count for size in sizes if not size.single), width))
        self._values: list[Tensor] = []
        start = 0
        for size in sizes:
            if size.single:
                self._values.append(like.new_zeros((size.count, width)))
            else:
                self._values.append(self._rows[start : start + size.count])
                start += size.count

    def of(self, index: int) -> Tensor:
        """Return the values (N, W) of a size, to be filled."""
        return self._values[index]

    def read_out(self) -> tuple[Tensor, Tensor | None]:
        """Apply the operators; the values are overwritten.

        Returns:
            (n, W): ESVs minus the equal share of v(all) - v(none), and, if the operators include them, the estimates
            (sizes, n + 1, W): contrasts of each size and, below them, its mean.
        """
        joint, bins, means = self._joint, self._bins, []
        singles: list[Tensor] = []
        rows = [self._rows]
        for size, values in zip(self._sizes, self._values, strict=True):
            means.append(values.mean(dim=0))
            values -= means[-1]
            if size.single:
                rows.append(self._bin_means(values))
                values -= rows[-1][bins]
                singles.append(values)
        y = torch.cat(rows)
        sampled = [size for size in self._sizes if not size.single]
        places = _places(sampled)
        # Where all subsequences of a size are evaluated, its own contrasts are sums of values as they are.
        known = {index: y[places[index]].clone() for index, size in enumerate(sampled) if not len(size.readout)}
        coarse = torch.einsum("jgt,tw->jgw", joint.own_coarse, y)
        for index, size in enumerate(sampled):
            if singles:
                predicted = sum((joint.predict[index, s] * single for s, single in enumerate(singles)), start=0 * y[:1])
                for start, stop in _chunks(size, len(bins)):
                    member = size.memberships(start, stop, len(bins), y.dtype)[:-1]
                    y[places[index]][start:stop].addmm_(member.t(), predicted, alpha=-1)
        z = torch.mm(joint.solve, y)
        coarse += torch.einsum("jgt,tw->jgw", joint.coarse, z)
        fine = y.new_zeros((len(joint.fine), len(bins), y.shape[1]))
        for index, size in enumerate(sampled):
            _add(fine, joint.fine[:, index], _summed(size, z[places[index]], len(bins)))
            if index in known:
                _add(fine, joint.own_fine[:, index], _summed(size, known[index], len(bins)))
        out = [part - self._bin_means(part)[bins] + own[bins] for part, own in zip(fine, coarse, strict=True)]
        for s, single in enumerate(singles):
            for target, part in enumerate(out):
                part += joint.single[target, s] * single
        esv = out[0] - out[0].mean(dim=0)  # contrasts add up to zero: to rounding, not to what rounding left above
        if not len(joint.means):
            return esv, None
        mean = torch.stack(means) + joint.means @ z
        return esv, torch.cat([torch.stack(out[1:]), mean[:, None]], dim=1)

    def _bin_means(self, values: Tensor) -> Tensor:
        """Return (G, W) means over each bin of values (n, W)."""
        sums = values.new_zeros((len(self._inverse), values.shape[1]))
        return sums.index_add_(0, self._bins, values).mul_(self._inverse)


def _places(sizes: Sequence[Size]) -> list[slice]:
    """Return the rows of each sampled size."""
    ends = np.cumsum([size.count for size in sizes]).tolist()
    return [slice(end - size.count, end) for size, end in zip(sizes, ends, strict=True)]


def _chunks(size: Size, n: int) -> list[tuple[int, int]]:
    rows = max(1, _ROWS // n)
    return [(start, min(start + rows, size.count)) for start in range(0, size.count, rows)]


def _summed(size: Size, values: Tensor, n: int) -> Tensor:
    """Return (n, W): the sum of values (N, W) over the subsequences that hold each element."""
    out = values.new_zeros((n, values.shape[1]))
    for start, stop in _chunks(size, n):
        out.addmm_(size.memberships(start, stop, n, values.dtype)[:-1], values[start:stop])
    return out


def _add(targets: Tensor, factors: Tensor, values: Tensor) -> None:
    """Add values (n, W), by a factor of each target (J,), to targets (J, n, W)."""
    for target, factor in zip(targets, factors, strict=True):
        target.addcmul_(factor.expand_as(values), values)
